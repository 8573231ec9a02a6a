"""Single updates of a tiny run, with the losses and the schedule of a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch
from reid_core.contract.plugin import Plugin
from reid_core.contract.step import LossTerm, Schedule
from reid_core.contract.views import StepView
from reid_core.loop.forward import UpdateReport
from reid_core.loop.step import train_step
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

Losses = Callable[[Any, StepView], list[LossTerm]]


def losing(losses: Losses, schedule: Schedule | None = None) -> type[Plugin]:
    """Return a plugin ``ant`` with a scalar branch ``ant/scale`` and the losses of a test."""

    class Ant(Plugin):
        @hookimpl
        def reid_auxiliary_branches(self) -> list[Branch]:
            return [Branch("ant/scale", nn.Linear(1, 1, bias=False), reads=())]

        @hookimpl
        def reid_schedule(self) -> Schedule:
            return schedule or Schedule()

        @hookimpl
        def reid_losses(self, ctx: Any, step: StepView) -> list[LossTerm]:
            return losses(ctx, step)

    return Ant


def scale(ctx: Any) -> Tensor:
    weight = ctx.module("ant/scale").weight
    assert isinstance(weight, Tensor)
    return weight.sum()


class Run:
    """A tiny run of which single steps are looked at."""

    def __init__(
        self, cache: Path, losses: Losses, schedule: Schedule | None = None, **sections: Any
    ) -> None:
        classes = {**PROBES, "ant": losing(losses, schedule)}
        plugins = ("ant", *sections.pop("plugins_too", ()))
        self.assembly = tiny_assembly(plugins, sections, cache=cache, classes=classes)
        self.trainer = Recorder(self.assembly)
        self.assembly.model.train()
        self.trainer.begin_epoch()
        self.streams = self.trainer.streams(4)

    def forward(self, update: str = "main") -> tuple[Tensor, UpdateReport]:
        parts = self.assembly.parts
        (declared,) = (u for u in parts.plan.updates if u.name == update)
        found: tuple[Tensor, UpdateReport] = parts.forward(
            declared, self.trainer.batches(self.streams)
        )
        return found

    def step(self) -> dict[str, UpdateReport]:
        return train_step(self.assembly.parts, self.trainer.batches(self.streams), 0.0)
