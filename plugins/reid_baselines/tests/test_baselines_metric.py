"""The adapter to pytorch-metric-learning: a loss by hand, all of them, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whole_models import Run

pytest.importorskip("pytorch_metric_learning", reason="the extra `metric` brings it")

from reid_baselines.metric_criterion import (
    MetricCriterion,
    check_settings,
    known_losses,
    known_miners,
)
from reid_baselines.metric_settings import MetricSettings
from reid_core import ConfigError, Embedded, Embedding, PluginError
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly

SETTINGS: dict[str, Any] = {
    "plugins": {
        "metric": {
            "loss": "MultiSimilarityLoss",
            "miner": "MultiSimilarityMiner",
            "cross_entropy": False,
        }
    }
}

# The library turns masks into indices: of the rows with an identity (ours), pairs of the miner and
# of the loss.
test_conforms = conformance_suite("metric", SETTINGS, waits=20)

EMBEDDING = Embedding("core/global", reads="core/pooled")


def criterion(**settings: Any) -> MetricCriterion:
    torch.manual_seed(0)
    return MetricCriterion(EMBEDDING, 6, 4, MetricSettings(**settings))


def embedded(rows: int = 8) -> Embedded:
    raw = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0))
    return Embedded(raw, 2 * raw, torch.nn.functional.normalize(raw, dim=1))


LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def circle(vectors: Tensor, labels: list[int], m: float, gamma: float) -> float:
    """Return the circle loss over pairs (Sun et al., CVPR 2020), anchor by anchor."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    values = []
    for anchor, label in enumerate(labels):
        up, down = [], []
        for row, theirs in enumerate(labels):
            if row == anchor:
                continue
            s = float(unit[anchor] @ unit[row])
            if theirs == label:
                up.append(-gamma * max(0, 1 + m - s) * (s - (1 - m)))
            else:
                down.append(gamma * max(0, s + m) * (s - m))
        exponent = math.log(sum(map(math.exp, up))) + math.log(sum(map(math.exp, down)))
        values.append(math.log1p(math.exp(exponent)))
    return sum(values) / len(values)


def test_the_circle_loss_is_the_paper_s() -> None:
    made = criterion(loss="CircleLoss", loss_kwargs={"m": 0.25, "gamma": 8})
    found = made(embedded(), LABELS)
    expected = circle(embedded().neck, LABELS.tolist(), 0.25, 8)
    assert found.terms["metric"].item() == pytest.approx(expected, rel=1e-4)
    assert found.logits is None
    with pytest.raises(PluginError, match=r"CircleLoss compares pairs.*cross_entropy=true"):
        made.logits(embedded())


def test_rows_without_an_identity_do_not_count() -> None:
    made = criterion(loss="TripletMarginLoss", miner="BatchHardMiner", vector="unit", weight=2.0)
    whole = made(embedded(), LABELS).terms["metric"]
    more = embedded(10)
    labels = torch.cat([LABELS, torch.tensor([-1, 3])])
    soft = torch.zeros(10, 4)
    soft[9, :2] = 0.5
    rows = Embedded(*(torch.cat([a, b[8:]]) for a, b in
                      ((embedded().raw, more.raw), (embedded().neck, more.neck),
                       (embedded().unit, more.unit))))  # fmt: skip
    assert made(rows, labels, soft).terms["metric"].item() == pytest.approx(whole.item())
    single = criterion(loss="TripletMarginLoss", miner="BatchHardMiner", vector="unit")
    assert single(embedded(), LABELS).terms["metric"].item() == pytest.approx(whole.item())
    assert [one(embedded(), LABELS).weights for one in (single, made)] == [
        {"metric": 1.0},
        {"metric": 2.0},
    ]


NEEDED: dict[str, dict[str, Any]] = {
    "RankedListLoss": {"margin": 0.4, "Tn": 1.0},
    "HistogramLoss": {"n_bins": 10},
}


# The library's histogram indexes in a way that torch deprecates.
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("name", list(known_losses()))
def test_every_loss_of_the_library_is_one_of_ours(name: str) -> None:
    kwargs = NEEDED.get(name, {})
    settings = MetricSettings(loss=name, loss_kwargs=kwargs)
    check_settings("metric", settings)
    made = criterion(loss=name, loss_kwargs=kwargs)
    given = embedded()
    given.neck.requires_grad_()
    value = made(given, LABELS).terms["metric"]
    assert value.dim() == 0
    assert value.isfinite()
    value.backward()
    assert given.neck.grad is not None


@pytest.mark.parametrize("name", list(known_miners()))
def test_every_miner_of_the_library_is_one_of_ours(name: str) -> None:
    if name == "EmbeddingsAlreadyPackagedAsTriplets":
        pytest.skip("its rows come in triplets")
    made = criterion(loss="TripletMarginLoss", miner=name)
    assert made(embedded(), LABELS).terms["metric"].isfinite()


def test_a_loss_that_classifies_has_logits_and_needs_identities_that_stay() -> None:
    made = criterion(loss="ArcFaceLoss", loss_kwargs={"margin": 20, "scale": 8})
    found = made(embedded(), LABELS)
    assert found.logits is not None
    assert found.logits.shape == (8, 4)
    assert {name for name, _ in made.named_parameters()} == {"loss.W"}
    plugin = resolve(plugins_of("ArcFaceLoss")).plugins["metric"]
    assert [need.what for need in plugin.needs] == ["identities", "fixed_identities"]
    plugin = resolve(plugins_of("CircleLoss", cross_entropy=False)).plugins["metric"]
    assert [need.what for need in plugin.needs] == ["identities"]


def plugins_of(loss: str, **more: Any) -> dict[str, Any]:
    return {"run": {"plugins": ["metric"]}, "plugins": {"metric": {"loss": loss, **more}}}


def test_cross_entropy_stands_beside_what_does_not_classify(reid_cache: Path) -> None:
    run = Run(reid_cache, ("metric",))
    assert set(run.step()["main"].terms) == {"core/global/ce", "core/global/metric"}
    plain = Run(reid_cache, ("metric",), {"plugins": {"metric": {"loss": "ArcFaceLoss"}}})
    assert set(plain.step()["main"].terms) == {"core/global/metric"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "CircelLoss"}, r"metric\.loss = 'CircelLoss'.*did you mean 'CircleLoss'"),
        ({"loss": "VICRegLoss"}, r"has no such loss"),
        ({"loss_kwargs": {"gama": 1}}, r"metric\.loss_kwargs\.gama: CircleLoss has no such argume"
         r"nt.*did you mean 'gamma'"),
        ({"loss_kwargs": {"gamma": "much"}}, r"gamma = 'much': CircleLoss takes a number \(80\)"),
        ({"loss_kwargs": {"distance": "LpDistanc"}}, r"no such class.*did you mean 'LpDistance'"),
        ({"loss": "ArcFaceLoss", "loss_kwargs": {"num_classes": 4}}, r"the run fills it in"),
        ({"loss": "RankedListLoss"}, r"RankedListLoss cannot do without margin, Tn"),
        ({"loss": "TripletMarginLoss", "loss_kwargs": {"swap": 1}}, r"takes true or false"),
        ({"miner": "BatchHardMine"}, r"did you mean 'BatchHardMiner'"),
        ({"miner": "TripletMarginMiner", "miner_kwargs": {"type_of_triplets": "nonsense"}},
         r"type_of_triplets = 'nonsense': TripletMarginMiner takes one of: all, easy, semihard"),
        ({"loss": "TripletMarginLoss", "loss_kwargs": {"triplets_per_anchor": "some"}},
         r"triplets_per_anchor = 'some': .* takes one of: all, or a whole number above 0"),
        ({"miner_kwargs": {"epsilon": 1}}, r"miner_kwargs is given, and metric\.miner is not"),
        ({"miner": "MultiSimilarityMiner", "miner_kwargs": {"epsilom": 1}}, r"did you mean 'epsil"),
    ],
)  # fmt: skip
def test_what_the_library_does_not_have_is_refused_in_one_line(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        resolve({"run": {"plugins": ["metric"]}, "plugins": {"metric": settings}})
    assert "\n" not in str(caught.value)


def test_parts_go_by_their_class() -> None:
    made = criterion(loss="TripletMarginLoss", loss_kwargs={"distance": "CosineSimilarity"})
    assert type(made.loss.distance).__name__ == "CosineSimilarity"
    criterion(loss="TripletMarginLoss", loss_kwargs={"triplets_per_anchor": 5})


def test_what_declares_no_classification_is_not_classified(reid_cache: Path) -> None:
    settings = {"model": {"backbone": "test_vit"}, "plugins": {"clipreid": {"prompt_epochs": 1}}}
    run = Run(reid_cache, ("clipreid", "metric"), settings)
    criteria: Any = run.model.criteria
    assert criteria["clipreid/image"].beside is not None
    assert criteria["clipreid/before"].beside is None
    terms = set(run.step()["main"].terms)
    assert "clipreid/image/ce" in terms
    assert {name for name in terms if name.startswith("clipreid/before/")} == {
        "clipreid/before/metric"
    }
    weightless = Run(reid_cache, ("metric",), {"identity": {"ce_weight": 0}})
    assert {name for name, _ in weightless.model.criteria.named_parameters()} == set()
    assert set(weightless.step()["main"].terms) == {"core/global/metric"}
    made: Any = weightless.model.criteria["core/global"]
    with pytest.raises(PluginError, match="'core/global' is not classified: it declares no cross"):
        made.logits(embedded())


def test_without_the_library_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid_baselines.metric.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-baselines\[metric\]'"):
        resolve({"run": {"plugins": ["metric"]}})


def test_it_fills_the_slot_that_another_wants(reid_cache: Path) -> None:
    from reid_core.testing.probe_plugins import PROBES

    names, own = ("clustering", "metric"), {"own": {"identity": "metric"}}
    pairs = {"plugins": {"metric": {"cross_entropy": False}}}
    assembly = tiny_assembly(names, own, pairs, cache=reid_cache, classes=PROBES)
    assert isinstance(assembly.model.criteria["core/global"], MetricCriterion)
