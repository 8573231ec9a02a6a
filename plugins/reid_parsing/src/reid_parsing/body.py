"""One light network for all that is told apart on a body: the plugin that trains it, its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from reid_core import NoEncoder
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Tap
from reid_core.contract.plugin import Need, Plugin, Settings
from reid_core.contract.step import MAIN, LossTerm
from reid_core.errors import CheckpointError, reason_of
from reid_core.loop.state import read_checkpoint
from reid_core.weights import description_of
from reid_parsing.inference import BodyParser
from reid_parsing.joints import average_over_ranks, found_in, joint_cross_entropy
from reid_parsing.lookup import label_set
from reid_parsing.losses import pixel_cross_entropy
from reid_parsing.networks.in_training import BodyInTraining
from reid_parsing.networks.light import LightParser

if TYPE_CHECKING:
    from torch import Tensor

    from reid_core.contract.context import RunContext
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.samples import Sample
    from reid_core.contract.views import StepView
    from reid_parsing.joints import JointArrays

BODY_CHANNELS: Mapping[str, tuple[int, int]] = {
    "parts": (0, 8),
    "garments": (8, 16),
    "keypoints": (16, 33),
}
"""First and last channel, the last excluded, of every field in the network's output."""

FORMAT = "reid-parsing body 1"
"""Names the format in the description beside the weights."""

_NETWORK = "branches.body/network.network."
_HEAD = "classifier."


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
        return NoEncoder()

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the network; it reads image and labels, because all are moved together."""
        settings, size = self.settings, ctx.config.data.size

        def build(known: Mapping[str, Tap]) -> Any:
            channels = max(last for _, last in BODY_CHANNELS.values())
            network = LightParser(channels)
            return BodyInTraining(network, size, settings.scale, settings.rotation)

        fields = tuple(BODY_CHANNELS)
        writes = tuple(self.own(name) for name in ("logits", *fields))
        return [Branch(self.own("network"), build, ("image", *fields), writes)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return cross-entropy over pixels for the maps, and over places for the joints."""
        if MAIN not in step.passes:
            return []
        view, terms = step.main, []
        logits = view.output(self.own("logits"))
        for field, (first, last) in BODY_CHANNELS.items():
            own, truth = logits[:, first:last], view.output(self.own(field))
            value = (
                pixel_cross_entropy(own, truth)
                if SHARED_FIELDS[field].classes
                else joint_cross_entropy(own, truth, ctx.config.data.size, average_over_ranks(ctx))
            )
            terms.append(LossTerm(self.own(f"{field}_loss"), value))
        return terms


@dataclass(frozen=True)
class BodyNetwork:
    """A trained body network.

    Args:
        network: in evaluation mode.
        size: height and width of its input.
    """

    network: LightParser
    size: tuple[int, int]

    def parser(self, field: str) -> BodyParser:
        """Return the parser of ``parts`` or ``garments``: the network with their channels alone."""
        return BodyParser("light", self.alone(field), label_set(field), self.size)

    def joints_in(
        self, ctx: RunContext, samples: Sequence[Sample], mirror: bool = True
    ) -> JointArrays:
        """Return the joints of samples, found while they are gone through; see `found_in`."""
        return found_in(ctx, self.alone("keypoints"), self.size, samples, mirror)

    def alone(self, field: str) -> LightParser:
        """Return the network with the channels of one field."""
        first, last = BODY_CHANNELS[field]
        network = LightParser(last - first)
        state = {
            name: value[first:last] if name.startswith(_HEAD) else value
            for name, value in self.network.state_dict().items()
        }
        network.load_state_dict(state)
        return network.eval()


def is_body(weights: Path) -> bool:
    """Return whether a file of weights holds a body network.

    Raises:
        CheckpointError: its description is damaged, or is another file's.
    """
    return description_of(weights).get("format") == FORMAT


def load_body(weights: Path) -> BodyNetwork:
    """Read a body network.

    Args:
        weights: ``.safetensors``, with its description beside it.

    Raises:
        CheckpointError: the file holds none, is damaged, or does not fit.
    """
    description = description_of(weights)
    if description.get("format") != FORMAT:
        raise CheckpointError(f"{weights} holds no body network ({FORMAT})")
    network = LightParser(max(last for _, last in BODY_CHANNELS.values()))
    try:
        network.load_state_dict(load_file(weights))
    except Exception as error:
        reason = reason_of(error, 160)
        raise CheckpointError(
            f"the weights in {weights} do not fit a body network: {reason}"
        ) from None
    height, width = description["size"]
    return BodyNetwork(network.eval(), (height, width))


def body_of(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and description of the body network that a run has trained.

    Args:
        run: its folder.

    Raises:
        CheckpointError: it is no finished run of the plugin `body`.
    """
    content = read_checkpoint(run / "checkpoint.pt")
    state = {
        name.removeprefix(_NETWORK): value
        for name, value in content["model"].items()
        if name.startswith(_NETWORK)
    }
    if not state:
        raise CheckpointError(f"{run} is no run of the plugin 'body'")
    data = content["config"]["data"]
    description = json.loads((run / "embedder.json").read_text("utf-8"))
    return state, {
        "format": FORMAT,
        "network": "light",
        "size": [data["height"], data["width"]],
        "channels": {field: list(ends) for field, ends in BODY_CHANNELS.items()},
        "learnt_from": description.get("learnt_from", {}),
    }
