"""The forward of an update: which terms are summed, with what weight and what graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from one_update import Run, scale
from torch import Tensor

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Embedding, Supervision
from reid_core.contract.plugin import Plugin
from reid_core.contract.step import LinearRamp, LossTerm
from reid_core.contract.views import StepView
from reid_core.errors import PluginError, ReidError
from reid_core.model.blocks import GlobalPool
from reid_core.testing.tiny import Recorder, first_forward, tiny_assembly


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


def test_the_users_weight_replaces_the_identity_sections(reid_cache: Path) -> None:
    ruled = {"core/global/triplet": 1.0}
    given: Any = ({}, {"identity": {"triplet_weight": 0.5}, "loss_weights": ruled})
    (plain, said), (total, report) = (
        first_forward(tiny_assembly((), sections, cache=reid_cache)) for sections in given
    )
    assert report.weights == said.weights == {"core/global/ce": 1.0, "core/global/triplet": 1.0}
    assert report.terms == said.terms
    assert total == plain


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
            pool = GlobalPool("avg")
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
