"""Optimisers: rates, ownership, moments keyed by names, clipping."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from reid_core.config import OptimSection
from reid_core.contract.step import Group, Optimiser, Pass, Schedule, Update
from reid_core.errors import CheckpointError
from reid_core.loop.optimisers import Optimisers, global_norm_clipper
from reid_core.loop.plan import StepPlan
from reid_core.runs.assembly.schedules import merge_schedules

SGD = OptimSection(name="sgd", lr=0.1, weight_decay=0, momentum=0)
ADAM = OptimSection(name="adam", lr=0.1, weight_decay=0)


def parameters(**shapes: tuple[int, ...]) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}


def made(
    schedule: Schedule | None = None,
    settings: OptimSection = SGD,
    found: dict[str, nn.Parameter] | None = None,
) -> tuple[Optimisers, StepPlan, dict[str, nn.Parameter]]:
    found = found or parameters(a=(2,), b=(3,), c=(2,))
    owned = [("ant", schedule)] if schedule else []
    plan = merge_schedules(owned, {name: (name,) for name in found}, ("main",))
    return Optimisers(plan, found, settings), plan, found


def set_gradients(found: dict[str, nn.Parameter], value: float = 1.0) -> None:
    for parameter in found.values():
        parameter.grad = torch.full_like(parameter, value)


def update(plan: StepPlan, name: str) -> Update:
    (one,) = (u for u in plan.updates if u.name == name)
    return one


def critic(**options: Any) -> Schedule:
    return Schedule(updates=(Update("ant/x", passes=(Pass("ant/p"),), **options),))


def test_a_step_moves_by_rate_times_gradient_times_factor() -> None:
    optimisers, plan, found = made()
    set_gradients(found, 2.0)
    optimisers.step(update(plan, "main"), 0, factor=0.5)
    assert all(torch.allclose(p, torch.full_like(p, 1 - 0.1 * 0.5 * 2)) for p in found.values())


def test_rates_multiply() -> None:
    schedule = Schedule(
        groups=(Group("ant/a", ("a",), lr_scale=10.0),),
        updates=(Update("ant/x", ("ant/a",), ("b",), (Pass("ant/p"),), lr_scale=0.5),),
    )
    optimisers, plan, _ = made(schedule)
    ours, main = update(plan, "ant/x"), update(plan, "main")
    rates = {g.name: optimisers.rate(g, ours, 0.2) for g, _ in optimisers.stepped(ours, 0)}
    assert rates == pytest.approx({"ant/a": 0.1 * 0.2 * 10 * 0.5, "b": 0.1 * 0.2 * 0.5})
    assert optimisers.rate(plan.groups["b"], main, 0.2) == pytest.approx(0.02)


def test_an_optimiser_of_its_own_may_ignore_the_schedule() -> None:
    still = Optimiser("adam", lr=0.3, follows_schedule=False)
    moving = Optimiser("adam", lr=0.3)
    schedule = Schedule(groups=(Group("ant/a", ("a",), still), Group("ant/b", ("b",), moving)))
    optimisers, plan, _ = made(schedule)
    main = update(plan, "main")
    assert optimisers.rate(plan.groups["ant/a"], main, 0.1) == pytest.approx(0.3)
    assert optimisers.rate(plan.groups["ant/b"], main, 0.1) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW"), ("amsgrad", "Adam")],
)
def test_settings_reach_torch(name: Any, kind: str) -> None:
    settings = OptimSection(
        name=name, lr=0.25, weight_decay=0.125, momentum=0.5, nesterov=True, betas=(0.5, 0.75)
    )
    optimisers, plan, _ = made(settings=settings)
    (group, optimiser), *_ = optimisers.stepped(update(plan, "main"), 0)
    assert type(optimiser).__name__ == kind
    options = optimiser.param_groups[0]
    assert (group.name, options["lr"], options["weight_decay"]) == ("a", 0.25, 0.125)
    if name == "sgd":
        assert (options["momentum"], options["nesterov"]) == (0.5, True)
    else:
        assert (options["betas"], options["amsgrad"]) == ((0.5, 0.75), name == "amsgrad")


def test_an_update_steps_only_its_groups_and_shares() -> None:
    optimisers, plan, found = made(critic(groups=("a",), shares=("b",)))
    set_gradients(found)
    optimisers.step(update(plan, "ant/x"), 0, 1.0)
    moved = {name for name, p in found.items() if not torch.equal(p, torch.ones_like(p))}
    assert moved == {"a", "b"}
    optimisers.step(update(plan, "main"), 0, 1.0)
    assert torch.equal(found["a"], torch.full((2,), 0.9)), "main stepped another's group"
    assert torch.allclose(found["b"], torch.full((3,), 0.8))


def test_a_group_frozen_until_an_epoch_waits() -> None:
    optimisers, plan, found = made(Schedule(groups=(Group("ant/a", ("a",), frozen_until=2),)))
    main = update(plan, "main")
    for epoch, waits in ((0, True), (1, True), (2, False)):
        set_gradients(found)
        before = found["a"].detach().clone()
        names = [name for name, p in found.items() if p in set(optimisers.parameters(main, epoch))]
        assert names == (["b", "c"] if waits else ["a", "b", "c"])
        optimisers.step(main, epoch, 1.0)
        assert torch.equal(found["a"], before) is waits


def test_a_shared_group_keeps_one_set_of_moments() -> None:
    optimisers, plan, found = made(critic(shares=("a",)), ADAM)
    for name in ("main", "ant/x"):
        set_gradients(found)
        optimisers.step(update(plan, name), 0, 1.0)
    assert set(optimisers.state_dict()) == {"a", "b", "c"}
    assert optimisers.state_dict()["a"]["a"]["step"] == 2
    assert optimisers.state_dict()["b"]["b"]["step"] == 1


def test_an_update_with_its_own_optimiser_keeps_its_own_moments() -> None:
    own = critic(shares=("a",), optimiser=Optimiser("adam", lr=0.5, betas=(0.0, 0.9)))
    optimisers, plan, found = made(own, ADAM)
    set_gradients(found, 1.0)
    optimisers.step(update(plan, "main"), 0, 1.0)
    set_gradients(found, -3.0)
    optimisers.step(update(plan, "ant/x"), 0, 1.0)
    state = optimisers.state_dict()
    assert set(state) == {"a", "a@ant/x", "b", "c"}
    assert torch.allclose(state["a"]["a"]["exp_avg"], torch.full((2,), 0.1))
    assert torch.allclose(state["a@ant/x"]["a"]["exp_avg"], torch.full((2,), -3.0))


def train(optimisers: Optimisers, plan: StepPlan, found: dict[str, nn.Parameter]) -> None:
    for step in range(3):
        for i, name in enumerate(sorted(found)):
            found[name].grad = torch.full_like(found[name], 0.1 * (step + i + 1))
        optimisers.step(update(plan, "main"), 0, 1.0)


def test_state_is_loaded_by_name_whatever_the_order() -> None:
    one, plan_one, found_one = made(settings=ADAM)
    train(one, plan_one, found_one)
    stored = copy.deepcopy(one.state_dict())
    reverse = {n: nn.Parameter(found_one[n].detach().clone()) for n in reversed(found_one)}
    two, plan_two, found_two = made(settings=ADAM, found=reverse)
    two.load_state_dict(stored)
    train(one, plan_one, found_one)
    train(two, plan_two, found_two)
    assert all(torch.equal(found_one[name], found_two[name]) for name in found_one)


def test_state_within_a_group_is_loaded_by_name() -> None:
    shapes = {"x": (2,), "y": (2,)}

    def grouped(names: tuple[str, ...]) -> tuple[Optimisers, StepPlan, dict[str, nn.Parameter]]:
        return made(Schedule(groups=(Group("ant/g", names),)), ADAM, parameters(**shapes))

    one, plan, found = grouped(("x", "y"))
    train(one, plan, found)
    two, _, _ = grouped(("y", "x"))
    two.load_state_dict(one.state_dict())
    for name in shapes:
        ours, theirs = (o.state_dict()["ant/g"][name]["exp_avg"] for o in (one, two))
        assert torch.equal(ours, theirs), f"'{name}' got the moments of another parameter"


def test_state_of_another_model_is_refused() -> None:
    one, plan, found = made(settings=ADAM)
    train(one, plan, found)
    stored = one.state_dict()
    other, _, _ = made(settings=ADAM, found=parameters(a=(2,), b=(5,), c=(2,)))
    with pytest.raises(CheckpointError, match=r"b \(exp_avg.*shape \(3,\), the parameter \(5,\)"):
        other.load_state_dict(stored)
    fewer, _, _ = made(settings=ADAM, found=parameters(a=(2,), b=(3,)))
    with pytest.raises(CheckpointError, match=r"other optimiser groups: c"):
        fewer.load_state_dict(stored)
    stranger = copy.deepcopy(stored)
    stranger["a"]["z"] = stranger["a"].pop("a")
    with pytest.raises(CheckpointError, match=r"group 'a' has no parameter 'z'"):
        one.load_state_dict(stranger)


def test_clearing_forgets_every_gradient() -> None:
    optimisers, _, found = made(critic(groups=("a",)))
    set_gradients(found)
    optimisers.clear()
    assert all(p.grad is None for p in found.values())


def test_clipping_bounds_the_norm_over_all_parameters() -> None:
    found = list(parameters(a=(2,), b=(2,)).values())
    for parameter in found:
        parameter.grad = torch.full((2,), 3.0)  # a norm of 6 over the four
    global_norm_clipper(None)(found)
    assert torch.equal(found[0].grad, torch.full((2,), 3.0))
    global_norm_clipper(1.0)(found)
    total = torch.cat([p.grad for p in found]).norm()
    assert total.item() == pytest.approx(1.0, abs=1e-4)
    global_norm_clipper(5.0)(found)
    assert torch.cat([p.grad for p in found]).norm().item() == pytest.approx(1.0, abs=1e-4)
