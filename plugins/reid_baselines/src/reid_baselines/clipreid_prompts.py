"""The first stage of CLIP-ReID: words for every person, contrasted with images; nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reid_baselines.clipreid_text import RANDOM, FrozenEncoder, ImageProjection, Words, build_text
from reid_core import (
    CLASS_TOKEN,
    ENCODER_MAP,
    Branch,
    Embedding,
    GlobalPool,
    LossTerm,
    Need,
    Plugin,
    Settings,
    hookimpl,
    inner_products,
)

if TYPE_CHECKING:
    from torch import Tensor

    from reid_core import Encoder, RunContext, StepView, Tap


class PromptSettings(Settings):
    """What the words are, and what reads them."""

    words: Annotated[int, Field(ge=1)] = 4
    """Words learnt for every person (M)."""
    text: str = RANDOM
    """Text encoder: a model of open_clip (``ViT-B-16-quickgelu``), for which the extra ``clip`` of
    this distribution is needed; ``random`` knows no language, and is for trying out."""
    text_pretrained: str | Path | None = None
    """open_clip's name of the weights (``openai``), or a file of them; none is random weights."""


class Prompts(Plugin):
    """Learn the words; the only plugin of its stage."""

    Settings = PromptSettings
    takes_frames = True
    claims = ("backbone", "embedding")
    needs = (Need("identities"),)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Take the run's encoder as it is."""
        return FrozenEncoder(ctx.build_encoder())

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the words, the text encoder, and what brings images into the space of texts."""
        settings = self.settings
        tower, visual = build_text(settings.text, settings.text_pretrained)
        words = Words(ctx.num_identities, settings.words, tower.width)
        reads, branches = CLASS_TOKEN, list[Branch]()
        if CLASS_TOKEN not in taps:
            reads = self.own("pooled")
            branches.append(Branch(reads, GlobalPool("avg"), (ENCODER_MAP,), (reads,)))
        channels = taps[ENCODER_MAP].channels
        projection = ImageProjection(channels, tower.dim)
        if visual is not None and tuple(visual.shape) == (channels, tower.dim):
            projection.weight.data.copy_(visual.T)
        elif visual is not None:
            ctx.say(
                f"the projection of '{settings.text}' takes {visual.shape[0]} channels and the "
                f"encoder '{ctx.config.model.backbone}' has {channels}: it starts from random "
                "weights"
            )
        # A run has an embedding; that of this one is nobody's to supervise.
        image = Embedding(self.own("image"), self.own("v"), neck="none", supervision=None)
        return [
            *branches,
            Branch(self.own("words"), words, ()),
            Branch(self.own("text"), tower, (), frozen=True),
            Branch(
                self.own("projection"), projection, (reads,), (image.reads,), (image,), frozen=True
            ),
        ]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return both contrasts between the images of a batch and their texts."""
        batch = step.main.batch
        words: Any = ctx.module(self.own("words"))
        images = ctx.gather(step.main.embedding(self.own("image")).raw)
        texts = ctx.gather(ctx.module(self.own("text"))(words(batch.pid)))
        labels = ctx.gather(batch.pid)
        similarities = inner_products(images, texts)
        return [
            LossTerm(self.own("i2t"), supervised_contrast(similarities, labels)),
            LossTerm(self.own("t2i"), supervised_contrast(similarities.T, labels)),
        ]


def supervised_contrast(similarities: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows of minus the log share of its positives, each for itself.

    Of texts over images it is the paper's text-to-image contrast. With texts in the columns it is
    the image-to-text one, whose one positive stands there as often as the person is in the batch.

    Args:
        similarities: ``B B``, without temperature.
        labels: int64 ``B``, of rows and of columns.
    """
    positive = (labels[:, None] == labels[None, :]).float()
    shares = similarities.log_softmax(1)
    return -((shares * positive).sum(1) / positive.sum(1)).mean()
