"""The forward of an update: which terms are summed, in what order, with what weight and graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_core.engine import step as step_module
from reid_core.engine.declarations import LinearRamp, LossTerm, Pass, Schedule, Update
from reid_core.engine.forward import UpdateReport
from reid_core.engine.metrics import StepMetrics
from reid_core.engine.step import train_step
from reid_core.engine.views import StepView
from reid_core.errors import PluginError, ReidError
from reid_core.hookspecs import hookimpl
from reid_core.model.declarations import Branch, Embedding, Supervision
from reid_core.plugins.plugin import Plugin
from reid_core.testing.probes import PROBES
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


def test_terms_are_weighted_and_summed_in_name_order(reid_cache: Path) -> None:
    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        ones = scale(ctx) * 0 + 1
        return [LossTerm("ant/z", ones * 1e-7, 1.0), LossTerm("ant/b", ones * 3, 0.5)]

    loss, report = Run(reid_cache, losses).forward()
    assert list(report.terms) == ["ant/b", "ant/z", "core/global/ce", "core/global/triplet"]
    assert report.weights == {
        "ant/b": 0.5,
        "ant/z": 1.0,
        "core/global/ce": 1.0,
        "core/global/triplet": 1.0,
    }
    summands = [report.terms[name] * weight for name, weight in report.weights.items()]
    assert torch.equal(loss.detach(), torch.stack(summands).sum())
    assert torch.equal(report.total, loss.detach())


def test_a_report_has_no_graph(reid_cache: Path) -> None:
    _, report = Run(reid_cache, lambda ctx, step: []).forward()
    embedded = report.embedded["core/global"]
    tensors = [report.total, *report.terms.values(), embedded.raw, embedded.neck, embedded.unit]
    assert not any(tensor.requires_grad for tensor in tensors)
    assert report.labels is not None
    assert report.labels.shape == (8,)


def test_a_term_of_weight_zero_stays_out_of_the_graph(reid_cache: Path) -> None:
    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        return [LossTerm("ant/off", scale(ctx) * torch.nan, 0.0)]

    run = Run(reid_cache, losses)
    loss, report = run.forward()
    loss.backward()
    assert torch.isfinite(loss)
    assert report.terms["ant/off"].isnan()
    assert report.weights["ant/off"] == 0.0
    assert run.assembly.ctx.module("ant/scale").weight.grad is None


def test_a_step_of_which_every_term_has_weight_zero_changes_nothing(reid_cache: Path) -> None:
    weights = {"core/global/ce": 0.0, "core/global/triplet": 0.0, "ant/off": 0.0}
    run = Run(reid_cache, lambda ctx, step: [LossTerm("ant/off", scale(ctx))], loss_weights=weights)
    before = {n: p.detach().clone() for n, p in run.assembly.model.named_parameters()}
    report = run.step()["main"]
    assert report.total.item() == 0.0
    assert all(torch.equal(p, before[n]) for n, p in run.assembly.model.named_parameters())


def test_the_users_weight_replaces_the_plugins(reid_cache: Path) -> None:
    weights = {"ant/x": 4.0, "core/global/triplet": 0.25}
    run = Run(
        reid_cache, lambda ctx, step: [LossTerm("ant/x", scale(ctx), 0.5)], loss_weights=weights
    )
    _, report = run.forward()
    assert report.weights == {"ant/x": 4.0, "core/global/ce": 1.0, "core/global/triplet": 0.25}


def test_a_weight_of_a_term_that_nobody_has_is_refused_with_the_nearest(reid_cache: Path) -> None:
    run = Run(reid_cache, lambda ctx, step: [], loss_weights={"core/global/cee": 2.0})
    with pytest.raises(ReidError, match=r"'core/global/cee'.*did you mean 'core/global/ce'"):
        run.trainer.train_epoch()


def test_a_weight_may_follow_a_ramp(reid_cache: Path) -> None:
    ramp = LinearRamp(0.0, 1.0, begin=0, end=4)
    run = Run(reid_cache, lambda ctx, step: [LossTerm("ant/x", scale(ctx), ramp)])
    weights = [run.step()["main"].weights["ant/x"] for _ in range(4)]
    assert weights == [0.0, 0.25, 0.5, 0.75]


def test_the_weight_of_an_embedding_scales_its_identity_terms(reid_cache: Path) -> None:
    class Zebra(Plugin):
        claims = ("embedding",)

        @hookimpl
        def reid_auxiliary_branches(self) -> list[Branch]:
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            some = {"supervision": Supervision(triplet=None), "reads": "zebra/v"}
            embeddings = (
                Embedding("zebra/half", weight=0.5, **some),
                Embedding("zebra/ramp", weight=LinearRamp(2.0, 4.0, 0, 2), **some),
                Embedding("zebra/none", weight=0.0, **some),
                Embedding("zebra/free", reads="zebra/v", supervision=None),
            )
            return [Branch("zebra/pool", pool, writes=("zebra/v",), embeddings=embeddings)]

    assembly = tiny_assembly(("zebra",), cache=reid_cache, classes={"zebra": Zebra})
    trainer = Recorder(assembly)
    seen: list[dict[str, float]] = []
    trainer.metrics.add = lambda reports: seen.append(dict(reports["main"].weights))  # type: ignore[method-assign]
    trainer._check_weights = lambda: None  # type: ignore[method-assign]
    trainer._log = lambda *_: None  # type: ignore[method-assign]
    trainer.train_epoch()
    assert seen == [
        {"zebra/half/ce": 0.5, "zebra/none/ce": 0.0, "zebra/ramp/ce": 2.0},
        {"zebra/half/ce": 0.5, "zebra/none/ce": 0.0, "zebra/ramp/ce": 3.0},
    ]
    assert "zebra/free" not in assembly.model.criteria


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (lambda one: [LossTerm("gnu/x", one)], r"'ant': loss term 'gnu/x' is outside its own"),
        (lambda one: [LossTerm("x", one)], r"'ant': loss term 'x' is outside its own names"),
        (lambda one: [LossTerm("ant/x", one), LossTerm("ant/x", one)], r"'ant/x' is returned tw"),
        (lambda one: [LossTerm("ant/x", one.repeat(2))], r"'ant/x' has shape \(2,\).*a scalar"),
        (lambda one: [LossTerm("ant/x", 1.0)], r"'ant/x'.*(tensor|scalar)"),
        (lambda one: [one], r"'ant'.*LossTerm"),
    ],
    ids=["another's name", "no owner", "twice", "not a scalar", "not a tensor", "not a term"],
)
def test_a_term_that_breaks_the_contract_is_named(
    terms: Callable[[Tensor], list[Any]], message: str, reid_cache: Path
) -> None:
    run = Run(reid_cache, lambda ctx, step: terms(scale(ctx)))
    with pytest.raises(PluginError, match=message):
        run.forward()


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
    from reid_core.engine import batchnorm, forward, optimisers, synthesis, views
    from reid_core.model import criteria, graph, losses

    modules = (step_module, forward, synthesis, batchnorm, views, graph, criteria, losses)
    for module in (*modules, optimisers):
        source = inspect.getsource(module)
        for call in (".item()", ".cpu()", ".tolist()", ".numpy()", ".nonzero("):
            assert call not in source, f"{module.__name__} calls {call}"
