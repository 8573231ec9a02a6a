"""Updates and passes: what each sees, sums and steps, and what a step reports."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from one_update import Run, scale
from torch import Tensor

from reid_core.contract.step import LossTerm, Pass, Schedule, Update
from reid_core.contract.views import StepView
from reid_core.errors import PluginError, ReidError
from reid_core.loop import step as step_module
from reid_core.loop.forward import UpdateReport
from reid_core.loop.metrics import StepMetrics
from reid_core.loop.step import train_step

OWN = Schedule(updates=(Update("ant/own", groups=("ant/scale",), passes=(Pass("ant/p"),)),))


def test_an_update_without_a_term_is_refused(reid_cache: Path) -> None:
    run = Run(reid_cache, lambda ctx, step: [], OWN)
    run.forward("main")
    with pytest.raises(PluginError, match=r"update 'ant/own' has no loss term"):
        run.forward("ant/own")


def test_an_update_sums_the_terms_that_match(reid_cache: Path) -> None:
    schedule = Schedule(
        updates=(
            Update("ant/own", groups=("ant/scale",), passes=(Pass("ant/p"),), terms=("ant/a*",)),
        ),
        main_without=("ant/a*", "core/*/triplet"),
    )
    wanted: dict[str, list[bool]] = {}

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        wanted[step.update] = [
            step.wants("ant/a1"),
            step.wants("ant/b"),
            step.wants("core/x/triplet"),
        ]
        return [LossTerm(name, scale(ctx)) for name in ("ant/a1", "ant/a2", "ant/b")]

    reports = Run(reid_cache, losses, schedule).step()
    assert set(reports["main"].terms) == {"ant/b", "core/global/ce"}
    assert set(reports["ant/own"].terms) == {"ant/a1", "ant/a2"}
    assert wanted == {"main": [False, True, False], "ant/own": [True, False, False]}


def test_gradients_do_not_cross_from_one_update_to_the_next(reid_cache: Path) -> None:
    seen: dict[str, list[str]] = {}

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        named = ctx.model.named_parameters()
        seen[step.update] = [name for name, p in named if p.grad is not None]
        return [LossTerm("ant/x", scale(ctx) * 2)] if step.update != "main" else []

    run = Run(reid_cache, losses, OWN)
    run.step()
    assert seen == {"main": [], "ant/own": []}
    assert run.assembly.ctx.progress.iteration == 1
    named = run.assembly.model.named_parameters()
    assert [name for name, p in named if p.grad is not None] == ["branches.ant/scale.weight"]


def test_an_update_leaves_the_groups_of_others_alone(reid_cache: Path) -> None:
    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        if step.update == "main":
            return []
        return [LossTerm("ant/x", step.passes["ant/p"].output("core/pooled").sum() * scale(ctx))]

    run = Run(reid_cache, losses, OWN)
    stepped: list[str] = []
    encoder = run.assembly.model.encoder
    original = run.assembly.parts.optimisers.step

    def spy(update: Update, epoch: int, factor: float) -> None:
        before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
        original(update, epoch, factor)
        if any(not torch.equal(p, before[n]) for n, p in encoder.named_parameters()):
            stepped.append(update.name)

    run.assembly.parts.optimisers.step = spy  # type: ignore[method-assign]
    run.step()
    assert stepped == ["main"]


def test_each_pass_shows_the_image_that_it_asks_for(reid_cache: Path) -> None:
    shown: dict[str, Tensor] = {}
    clean: list[Tensor] = []

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        shown.update({name: view.image for name, view in step.passes.items()})
        clean.append(step.main.batch.image)
        return []

    schedule = Schedule(
        passes=(Pass("ant/clean", image="clean"), Pass("ant/erased", image="erased"))
    )
    Run(reid_cache, losses, schedule, augment={"erasing": 1.0}).forward()
    assert torch.equal(shown["ant/clean"], clean[0])
    assert torch.equal(shown["main"], shown["ant/erased"])
    assert not torch.equal(shown["main"], clean[0])


def test_losses_loop_over_shared_passes_that_carry_what_they_need(reid_cache: Path) -> None:
    found: dict[str, list[str]] = {}

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        for name in ("core/pooled", "stream/map", "parts", "texture", "nothing"):
            found[name] = [view.name for view in step.passes_with(name)]
        with pytest.raises(PluginError, match=r"'main' has no output 'core/poled'.*'core/pooled'"):
            step.main.output("core/poled")
        return []

    schedule = Schedule(
        passes=(
            Pass("ant/open", shared=True, branches=("core/*",)),
            Pass("ant/closed", branches=("core/*",)),
        )
    )
    run = Run(reid_cache, losses, schedule, plugins_too=("stream", "head"))
    run.forward()
    assert found == {
        "core/pooled": ["main", "ant/open"],
        "stream/map": ["main"],
        "parts": ["main", "ant/open"],
        "texture": [],
        "nothing": [],
    }


def test_identity_is_supervised_on_shared_passes_only(reid_cache: Path) -> None:
    logits: dict[str, set[str]] = {}

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        logits.update({name: set(view.logits) for name, view in step.passes.items()})
        return []

    Run(reid_cache, losses, Schedule(passes=(Pass("ant/closed"),))).forward()
    assert logits == {"main": {"core/global"}, "ant/closed": set()}


def test_two_forwards_of_one_step_agree_bit_for_bit(reid_cache: Path) -> None:
    run = Run(reid_cache, lambda ctx, step: [], plugins_too=("head",))
    parts = run.assembly.parts
    batches = run.trainer.batches(run.streams)
    (main,) = parts.plan.updates

    def terms() -> dict[str, float]:
        return {name: value.item() for name, value in parts.forward(main, batches)[1].terms.items()}

    first = terms()
    assert "head/parts" in first, "the head's dropout is what could differ"
    assert terms() == first
    run.assembly.ctx.progress.iteration += 1
    assert terms()["head/parts"] != first["head/parts"]


def test_a_memory_is_updated_after_the_step_with_the_main_pass(reid_cache: Path) -> None:
    run = Run(reid_cache, lambda ctx, step: [LossTerm("ant/x", scale(ctx))], OWN)
    criterion = run.assembly.ctx.criterion("core/global")
    seen: list[tuple[int, bool, bool]] = []
    before = run.assembly.model.heads["core/global"].neck.weight.detach().clone()

    def update(embedded: Any, labels: Tensor) -> None:
        now = run.assembly.model.heads["core/global"].neck.weight
        seen.append((len(labels), embedded.unit.requires_grad, torch.equal(now, before)))

    criterion.update = update  # type: ignore[method-assign]
    run.step()
    assert seen == [(8, False, False)], "rows, graph, neck not yet stepped"


def test_a_loss_that_is_not_finite_is_named(reid_cache: Path) -> None:
    run = Run(reid_cache, lambda ctx, step: [LossTerm("ant/bad", scale(ctx) * torch.inf)])
    metrics = StepMetrics()
    metrics.add(run.step())
    with pytest.raises(ReidError, match=r"not finite \(loss/ant/bad, total/main\).*optim\.lr"):
        metrics.take()


def test_metrics_are_means_and_start_anew() -> None:
    def report(value: float) -> UpdateReport:
        return UpdateReport({"a/x": torch.tensor(value)}, {"a/x": 0.5}, torch.tensor(value / 2))

    metrics = StepMetrics()
    metrics.add({"main": report(1.0)})
    metrics.add({"main": report(3.0), "a/u": report(8.0)})
    assert metrics.take() == {
        "loss/a/x": 2.0,
        "loss/a/u:a/x": 8.0,
        "total/main": 1.0,
        "total/a/u": 4.0,
        "weight/a/x": 0.5,
        "weight/a/u:a/x": 0.5,
    }
    assert metrics.take() == {}
    assert metrics.seen == {"a/x"}


def test_the_step_reads_top_to_bottom_in_one_function() -> None:
    source = inspect.getsource(train_step)
    assert len(source.splitlines()) <= 60


def test_nothing_in_a_step_waits_for_the_device() -> None:
    from reid_core.contract import views
    from reid_core.loop import batchnorm, forward, optimisers, synthesis
    from reid_core.model import criteria, graph, losses

    modules = (step_module, forward, synthesis, batchnorm, views, graph, criteria, losses)
    for module in (*modules, optimisers):
        source = inspect.getsource(module)
        for call in (".item()", ".cpu()", ".tolist()", ".numpy()", ".nonzero("):
            assert call not in source, f"{module.__name__} calls {call}"
