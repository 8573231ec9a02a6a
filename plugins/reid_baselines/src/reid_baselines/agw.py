"""AGW (Ye et al., TPAMI 2022): non-local attention, generalised mean, weighted triplets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field

from reid_baselines.agw_modules import NonLocalEncoder, weighted_triplet
from reid_core import ConflictError, LossTerm, Need, Plugin, Settings, hookimpl

if TYPE_CHECKING:
    from reid_core import Encoder, RunContext, StepView

Blocks = Annotated[int, Field(ge=0)]


class AgwSettings(Settings):
    """Settings of AGW; the defaults are those of the authors' code."""

    blocks: tuple[Blocks, Blocks, Blocks, Blocks] = (0, 2, 3, 0)
    """Non-local blocks behind the last so many blocks of each of a ResNet's stages; zeros leave
    the encoder alone, whichever it is."""
    channels: Annotated[int, Field(ge=1)] | None = 1
    """Channels within a non-local block; none takes half of the map's, as Wang et al. (2018)."""
    triplet_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Weight of the weighted regularised triplet loss."""


class Agw(Plugin):
    """Put non-local blocks into a ResNet, pool by a generalised mean, weigh all triplets."""

    Settings = AgwSettings
    takes_frames = True
    needs = (Need("identities"),)

    @property
    def claims(self) -> Sequence[str]:  # type: ignore[override]
        """The slot ``backbone``, where there are blocks."""
        return ("backbone",) if any(self.settings.blocks) else ()

    @property
    def defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The pooling; the weighted triplets take the place of the hardest ones; a ResNet."""
        found: dict[str, Any] = {"model.pooling": "gem"}
        if self.settings.triplet_weight:
            found["identity.triplet_weight"] = 0.0
        if self.claims:
            found["model.backbone"] = "resnet18"
        return found

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Put non-local blocks into the ResNet that ``model.backbone`` names."""
        model = ctx.config.model
        if ctx.providers.backbone(model.backbone) is not None:
            raise ConflictError(
                f"plugin '{self.name}' puts blocks into a ResNet of timm, and '{model.backbone}' "
                f"is an encoder of another plugin; choose --backbone resnet50, or do without with "
                f"-s {self.name}.blocks=[0,0,0,0]"
            )
        encoder = NonLocalEncoder(
            model.backbone,
            ctx.image_size,
            model.last_stride,
            model.pretrained,
            importer=model.importer,
            blocks=self.settings.blocks,
            channels=self.settings.channels,
        )
        if encoder.filled is not None:
            ctx.say(str(encoder.filled))
        return encoder

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the weighted regularised triplet loss."""
        weight = self.settings.triplet_weight
        if step.update != "main" or not weight or not step.main.batch.identities:
            return []

        batch = step.main.batch
        # A generated row may carry a mixture of identities: only real rows have distances to keep.
        rows = torch.arange(len(batch), device=batch.pid.device)
        labels = ctx.gather(torch.where(batch.origin == rows, batch.pid, -1))
        value = weighted_triplet(ctx.gather(step.main.output("deployed:raw")), labels)
        return [LossTerm(self.own("triplet"), value, weight)]
