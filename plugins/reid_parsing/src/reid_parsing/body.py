"""The plugin that trains one light network for all that is told apart on a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Tap
from reid_core.contract.plugin import Need, Plugin, Settings
from reid_core.contract.step import LossTerm

if TYPE_CHECKING:
    from reid_core.contract.context import RunContext
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.views import StepView

BODY_CHANNELS: Mapping[str, tuple[int, int]] = {
    "parts": (0, 8),
    "garments": (8, 16),
    "keypoints": (16, 33),
}
"""First and last channel, the last excluded, of every field in the network's output."""


class BodySettings(Settings):
    """Settings of `Body`: how its images are moved, see `warped`."""

    scale: tuple[float, float] = (0.7, 1.3)
    rotation: float = 15.0


class Body(Plugin):
    """Train a light parser that finds parts, garments and joints at once.

    It takes the encoder's place: there is nothing to embed.
    """

    Settings = BodySettings
    claims = ("backbone",)
    needs = tuple(Need(field) for field in BODY_CHANNELS)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Give the run an encoder without parameters."""
        from reid_core import NoEncoder

        return NoEncoder()

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the network; it reads image and labels, because all are moved together."""
        settings, size = self.settings, ctx.config.data.size

        def build(known: Mapping[str, Tap]) -> Any:
            from reid_parsing.networks.in_training import BodyInTraining
            from reid_parsing.networks.light import LightParser

            channels = max(last for _, last in BODY_CHANNELS.values())
            network = LightParser(channels)
            return BodyInTraining(network, size, settings.scale, settings.rotation)

        fields = tuple(BODY_CHANNELS)
        writes = tuple(self.own(name) for name in ("logits", *fields))
        return [Branch(self.own("network"), build, ("image", *fields), writes)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return cross-entropy over pixels for the maps, and over places for the joints."""
        from reid_parsing.joints import joint_cross_entropy
        from reid_parsing.losses import pixel_cross_entropy

        view, terms = step.main, []
        logits = view.output(self.own("logits"))
        for field, (first, last) in BODY_CHANNELS.items():
            own, truth = logits[:, first:last], view.output(self.own(field))
            value = (
                pixel_cross_entropy(own, truth)
                if SHARED_FIELDS[field].classes
                else joint_cross_entropy(own, truth, ctx.config.data.size)
            )
            terms.append(LossTerm(self.own(f"{field}_loss"), value))
        return terms
