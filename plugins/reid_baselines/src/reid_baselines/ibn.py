"""ResNets with instance normalisation (IBN-Net, Pan et al., ECCV 2018), as encoders by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reid_baselines.ibn_encoder import IbnEncoder
from reid_baselines.ibn_names import NAMES
from reid_baselines.named_encoders import offered
from reid_core import Plugin, hookimpl

if TYPE_CHECKING:
    from reid_core import EncoderProvider, RunContext

WHAT = {
    "a": "half of the first norm of every block in three stages",
    "b": "the stem's norm, and behind the first two stages",
}


class Ibn(Plugin):
    """Offer the encoders."""

    defaults: Mapping[str, Any] = {"model.backbone": "resnet50_ibn_a"}

    @hookimpl
    def reid_backbones(self) -> Sequence[EncoderProvider]:
        """Offer both kinds of every depth."""
        return [
            offered(
                name,
                _make,
                summary=f"{plain}, instance norms: {WHAT[kind]}",
                published="the authors' published file",
            )
            for name, (plain, kind) in NAMES.items()
        ]


def _make(name: str, ctx: RunContext) -> IbnEncoder:
    model = ctx.config.model
    return IbnEncoder(
        name, ctx.image_size, model.last_stride, model.pretrained, importer=model.importer
    )
