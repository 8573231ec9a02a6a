"""Bag of tricks (Luo et al., CVPRW 2019): the core's baseline with six tricks, each a setting.

Five of them are the core's own; what it lacks, the centre loss, is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from torch import nn

from reid_core import (
    Branch,
    Group,
    LossTerm,
    Need,
    Optimiser,
    Plugin,
    Schedule,
    Settings,
    hookimpl,
)

if TYPE_CHECKING:
    from reid_core import RunContext, StepView, Tap

TRICKS = {
    "warm-up": ("schedule.warmup_epochs", 10.0, 0.0),
    "random erasing": ("augment.erasing", 0.5, 0.0),
    "label smoothing": ("identity.label_smoothing", 0.1, 0.0),
    "last stride 1": ("model.last_stride", 1, 2),
    "BNNeck": ("model.neck", "bn", "none"),
    "centre loss": ("bot.centre_weight", 5e-4, 0.0),
}
"""By trick, in the paper's order: the setting, its value in the paper, and the one without it."""


class BotSettings(Settings):
    """Settings of the bag of tricks; the other tricks are settings of the core, see `TRICKS`."""

    centre_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    """Weight of the centre loss; 0 leaves it out."""
    centre_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """Learning rate of the centres."""


class Bot(Plugin):
    """Smooth labels, erase, normalise behind the triplet loss, and pull features to centres."""

    Settings = BotSettings
    takes_frames = True
    # Warm-up and the last stride stand in every recipe already.
    defaults: Mapping[str, Any] = {
        "augment.erasing": 0.5,
        "identity.label_smoothing": 0.1,
        "model.neck": "bn",
    }

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """Identities that stay: each has a centre."""
        remedy = f"set -s {self.name}.centre_weight=0"
        fixed = (Need("fixed_identities", remedy),) if self.settings.centre_weight else ()
        return (Need("identities"), *fixed)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Keep a centre per identity, in the space of what is deployed before its necks."""
        if not self.settings.centre_weight:
            return []

        def build(known: Mapping[str, Tap]) -> nn.Module:
            # Drawn from the normal distribution, as by the authors.
            return nn.Embedding(ctx.num_identities, known["deployed:raw"].channels)

        return [Branch(self.own("centres"), build, reads=(), sizes=("deployed:raw",))]

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Let the centres follow at a rate of their own."""
        if not self.settings.centre_weight:
            return Schedule()
        sgd = Optimiser("sgd", self.settings.centre_lr, momentum=0.0, follows_schedule=False)
        return Schedule(groups=(Group(self.own("centres"), (self.own("centres"),), sgd),))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the centre loss: features go to the centres, and the centres to the features."""
        weight = self.settings.centre_weight
        if step.update != "main" or not weight:
            return []
        # Means are over the rows of somebody, which ranks need not have as many of.
        feature = ctx.gather(step.main.output("deployed:raw").float())
        labels = ctx.gather(step.main.batch.pid)
        known = (labels >= 0).float()
        centre = ctx.module(self.own("centres"))(labels.clamp(min=0))
        count = known.sum().clamp(min=1)
        pull = ((feature - centre.detach()).square().sum(1) * known).sum() / count
        move = ((feature.detach() - centre).square().sum(1) * known).sum() / count
        return [LossTerm(self.own("pull"), pull, weight), LossTerm(self.own("move"), move)]
