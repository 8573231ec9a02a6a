"""MGN (Wang et al. 2018; Huang et al. 2020, figure 8): three branches, eight vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field

from reid_baselines.mgn_encoder import MgnEncoder, Reduction
from reid_baselines.own_optimiser import like_the_runs
from reid_baselines.stripes import StripePool, check_stripes
from reid_core import (
    Branch,
    ConfigError,
    ConflictError,
    Embedding,
    LossTerm,
    Need,
    Pass,
    Plugin,
    Schedule,
    Settings,
    Supervision,
    Update,
    batch_hard_triplet,
    hookimpl,
)

if TYPE_CHECKING:
    from reid_core import Encoder, RunContext, StepView, Tap

CUTS = ((1,), (1, 2), (1, 3))
"""What each branch's map is cut into: itself, and no, two or three stripes."""

VECTORS = (("b1g",), ("b2g", "b2s1", "b2s2"), ("b3g", "b3s1", "b3s2", "b3s3"))
"""Names of the vectors by branch: ``g`` of the whole map, ``s1`` of its highest stripe."""

GLOBAL = tuple(names[0] for names in VECTORS)
COUNT = sum(len(names) for names in VECTORS)

SLOTS = ("backbone", "embedding")


class MgnSettings(Settings):
    """Settings of MGN; the defaults are those of Huang et al. (2020)."""

    dim: Annotated[int, Field(ge=1)] = 256
    """Length of each of the eight embeddings."""
    classified: Literal["pooled", "reduced"] = "pooled"
    """What the classifiers of the three whole maps read: the pooled vector, as in Wang et al., or
    the reduced one of length ``dim``, as in several later implementations."""
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """Margin of the triplet loss."""
    optimisation: Literal["alternate", "joint"] = "alternate"
    """``alternate``: even steps take cross-entropy and everything else, odd steps the triplet loss;
    ``joint``: every step takes the sum."""
    triplet_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """Factor on the learning rate of the triplet steps (``alternate``), or on the triplet loss
    (``joint``); ``joint`` with 1 is equation 7 to the letter."""
    also: tuple[str, ...] = ()
    """Plugins whose loss terms the triplet steps take, too; ``alternate`` alone has such steps."""
    unit_vectors: bool = True
    """Whether each vector is scaled to length one before they are concatenated."""


class Mgn(Plugin):
    """Describe a person at three granularities, each with a last stage of its own."""

    Settings = MgnSettings
    takes_frames = True
    claims = SLOTS
    # Three stripes do not divide the 8 rows that the quick recipe's 128 pixels leave at stride 16,
    # and what is split into branches is a ResNet.
    defaults: Mapping[str, Any] = {"data.height": 192, "model.backbone": "resnet18"}
    needs = (Need("identities"),)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Split the ResNet that ``model.backbone`` names into a stem and three branches."""
        model = ctx.config.model
        if ctx.providers.backbone(model.backbone) is not None:
            others = [f"'{name}'" for name in ctx.config.run.plugins if name != self.name]
            beside = f" (plugins beside it: {', '.join(others)})" if others else ""
            raise ConflictError(
                f"plugin '{self.name}' splits a ResNet of timm into branches, and "
                f"'{model.backbone}' is an encoder of another plugin{beside}; choose --backbone "
                f"resnet50, or leave '{self.name}' out"
            )
        encoder = MgnEncoder(
            model.backbone,
            ctx.image_size,
            model.last_stride,
            model.pretrained,
            importer=model.importer,
        )
        if encoder.filled is not None:
            ctx.say(str(encoder.filled))
        return encoder

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Pool the three maps, and embed the eight vectors."""
        if not self._present(ctx):
            return []

        branches = []
        for number, (cuts, names) in enumerate(zip(CUTS, VECTORS, strict=True), start=1):
            tap = taps[f"encoder/map_{number}"]
            check_stripes(self.name, tap, ctx.image_size[0], cuts, sum(CUTS, ()))
            embeddings = tuple(self._embedding(name, tap.channels) for name in names)
            writes = tuple(embedding.reads for embedding in embeddings)
            pool = StripePool("max", cuts)
            branches.append(
                Branch(self.own(f"pool{number}"), pool, (tap.name,), writes, embeddings)
            )
        return branches

    def _embedding(self, name: str, channels: int) -> Embedding:
        whole, dim = name in GLOBAL, self.settings.dim
        pooled = whole and self.settings.classified == "pooled"
        return Embedding(
            self.own(name),
            reads=self.own(f"pooled_{name}"),
            neck=Reduction(channels, dim) if whole else "fc_bn_relu",
            dim=dim,
            test_vector="unit" if self.settings.unit_vectors else "neck",
            weight=1 / COUNT,  # eq. 6: the mean over the eight heads
            supervision=Supervision(
                cross_entropy="raw" if pooled else "neck", triplet=None, classifier_bias=True
            ),
        )

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Alternate between ``main`` and an update for the triplet loss, where that is wanted."""
        also = self.settings.also
        if not self._present(ctx):
            return Schedule()
        if self.settings.optimisation == "joint":
            if also:
                raise ConfigError(
                    f"{self.name}.also names plugins for the triplet steps, but there are none: "
                    f"set -s {self.name}.optimisation=alternate"
                )
            return Schedule()
        for other in also:
            if other not in ctx.config.run.plugins or other == self.name:
                raise ConfigError(
                    f"{self.name}.also names '{other}', which is no other plugin of this run "
                    f"({', '.join(ctx.config.run.plugins)})"
                )
        theirs = tuple(f"{plugin}/*" for plugin in also)
        owners = {part.partition("/")[0] for part, names in params.items() if names}
        triplet = Update(
            self.own("triplet"),
            shares=(
                "encoder",
                self.own("b?g/neck"),
                *(f"{plugin}/*" for plugin in also if plugin in owners),
            ),
            # Nothing else runs in an odd step, so this pass is the one that moves batch norm.
            passes=(
                Pass(
                    self.own("anchors"),
                    bn="update",
                    branches=(self.own("*"), *theirs),
                    shared=bool(also),
                ),
            ),
            terms=(self.own("triplet"), *theirs),
            every=(2, 1),
            lr_scale=self.settings.triplet_scale,
            # Common momentum would carry its gradients into the even steps, at their rate: they
            # would count nine tenths of cross-entropy's, whatever the factor. Adam divides by the
            # size of past gradients, and with this loss's, the larger ones, cross-entropy's steps
            # would come to nothing.
            optimiser=like_the_runs(ctx.config),
        )
        return Schedule(updates=(triplet,), main_every=(2, 0), main_without=(self.own("triplet"),))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the triplet loss: batch-hard, the mean over the three whole maps (eq. 4, 5)."""
        name, settings = self.own("triplet"), self.settings
        ours = step.update in ("main", name)
        if not (self._present(ctx) and ours and step.wants(name)):
            return []

        view = next(iter(step.passes.values()))
        batch = view.batch
        # A generated row may carry a mixture of identities: only real rows have distances to keep.
        rows = torch.arange(len(batch), device=batch.pid.device)
        labels = ctx.gather(torch.where(batch.origin == rows, batch.pid, -1))
        values = [
            batch_hard_triplet(
                ctx.gather(view.embedding(self.own(g)).neck), labels, settings.margin
            )
            for g in GLOBAL
        ]
        weight = settings.triplet_scale if settings.optimisation == "joint" else 1.0
        return [LossTerm(name, torch.stack(values).mean(), weight)]

    def _present(self, ctx: RunContext) -> bool:
        """Return whether it fills both of its slots, or raise where it fills only one."""
        owned = [ctx.owns(self.name, slot) for slot in SLOTS]
        if any(owned) and not all(owned):
            lost = SLOTS[owned.index(False)]
            raise ConflictError(
                f"plugin '{self.name}' pools the three maps of its own encoder, but the slot "
                f"'{lost}' went to '{ctx.slots[lost]}'; add --own {lost}={self.name}, or leave "
                f"'{self.name}' out"
            )
        return all(owned)
