"""A plugin that teaches an encoder's map where a person's joints are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from reid_core import ENCODER_MAP, Branch, LossTerm, Need, Plugin, Settings, hookimpl
from reid_parsing.joints import JOINTS, average_over_ranks, joint_cross_entropy

if TYPE_CHECKING:
    from reid_core import RunContext, StepView, Tap


class JointsSettings(Settings):
    """Settings of `Joints`."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Weight of the loss."""
    stream: str = ENCODER_MAP
    """Map that the head sits on."""
    width: Annotated[int, Field(ge=1)] = 64
    """Channels of the head's hidden layer."""


class Joints(Plugin):
    """Find the 17 joints in a map, one heatmap each; nothing of it is deployed."""

    Settings = JointsSettings
    needs = (
        Need(
            "keypoints", "reid-parsing labels any data set: --plugins parsing,... and its weights"
        ),
    )

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add one head on the stream."""
        settings = self.settings

        def build(known: Mapping[str, Tap]) -> nn.Module:
            return nn.Sequential(
                nn.ConvTranspose2d(known[settings.stream].channels, settings.width, 4, 2, 1),
                nn.BatchNorm2d(settings.width),
                nn.ReLU(inplace=True),
                nn.Conv2d(settings.width, JOINTS, 1),
            )

        return [Branch(self.own("head"), build, (settings.stream,), (self.own("logits"),))]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the loss, averaged over the passes that know their joints."""
        name, logits = self.own("joints"), self.own("logits")
        if not step.wants(name):
            return []
        size, average = ctx.config.data.size, average_over_ranks(ctx)
        values = [
            joint_cross_entropy(view.output(logits), view.batch.fields["keypoints"], size, average)
            for view in step.passes_with("keypoints", logits)
        ]
        return [LossTerm(name, torch.stack(values).mean(), self.settings.weight)] if values else []
