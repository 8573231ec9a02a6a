"""OSNet (Zhou et al., ICCV 2019) and OSNet-AIN in four widths, as encoders by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reid_baselines.named_encoders import offered
from reid_baselines.osnet_encoder import OsnetEncoder, OsnetFc
from reid_baselines.osnet_weights import load_encoder, load_fc
from reid_baselines.osnet_widths import AIN, ENCODERS
from reid_core import (
    ENCODER_MAP,
    Branch,
    ConfigError,
    Embedding,
    GlobalPool,
    Group,
    Plugin,
    Schedule,
    Settings,
    Supervision,
    hookimpl,
)

if TYPE_CHECKING:
    from reid_core import EncoderProvider, RunConfig, RunContext, Tap

FC_DIM = 512
"""Length of the embedding that the network brings, whatever its width."""


class OsnetSettings(Settings):
    """Settings of OSNet as a plugin; ``--backbone osnet_x1_0`` alone needs none of them."""

    fc: bool = False
    """Describe people by the network's own embedding (average pooling, FC-BN-ReLU to 512), which
    published weights contain, in place of the core's."""
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the encoder, and its own embedding with ``fc``, stay as they were loaded."""


class Osnet(Plugin):
    """Offer the encoders; on request the network's own embedding, and a frozen start."""

    Settings = OsnetSettings
    defaults: Mapping[str, Any] = {"model.backbone": "osnet_x1_0"}

    @property
    def claims(self) -> Sequence[str]:  # type: ignore[override]
        """The slot ``embedding`` with ``fc``."""
        return ("embedding",) if self.settings.fc else ()

    def check(self, config: RunConfig) -> None:
        """Refuse settings of OSNet beside another encoder."""
        if self.settings != OsnetSettings() and config.model.backbone not in ENCODERS:
            raise ConfigError(
                f"the settings of plugin '{self.name}' speak of OSNet, but model.backbone is "
                f"'{config.model.backbone}'; choose one of {', '.join(ENCODERS)}"
            )

    @hookimpl
    def reid_backbones(self) -> Sequence[EncoderProvider]:
        """Offer the four widths of OSNet and of OSNet-AIN."""
        return [
            offered(
                name,
                _make,
                summary=f"OSNet{'-AIN' if name in AIN else ''}, {channels[-1]} channels",
                published="torchreid's published file",
            )
            for name, channels in ENCODERS.items()
        ]

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Pool and embed as the network itself does."""
        if not self._embeds(ctx):
            return []

        model = ctx.config.model
        fc = OsnetFc(taps[ENCODER_MAP].channels, FC_DIM)
        if isinstance(model.pretrained, Path):
            load_fc(fc, model.backbone, model.pretrained, model.importer)
        embedding = Embedding(
            self.own("global"),
            reads=self.own("pooled"),
            neck=fc,
            dim=FC_DIM,
            supervision=Supervision(cross_entropy="neck", triplet=None, classifier_bias=True),
        )
        pool = GlobalPool("avg")
        return [Branch(self.own("pool"), pool, (ENCODER_MAP,), (embedding.reads,), (embedding,))]

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Keep what was loaded as it is for the first epochs."""
        epochs = self.settings.frozen_epochs
        if not epochs:
            return Schedule()
        loaded = {"encoder": 1.0}
        if self._embeds(ctx):
            # What the core does to all but the encoder, where it makes the groups.
            loaded[self.own("global/neck")] = ctx.config.optim.new_layers_scale
        groups = (
            Group(self.own(name.rpartition("/")[2]), (name,), lr_scale=scale, frozen_until=epochs)
            for name, scale in loaded.items()
        )
        return Schedule(groups=tuple(groups))

    def _embeds(self, ctx: RunContext) -> bool:
        return bool(self.settings.fc) and ctx.owns(self.name, "embedding")


def _make(name: str, ctx: RunContext) -> OsnetEncoder:
    model = ctx.config.model
    if model.last_stride == 2:
        raise ConfigError(
            f"'{name}' ends at stride 16 as it is and has no last stride to keep: leave "
            "model.last_stride at 'auto'"
        )
    encoder = OsnetEncoder(ENCODERS[name], ain=name in AIN)
    if isinstance(model.pretrained, Path):
        encoder.filled = load_encoder(encoder, name, model.pretrained, model.importer)
    return encoder
