"""Updates whose gradient is taken where the step begins, before any other update has stepped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from one_update import Run, scale

from reid_core.contract.step import Group, LossTerm, Optimiser, Pass, Schedule, Update
from reid_core.contract.views import StepView

SGD = Optimiser("sgd", lr=1.0, momentum=0.0, follows_schedule=False)


def schedule(at_start: bool, own: Optimiser | None = None) -> Schedule:
    """The scalar is stepped by ``main`` and, once more, by ``ant/late``."""
    late = Update(
        "ant/late",
        shares=("ant/scale",),
        passes=(Pass("ant/again", branches=("core/*",)),),
        optimiser=own,
        at_start=at_start,
    )
    group = Group("ant/scale", ("ant/scale",), SGD)
    return Schedule(groups=(group,), updates=(late,), main_without=("ant/late",))


def losses(ctx: Any, step: StepView) -> list[LossTerm]:
    """The gradient of half the square is the scalar itself."""
    name = "ant/late" if step.update == "ant/late" else "ant/main"
    return [LossTerm(name, scale(ctx).square() / 2)]


@pytest.mark.parametrize(("at_start", "factor"), [(False, 0.25), (True, 0.0)])
@pytest.mark.parametrize("own", [None, SGD])
def test_gradients_are_those_of_the_weights_before_or_after_the_others(
    reid_cache: Path, at_start: bool, factor: float, own: Optimiser | None
) -> None:
    half = Optimiser("sgd", lr=0.5, momentum=0.0, follows_schedule=False)
    plan = schedule(at_start, None if own is None else half)
    plan = Schedule(
        (Group("ant/scale", ("ant/scale",), half),), plan.updates, (), plan.main_without
    )
    run = Run(reid_cache, losses, plan)
    before = float(scale(run.assembly.ctx).detach())
    reports = run.step()
    assert list(reports) == ["main", "ant/late"]
    # Each step takes half of its gradient: w - w/2, then minus half of what is left, or of w.
    assert float(scale(run.assembly.ctx).detach()) == pytest.approx(factor * before, abs=1e-7)


def weighted(weight: float) -> Any:
    """Return losses of which only the early one has a gradient, as large as a weight."""

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        late = step.update == "ant/late"
        value = scale(ctx) * (weight if late else 0.0)
        return [LossTerm("ant/late" if late else "ant/main", value)]

    return losses


def test_an_early_gradient_does_not_leak_into_main(reid_cache: Path) -> None:
    plain, early = (Run(reid_cache, weighted(weight), schedule(True)) for weight in (0.0, 3.0))
    for run in (plain, early):
        run.step()
    moved = [float(scale(run.assembly.ctx).detach()) for run in (plain, early)]
    assert moved[1] == pytest.approx(moved[0] - 3)
    for name, value in plain.assembly.model.encoder.state_dict().items():
        assert torch.equal(value, early.assembly.model.encoder.state_dict()[name]), name
