"""The recipes: the paper's settings, and every row of its tables 2 to 4."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import RunConfig
from reid_core.loop.rates import rate_factor
from reid_core.runs.finding import find_protocol
from reid_core.runs.resolve import resolve
from reid_unsup_cc.settings import UnsupCCSettings

FOLDER = Path(str(files("reid_unsup_cc"))) / "recipes" / "unsup_cc"
INSTANCE, NO_CLOTHES, FREE = (
    {"memory.mode": "instance"},
    {"synthesis.method": "none"},
    {"constraint_weight": 0.0},
)
ROWS: dict[str, dict[str, Any]] = {
    "baseline": {**INSTANCE, **NO_CLOTHES, **FREE},
    "ca": {**INSTANCE, **FREE},
    "cs": {**NO_CLOTHES, **FREE},
    "ca_cs": FREE,
    "ca_ci": INSTANCE,
    "average": {"memory.mode": "average"},
    "hardest": {"memory.mode": "hard"},
    **{f"eps0{tenths}": {"clustering.eps": tenths / 10} for tenths in (2, 3, 5, 6, 7)},
}


def config(name: str) -> RunConfig:
    return resolve(recipe=f"unsup_cc/{name}").config


def settings(name: str) -> UnsupCCSettings:
    return UnsupCCSettings.model_validate(config(name).plugins["unsup_cc"])


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        deeper = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}": value}
    return found


def test_there_is_one_for_every_row_and_data_set() -> None:
    found = {path.stem for path in FOLDER.glob("*.toml")}
    rows = {f"prcc_{row}" for row in ROWS}
    assert found == {"quick", "synthpeople", "prcc", "vcclothes", *rows}


@pytest.mark.parametrize("name", ["prcc", "vcclothes", *(f"prcc_{row}" for row in ROWS)])
def test_all_are_trained_as_section_4_says(name: str) -> None:
    found = config(name)
    assert found.data.size == (256, 128)
    assert (found.data.batch_size, found.data.instances, found.data.sampler) == (32, 4, "pk")
    augment = found.augment
    assert (augment.flip, augment.erasing, augment.pad) == (0.5, 0.0, 0)
    assert (augment.enlarge, augment.enlarge_p) == (1.125, 0.5), "288 x 144, cut to 256 x 128"
    assert (found.optim.name, found.optim.weight_decay) == ("adam", 5e-4)
    assert (found.schedule.epochs, found.schedule.iterations_per_epoch) == (120, 400)
    assert (found.model.last_stride, found.model.pooling, found.model.neck) == (1, "avg", "bn")
    assert (found.model.pretrained, found.model.start) == (True, "random")


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1.75e-5), (9, 1.75e-4), (19, 3.5e-4), (20, 3.5e-4), (119, 3.5e-4)]
)
def test_the_learning_rate_rises_as_printed(epoch: int, expected: float) -> None:
    found = config("prcc")
    assert found.optim.lr * rate_factor(found.schedule, epoch) == pytest.approx(expected)


def test_the_method_is_the_paper_s() -> None:
    found = settings("prcc")
    clustering, memory, synthesis = found.clustering, found.memory, found.synthesis
    assert (clustering.eps, clustering.min_samples) == (0.4, 4)
    assert (clustering.k1, clustering.k2, clustering.outliers) == (30, 6, "drop")
    assert (memory.mode, memory.momentum, memory.start) == ("both", 0.3, "random")
    assert (memory.temperature, memory.combine, memory.hardest) == (0.05, "mean", "kl")
    assert (synthesis.method, synthesis.outfits, synthesis.templates) == ("pise", 4, "fixed")
    assert (found.constraint_weight, found.constraint_space) == (0.3, "unit_tau")


@pytest.mark.parametrize("row", ROWS)
def test_a_row_changes_what_it_is_about(row: str) -> None:
    whole, found = (flat(settings(name).model_dump()) for name in ("prcc", f"prcc_{row}"))
    assert {key: found[key] for key in found if found[key] != whole[key]} == ROWS[row]


@pytest.mark.parametrize("name", ["prcc", "vcclothes"])
def test_protocols_are_named_and_exist(name: str) -> None:
    protocols = config(name).evaluation.protocols
    assert protocols
    for protocol in protocols:
        assert find_protocol(protocol).name == protocol
    kinds = {p.rpartition("/")[2] for p in config("prcc").evaluation.protocols}
    assert kinds == {"single-shot@10", "multi-shot"}


def test_the_quick_one_is_small() -> None:
    found = config("quick")
    data, schedule = found.data, found.schedule
    assert (data.name, data.batch_size, data.instances) == ("synthpeople/tracks:quick", 16, 4)
    assert settings("quick").synthesis.outfits == 2
    assert settings("quick").synthesis.method == "recolor"
    assert schedule.epochs * (schedule.iterations_per_epoch or 0) <= 300
    assert found.model.start == "contrastive"
