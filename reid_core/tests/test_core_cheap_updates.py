"""Updates that stand on another's forward, and that begin at an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from one_update import Run, scale

from reid_core import DeclarationError, LossTerm, Pass, PluginError, Schedule, Update
from reid_core.contract.views import StepView

AGAIN = Pass("ant/again", of="main", detached=True)
GROUPS = ("ant/scale",)


def losses(ctx: Any, step: StepView) -> list[LossTerm]:
    if step.update != "ant/learn":
        return []
    seen = step.passes["ant/again"].output("deployed")
    assert not seen.requires_grad
    return [LossTerm("ant/t", (scale(ctx) * seen).square().mean())]


def run(cache: Path, *updates: Update, **sections: Any) -> Run:
    return Run(cache, losses, Schedule(updates=updates), **sections)


def test_it_shows_what_main_computed_without_another_forward(reid_cache: Path) -> None:
    made = run(reid_cache, Update("ant/learn", GROUPS, passes=(AGAIN,)))
    model = made.assembly.model
    calls: list[int] = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reports = made.step()
    assert len(calls) == 1
    assert [update.name for update in made.assembly.parts.plan.updates] == ["main", "ant/learn"]
    vectors = reports["main"].embedded["core/global"].unit
    expected = (before["branches.ant/scale.weight"] * vectors).square().mean()
    torch.testing.assert_close(reports["ant/learn"].terms["ant/t"], expected.reshape(()))
    assert not model.state_dict()["branches.ant/scale.weight"].equal(
        before["branches.ant/scale.weight"]
    )


def test_an_update_begins_at_its_epoch_and_runs_only_with_its_base(reid_cache: Path) -> None:
    later = Update("ant/learn", GROUPS, passes=(AGAIN,), begin=1)
    plan = run(reid_cache, later).assembly.parts.plan
    names = [[update.name for update in plan.due(0, epoch)] for epoch in (0, 1)]
    assert names == [["main"], ["main", "ant/learn"]]
    other = Update("ant/other", passes=(Pass("ant/p"),), terms=("ant/*",), every=(2, 1))
    on_other = Update("ant/learn", GROUPS, passes=(Pass("ant/again", of="ant/p", detached=True),))
    plan = run(reid_cache, other, on_other).assembly.parts.plan
    assert [update.name for update in plan.due(0)] == ["main"]
    assert [update.name for update in plan.due(1)] == ["main", "ant/other", "ant/learn"]


@pytest.mark.parametrize("wrong", [{"of": "main"}, {"detached": True}])
def test_of_and_detached_belong_together(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="of and detached belong together"):
        Pass("ant/x", **wrong)


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (Update("ant/learn", passes=(Pass("ant/x", of="mian", detached=True),)), "mean 'main'"),
        (Update("ant/learn", passes=(AGAIN, Pass("ant/y"))), "so all of its passes do"),
        (Update("ant/learn", passes=(AGAIN,), at_start=True), "cannot be at_start"),
    ],
)
def test_what_cannot_stand_is_refused(update: Update, said: str, reid_cache: Path) -> None:
    with pytest.raises(PluginError, match=said):
        run(reid_cache, update)
