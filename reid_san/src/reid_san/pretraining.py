"""SAN-PG: SAN without the re-identification losses, trained on pairs in a stage (section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from reid_core import (
    ENCODER_MAP,
    Branch,
    ConfigError,
    LossTerm,
    Need,
    PassView,
    Plugin,
    RunConfig,
    RunContext,
    Source,
    Stage,
    StepView,
    Tap,
    hookimpl,
)
from reid_core.config import AugmentSection, DataSection, ModelSection, OptimSection
from reid_san.decoder import BLOCKS, Decoder
from reid_san.guides import GUIDES, Guide, field_size, target
from reid_san.losses import reconstruction
from reid_san.names import DECODER, MAPS, PLUGIN, REGRESSED, SHALLOWER
from reid_san.regressing import mean_of
from reid_san.settings import DecoderSettings, SanSettings


class SanPg(Plugin):
    """Regress the guide on pairs; the only plugin of its stage."""

    Settings = DecoderSettings
    settings: DecoderSettings

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """What is regressed."""
        return (Need(GUIDES[self.settings.guide].field),)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the decoder."""
        return [decoder_branch(self.settings, ctx, taps, ctx.main)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the reconstruction loss alone."""
        return [LossTerm(self.own("rec"), reconstructed(GUIDES[self.settings.guide], step.main))]


def decoder_branch(
    settings: DecoderSettings, ctx: RunContext, taps: Mapping[str, Tap], source: Source
) -> Branch:
    """Return the branch of the decoder.

    Args:
        settings: what it is.
        ctx: the run.
        taps: the encoder's.
        source: whose textures decide on their size and their mean.

    Raises:
        ConfigError: skips, and the encoder has not the three maps that they read.
    """
    reads: tuple[str, ...] = (ENCODER_MAP,)
    if settings.skips == "unet":
        missing = [name for name in SHALLOWER if name not in taps]
        if missing:
            raise ConfigError(
                f"san.skips = 'unet' reads {', '.join(SHALLOWER)}, and the encoder "
                f"'{ctx.config.model.backbone}' has no {missing[0]}; set -s san.skips=none"
            )
        reads = (ENCODER_MAP, *SHALLOWER)
    guide = GUIDES[settings.guide]

    def build(known: Mapping[str, Tap]) -> nn.Module:
        size = size_of(guide, ctx, known[ENCODER_MAP], source)
        channels = [known[name].channels for name in reads]
        width = settings.width or max(64, min(512, channels[0] // 4))
        centre = None
        if settings.centred and guide.spec is not None:
            centre = mean_of(source, source.fields[guide.field], size)
        last = known[ENCODER_MAP].stride
        places = [math.ceil(side / last) for side in ctx.image_size]
        colours = (min(8, places[0]), min(4, places[1])) if settings.colour else None
        return Decoder(channels, width, size, settings.gain, centre, colours)

    return Branch(DECODER, build, reads, (REGRESSED, *MAPS))


def size_of(guide: Guide, ctx: RunContext, last: Tap, source: Source) -> tuple[int, int]:
    """Return height and width of what is regressed.

    A texture is as large as it is stored, and at most as high as the decoder's own output: at
    256 x 128 that is 256 x 256, an output of 256 x 128 stretched to twice its width. Everything
    else is as large as the image.

    Args:
        guide: which guide.
        ctx: the run.
        last: the encoder's last map.
        source: the one that decides how large textures are.
    """
    if not guide.stretched:
        return ctx.image_size
    highest = round(ctx.image_size[0] * 2**BLOCKS / last.stride)
    stored = field_size(source, guide.field)
    return min(stored[0], highest), min(stored[1], highest)


def reconstructed(guide: Guide, view: PassView, rows: int | None = None) -> Any:
    """Return L_Rec of a pass.

    Args:
        guide: what is regressed.
        view: the pass.
        rows: how many of its rows count, from the first on; None takes all.
    """
    found = view.output(REGRESSED)
    size = (found.shape[2], found.shape[3])
    return reconstruction(found[:rows], target(guide, view.batch, size)[:rows])


def pretraining_stage(
    settings: SanSettings, config: RunConfig, name: str, count: int, backbone: str | None = None
) -> Stage:
    """Return the stage that trains SAN-PG.

    Encoder, input size and precision are the run's. Of its data set and augmentation nothing
    matters, so that different runs share one SAN-PG: pairs are seen as they are.

    Args:
        settings: of SAN.
        config: of the run.
        name: the source of pairs, as after ``--data``.
        count: how many there are.
        backbone: its encoder, for a SAN-PG that makes textures alone; None takes the run's.
    """
    height, width = config.data.size
    data = DataSection(
        name=name,
        height=height,
        width=width,
        batch_size=min(settings.pg_batch, count),
        instances=1,
        sampler="random",
        threads=config.data.threads,
    )
    augment = AugmentSection(flip=0.0)
    model = ModelSection(
        backbone=backbone or config.model.backbone,
        pretrained=config.model.pretrained,
        importer=config.model.importer,
        last_stride=config.model.last_stride,
        neck="none",
    )
    optim = OptimSection(name="adam", lr=settings.pg_lr, betas=(0.5, 0.999), weight_decay=0.0)
    sections: dict[str, Mapping[str, Any]] = {
        "data": data.model_dump(mode="json"),
        "augment": augment.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "optim": optim.model_dump(mode="json"),
        "schedule": {
            "epochs": settings.pg_epochs,
            "iterations_per_epoch": settings.pg_iterations or None,
            "warmup_epochs": 0,
            "decay": settings.pg_decay,
            "per_iteration": True,
        },
        "plugins": {PLUGIN: settings.decoder.model_dump(mode="json")},
    }
    return Stage(
        f"{PLUGIN}/pg" if backbone is None else f"{PLUGIN}/pg_textures",
        plugins={PLUGIN: SanPg},
        settings=sections,
        data=name,
        identities=False,
    )
