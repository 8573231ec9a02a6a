"""The plugin: one branch, one loss term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field

from reid_core import (
    ENCODER_MAP,
    Branch,
    LossTerm,
    Plugin,
    RunContext,
    Settings,
    StepView,
    Tap,
    hookimpl,
)
from reid_example.heads import StripeHead
from reid_example.losses import stripe_loss


class ExampleSettings(Settings):
    """Settings: the run's section ``[plugins.example]``."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """Weight of the loss."""
    stripes: Annotated[int, Field(ge=2)] = 4
    """How many stripes are told apart."""


class Example(Plugin):
    """Tell for every cell of the encoder's map in which stripe of the image it lies."""

    Settings = ExampleSettings

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the head on the encoder's map."""
        head = StripeHead(taps[ENCODER_MAP].channels, self.settings.stripes)
        return [Branch(self.own("head"), head, reads=(ENCODER_MAP,), writes=(self.own("logits"),))]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the loss, averaged over all passes on which the head ran."""
        if not step.wants(self.own("stripe")):
            return []
        logits = self.own("logits")
        values = [stripe_loss(view.output(logits)) for view in step.passes_with(logits)]
        if not values:
            return []
        return [LossTerm(self.own("stripe"), torch.stack(values).mean(), self.settings.weight)]
