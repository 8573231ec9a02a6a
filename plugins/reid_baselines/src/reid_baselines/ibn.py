"""ResNets with instance normalisation (IBN-Net, Pan et al., ECCV 2018), as encoders by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from reid_baselines.ibn_encoder import IbnEncoder
from reid_baselines.ibn_names import NAMES
from reid_core import ConfigError, EncoderProvider, Plugin, hookimpl

if TYPE_CHECKING:
    from reid_core import Encoder, RunContext

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
            EncoderProvider(
                name,
                partial(_build, name),
                summary=f"{plain}, instance norms: {WHAT[kind]}",
            )
            for name, (plain, kind) in NAMES.items()
        ]


def _build(name: str, ctx: RunContext) -> Encoder:
    model = ctx.config.model
    if model.pretrained is True:
        raise ConfigError(
            f"pretrained weights of '{name}' are not fetched: get the authors' published file and "
            "give it with -s model.pretrained=FILE, or train from random weights with "
            "-s model.pretrained=false"
        )
    encoder = IbnEncoder(
        name, ctx.image_size, model.last_stride, model.pretrained, importer=model.importer
    )
    if encoder.filled is not None:
        ctx.say(str(encoder.filled))
    return encoder
