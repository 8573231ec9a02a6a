"""The plugin: one branch, one loss term, one field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reid_core import (
    ENCODER_MAP,
    Branch,
    ConfigError,
    LossTerm,
    Need,
    PassView,
    Plugin,
    RunContext,
    Settings,
    StepView,
    Tap,
    hookimpl,
)
from reid_parsing.lookup import GRANULARITIES
from reid_partaware.heads import HeadType, SharedHead, build_head
from reid_partaware.labels import Erased, Resizing, part_targets, without_erased
from reid_partaware.losses import class_balanced_cross_entropy


class PartawareSettings(Settings):
    """Settings of part-awareness learning; the defaults are the paper's."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """λ of equation 1."""
    head: HeadType = "c"
    """Type of the part-segmentation head (figure 2)."""
    granularity: Literal["foreground", "two", "four", "seven"] = "seven"
    """How many parts are told apart (section IV-F)."""
    stream: tuple[str, ...] = ()
    """Maps that the head sits on; empty takes the encoder's last map, or all of its last maps
    where it has several (`mgn`)."""
    norm: bool = True
    """Whether batch norm stands behind the head's hidden layers."""
    joint: bool = False
    """Whether several maps go through the head as one batch, with common statistics."""
    resizing: Resizing = "nearest-exact"
    """How labels are brought to the size of the prediction."""
    erased: Erased = "keep"
    """What becomes of the labels where random erasing has been."""


class Partaware(Plugin):
    """Part-awareness learning (Huang et al., TIP 2020): classify the parts of a person's map.

    The head is a pure function of a map and supervised by the field ``parts`` alone: it knows of no
    identities, poolings or optimisers, so it sits on any stream, and generated images that carry
    ``parts`` are supervised too.
    """

    Settings = PartawareSettings
    needs = (
        Need(
            "parts",
            "reid-parsing labels any data set: --plugins parsing,... --label parts=parsing",
        ),
    )
    takes_frames = True

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add one head on the stream's maps."""
        streams = self.streams(taps)
        settings = self.settings

        def build(known: Mapping[str, Tap]) -> nn.Module:
            channels = self._channels(streams, known)
            classes = len(set(GRANULARITIES[settings.granularity]))
            head = build_head(settings.head, channels, classes, settings.norm)
            return SharedHead(head, settings.joint)

        return [Branch(self.own("head"), build, streams, self._outputs(len(streams)))]

    def streams(self, taps: Mapping[str, Tap]) -> tuple[str, ...]:
        """Return the maps that the head sits on.

        Args:
            taps: the encoder's.
        """
        several = tuple(name for name in sorted(taps) if name.startswith(f"{ENCODER_MAP}_"))
        return self.settings.stream or several or (ENCODER_MAP,)

    def predicts(self, output: str) -> bool:
        """Return whether an output is one of the head's predictions."""
        name = self.own("logits")
        return output == name or output.startswith(f"{name}_")

    def _outputs(self, count: int) -> tuple[str, ...]:
        if count == 1:
            return (self.own("logits"),)
        return tuple(self.own(f"logits_{number}") for number in range(1, count + 1))

    def _channels(self, streams: tuple[str, ...], known: Mapping[str, Tap]) -> int:
        for name in streams:
            if name not in known or not known[name].stride:
                raise ConfigError(
                    f"partaware.stream: '{name}' is no feature map; a part head needs one of "
                    f"B x C x H x W"
                )
        channels = {name: known[name].channels for name in streams}
        if len(set(channels.values())) > 1:
            raise ConfigError(
                f"partaware.stream: one head cannot sit on maps of different channels ({channels})"
            )
        return channels[streams[0]]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the class-balanced loss over all images, averaged over the maps (equation 9)."""
        if not step.wants(self.own("parts")):
            return []
        # The images of all passes are one batch: a second pass takes no weight from the first.
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for view in step.passes_with("parts"):
            for output in filter(self.predicts, sorted(view.feats)):
                found.setdefault(output, []).append(self._labelled(view, output))
        if not found:
            return []
        values = []
        for pairs in found.values():
            logits, labels = map(torch.cat, zip(*pairs, strict=True))
            values.append(class_balanced_cross_entropy(logits, labels, _over_ranks(ctx)))
        return [LossTerm(self.own("parts"), torch.stack(values).mean(), self.settings.weight)]

    def _labelled(self, view: PassView, output: str) -> tuple[Tensor, Tensor]:
        """Return the logits of a pass and what they should say."""
        settings, logits = self.settings, view.output(output)
        table = torch.tensor(GRANULARITIES[settings.granularity])
        size = (logits.shape[2], logits.shape[3])
        labels = part_targets(view.batch.fields["parts"], size, table, settings.resizing)
        return logits, without_erased(labels, view.batch.image, view.image, settings.erased)


def _over_ranks(ctx: RunContext) -> Callable[[Tensor], Tensor] | None:
    if ctx.world_size == 1:
        return None
    return lambda values: ctx.gather(values[None]).sum(0)
