"""The recipes: the paper's settings, and every row of its tables 2 to 5."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import ConfigError, RunConfig
from reid_core.loop.rates import rate_factor
from reid_core.runs.resolve import resolve
from reid_fsam.settings import FsamSettings

FOLDER = Path(str(files("reid_fsam"))) / "recipes" / "fsam"
ALL = sorted(path.stem for path in FOLDER.glob("*.toml"))
SETS = ("prcc", "ltcc", "vcclothes", "market1501")
ROWS: dict[str, dict[str, Any]] = {
    "s": {"mutual": "none"},
    "s_coarse": {"mutual": "none", "stream": "coarse"},
    "as": {"mutual": "none"},
    "s_mu": {},
    "as_mu": {},
    "kl": {"branches": "single", "si_weight": 0.0, "keep_weight": 0.0},
    "kl_si": {"branches": "single", "keep_weight": 0.0},
    "kl_si_lr": {"branches": "single"},
    "3b": {"branches": "sum"},
    "a_s_coarse": {"stream": "coarse"},
    "kl_aa": {"stream": "image", "si_weight": 0.0},
    "aa": {"stream": "image"},
    "one_way": {"mutual": "to_appearance"},
}
S, A_AND_S = ("fsam/shape",), ("core/global", "fsam/shape")
EMBED = {"s": S, "s_coarse": S, "s_mu": S, "as": A_AND_S, "as_mu": A_AND_S}
WEIGHTS = {"prcc": (5.0, 5.0), "ltcc": (1.0, 0.5), "vcclothes": (1.0, 1.0)}
FILE = {"plugins": {"fsam": {"parser_weights": "schp.pth"}}}


def config(name: str) -> RunConfig:
    flags = {} if name.endswith("_a") or name == "quick" else FILE
    return resolve(flags, recipe=f"fsam/{name}").config


def settings(name: str) -> FsamSettings:
    return FsamSettings.model_validate(config(name).plugins["fsam"])


def test_there_is_one_for_every_row_and_data_set() -> None:
    rows = {f"{data}_{row}" for data in ("prcc", "ltcc") for row in ROWS}
    baselines = {f"{data}_a" for data in SETS}
    assert set(ALL) == {"quick", *SETS, *baselines, *rows}


@pytest.mark.parametrize("name", [n for n in ALL if n != "quick"])
def test_all_are_trained_as_section_5_2_says(name: str) -> None:
    found = config(name)
    assert found.data.size == (256, 128)
    assert (found.data.batch_size, found.data.instances, found.data.sampler) == (64, 4, "pk")
    assert (found.optim.name, found.schedule.epochs) == ("adam", 150)
    assert (found.identity.margin, found.identity.label_smoothing) == (0.3, 0.0)
    assert found.model.pretrained is True
    assert found.data.name == name.partition("_")[0]
    assert found.run.plugins == (() if name.endswith("_a") else ("fsam",))


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 3e-5), (5, 1.65e-4), (9, 2.73e-4), (10, 3e-4), (39, 3e-4), (40, 3e-5), (70, 3e-6)],
)
def test_the_learning_rate_moves_as_printed(epoch: int, expected: float) -> None:
    found = config("prcc")
    factor = rate_factor(found.schedule, epoch)
    assert found.optim.lr * factor == pytest.approx(expected)


@pytest.mark.parametrize("data", SETS)
def test_weights_are_the_paper_s(data: str) -> None:
    found = settings(data)
    kl, si = WEIGHTS.get(data, WEIGHTS["ltcc"])
    assert (found.kl_weight, found.si_weight, found.keep_weight) == (kl, si, 10.0)
    assert (found.parser, found.parser_label_set, found.si_norm) == ("schp", "pascal", "fro")
    assert (found.branches, found.clusters, found.mutual) == ("pose", 3, "both")


@pytest.mark.parametrize("data", ["prcc", "ltcc"])
@pytest.mark.parametrize("row", ROWS)
def test_a_row_changes_what_it_is_about(data: str, row: str) -> None:
    whole, found = (settings(name).model_dump() for name in (data, f"{data}_{row}"))
    assert {key: found[key] for key in found if found[key] != whole[key]} == ROWS[row]
    embed = config(f"{data}_{row}").evaluation.embed
    assert embed == EMBED.get(row, ())


def test_released_weights_are_the_user_s_to_bring() -> None:
    with pytest.raises(ConfigError, match=r"name their file with -s fsam.parser_weights=FILE"):
        resolve(recipe="fsam/prcc")


def test_the_quick_one_keeps_to_the_core_s_budget() -> None:
    found, plain = config("quick"), resolve().config
    steps = found.schedule.epochs * (found.schedule.iterations_per_epoch or 0)
    allowed = plain.schedule.epochs * (plain.schedule.iterations_per_epoch or 0)
    assert 2 * steps <= allowed, "two streams"
    assert found.data.size == plain.data.size
    assert found.model.backbone == plain.model.backbone
