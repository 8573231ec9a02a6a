"""TransReID (He et al., ICCV 2021): a transformer that knows the camera; a jigsaw of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field
from torch import nn

from reid_baselines.transreid_encoder import TransreidEncoder, grid_of, local_names
from reid_core import (
    CLASS_TOKEN,
    Branch,
    ConflictError,
    DataError,
    Embedding,
    Group,
    Need,
    Plugin,
    Schedule,
    Settings,
    TimmEncoder,
    hookimpl,
)

if TYPE_CHECKING:
    from reid_core import Encoder, RunContext, Tap

SLOTS = ("backbone", "embedding")


class TransreidSettings(Settings):
    """Settings of TransReID; the defaults are those of its person data sets (TransReID*)."""

    stride: Annotated[int, Field(ge=1)] | None = 12
    """Pixels from one patch to the next: less than a patch lets them overlap; none is a patch."""
    camera: bool = True
    """Whether the encoder reads the camera."""
    view: str | None = None
    """A field that holds the viewpoint as a number from 0 on, which the encoder reads, too."""
    side_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3.0
    """Factor on the embedding of camera and viewpoint (lambda)."""
    jigsaw: bool = True
    """Whether there is the jigsaw patch module."""
    groups: Annotated[int, Field(ge=1)] = 4
    """Groups of patches, each with a vector of its own (k)."""
    shift: Annotated[int, Field(ge=0)] = 4
    """Patches that move from the beginning to the end before the shuffle (m)."""
    shuffle: Annotated[int, Field(ge=1)] = 2
    """Parts of the sequence whose patches are dealt out in turn; 1 leaves their order alone."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of rows for which the last block is skipped in training; earlier ones less often."""
    bias_lr_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """Factor on the learning rate of the encoder's biases."""


class Transreid(Plugin):
    """Describe a person by a transformer's class token and by those of groups of patches."""

    Settings = TransreidSettings
    claims = SLOTS
    defaults: Mapping[str, Any] = {"model.backbone": "vit_tiny_patch16_224"}

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """Identities, and the viewpoint where it is read."""
        view = self.settings.view
        return (Need("identities"), *([Need(view)] if view else ()))

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Take the transformer that ``model.backbone`` names, with overlapping patches."""
        settings = self.settings
        jigsaw = settings.jigsaw and ctx.owns(self.name, "embedding")
        encoder = ctx.build_encoder()
        grid, patch = grid_of(encoder, ctx.config.model.backbone, ctx.image_size, settings.stride)
        if settings.stride not in (None, patch):
            # Built for as many patches side by side: weights get their positions resampled once.
            encoder = ctx.build_encoder((grid[0] * patch, grid[1] * patch))
        views = self._count(ctx, settings.view) if settings.view else 1
        cameras = 1 + max(sample.camid for sample in ctx.main.samples) if settings.camera else 1
        return TransreidEncoder(
            cast("TimmEncoder", encoder),  # `grid_of` has refused others
            ctx.image_size,
            settings.stride or patch,
            reads=(*(["camid"] if settings.camera else []), *filter(None, [settings.view])),
            counts=(*([cameras] if settings.camera else []), *([views] if settings.view else [])),
            side_scale=settings.side_scale,
            groups=settings.groups if jigsaw else 0,
            shift=settings.shift,
            shuffle=settings.shuffle,
            drop_path=settings.drop_path,
        )

    def _count(self, ctx: RunContext, view: str) -> int:
        values = [sample.fields[view] for sample in ctx.main.samples]
        if any(not isinstance(value, int) or value < 0 for value in values):
            raise DataError(
                f"{self.name}.view = '{view}' is a field of other values than numbers from 0 on; "
                f"name one of viewpoints, or set -s {self.name}.view=none"
            )
        return 1 + max(int(value) for value in values)  # type: ignore[arg-type]

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Embed the class token of the image, and that of each group of patches."""
        if not ctx.owns(self.name, "embedding"):
            return []
        if not ctx.owns(self.name, "backbone"):
            raise ConflictError(
                f"plugin '{self.name}' embeds the tokens of its own encoder, but the slot "
                f"'backbone' went to '{ctx.slots['backbone']}'; add --own backbone={self.name}, or "
                f"leave '{self.name}' out"
            )
        local = local_names(self.settings.groups) if self.settings.jigsaw else ()
        # A loss of the whole, and the mean of the groups'; the published code halves both.
        whole = 0.5 if local else 1.0
        embeddings = [
            Embedding(self.own("global"), CLASS_TOKEN, test_vector="raw", weight=whole),
            *(
                Embedding(
                    self.own(name.rpartition("/")[2]),
                    reads=name,
                    test_vector="raw",
                    test_weight=1 / len(local),
                    weight=whole / len(local),
                )
                for name in local
            ),
        ]
        # The encoder has done it all: nothing is to be run before the necks.
        return [Branch(self.own("tokens"), nn.Identity(), (), (), tuple(embeddings))]

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Let biases learn faster."""
        if self.settings.bias_lr_scale == 1 or not ctx.owns(self.name, "backbone"):
            return Schedule()
        biases = tuple(name for name in params["encoder"] if name.endswith("bias"))
        group = Group(self.own("biases"), biases, lr_scale=self.settings.bias_lr_scale)
        return Schedule(groups=(group,))
