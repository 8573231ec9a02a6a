"""CLIP-ReID (Li et al., AAAI 2023): words learnt for every person, then the images by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field

from reid_baselines.clipreid_prompts import Prompts, PromptSettings
from reid_baselines.clipreid_text import Texts, all_texts, projection_like
from reid_core import (
    CLASS_TOKEN,
    ENCODER_MAP,
    Branch,
    Embedding,
    GlobalPool,
    Group,
    LossTerm,
    Need,
    Plugin,
    RunConfig,
    Schedule,
    Stage,
    Supervision,
    hookimpl,
    identity_cross_entropy,
    inner_products,
)

if TYPE_CHECKING:
    from reid_core import RunContext, StepView, Tap


class ClipreidSettings(PromptSettings):
    """Settings of CLIP-ReID; the defaults are the published ones, but for the text encoder."""

    prompt_epochs: Annotated[int, Field(ge=1)] = 120
    """Length of the first stage, which learns the words."""
    prompt_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.5e-4
    """Learning rate of the words."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Factor on the cross-entropy over the texts of all people."""
    bias_lr_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """Factor on the learning rate of the encoder's biases."""


class Clipreid(Plugin):
    """Learn words for every person with CLIP as it is, then fit the image encoder to the texts."""

    Settings = ClipreidSettings
    takes_frames = True
    claims = ("embedding",)
    needs = (Need("identities"), Need("fixed_identities"))

    def prompts(self) -> Stage:
        """Return the first stage: learnt words, everything else frozen."""
        settings = self.settings
        epochs = settings.prompt_epochs
        words = settings.model_dump(include=set(PromptSettings.model_fields))
        plain = {"flip": 0.0, "pad": 0, "enlarge": 1.0, "partial": 0.0, "erasing": 0.0}
        colours = dict.fromkeys(
            ("brightness", "contrast", "saturation", "hue", "grayscale", "blur"), 0.0
        )
        # All of the section: what a stage leaves out is the run's.
        optim = RunConfig().optim.model_dump(mode="json")
        optim |= {"name": "adam", "lr": settings.prompt_lr, "weight_decay": 1e-4}
        return Stage(
            self.own("prompts"),
            plugins={"prompts": Prompts},
            settings={
                "data": {"sampler": "random"},
                "augment": {**plain, **colours},
                "optim": optim,
                "schedule": {
                    "epochs": epochs,
                    "warmup_epochs": min(5, epochs // 2),
                    "warmup_start": 0.03,
                    "decay": "cosine",
                    "floor": 0.003,
                },
                "plugins": {"prompts": words},
            },
        )

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Embed what the encoder sums up, its projection into the space of texts, and a layer."""
        if not ctx.owns(self.name, "embedding"):
            return []
        found = ctx.stage(self.prompts())
        branches = [
            Branch(self.own("texts"), Texts(all_texts(found)), (), frozen=True),
        ]

        def summed_up(stage: str) -> str:
            token = CLASS_TOKEN if stage == ENCODER_MAP else f"{stage}_class"
            if token in taps:
                return token
            pooled = self.own("pooled" if stage == ENCODER_MAP else "pooled_before")
            branches.append(Branch(pooled, GlobalPool("avg"), (stage,), (pooled,)))
            return pooled

        whole = summed_up(ENCODER_MAP)
        projected = self.own("projected")
        embeddings = [
            Embedding(self.own("image"), whole, test_vector="raw"),
            Embedding(projected, projected, test_vector="raw"),
        ]
        stages = [name for name in taps if re.fullmatch(r"encoder/stage\d+", name)]
        if len(stages) > 1:
            # The layer before the last one has a triplet loss, and is not compared at test.
            triplet = Supervision(cross_entropy=None, triplet="raw")
            name, before = self.own("before"), summed_up(stages[-2])
            embeddings.append(
                Embedding(name, before, neck="none", at_test=False, supervision=triplet)
            )
        name, projection = self.own("projection"), projection_like(found)
        branches.append(Branch(name, projection, (whole,), (projected,), tuple(embeddings)))
        return branches

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Let the encoder's biases learn faster."""
        scale = self.settings.bias_lr_scale
        # An encoder of another plugin is that plugin's to group.
        if scale == 1 or not ctx.owns("core", "backbone"):
            return Schedule()
        biases = tuple(name for name in params["encoder"] if name.endswith("bias"))
        return Schedule(groups=(Group(self.own("biases"), biases, lr_scale=scale),))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the cross-entropy of images over the texts of all people."""
        name, projected = self.own("i2t"), self.own("projected")
        if not (ctx.owns(self.name, "embedding") and step.wants(name)):
            return []
        views = [v for v in step.passes_with(projected) if v.batch.identities]
        if not views:
            return []
        texts: Any = ctx.module(self.own("texts"))
        values = [
            identity_cross_entropy(
                inner_products(ctx.gather(view.embedding(projected).raw), texts.vectors),
                ctx.gather(view.batch.pid),
                ctx.config.identity.label_smoothing,
            )
            for view in views
        ]
        return [LossTerm(name, torch.stack(values).mean(), self.settings.weight)]
