"""The committed figures of the quick recipes are of the recipes as they stand."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from house import ROOT

from reid_core.runs.resolve import resolve

sys.path.insert(0, str(ROOT / "benchmarks"))

import baselines

ROWS = baselines.read_rows()
TRIED = json.loads(baselines.RESULTS.with_name("baselines_tried.json").read_text("utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["command"])
def test_a_row_is_of_the_recipe_as_it_stands(row: dict) -> None:
    if row["recipe"] == "metric/quick" and not find_spec("pytorch_metric_learning"):
        pytest.skip("the extra `metric` brings pytorch-metric-learning")
    found = resolve({}, recipe=row["recipe"]).config
    schedule = found.schedule
    assert [found.data.name, [found.data.height, found.data.width], found.model.backbone] == [
        row["data"],
        row["size"],
        row["backbone"],
    ], f"python benchmarks/baselines.py --recipe {row['recipe']} --again"
    assert schedule.epochs * (schedule.iterations_per_epoch or 0) == row["steps"]
    assert row["command"] == " ".join(baselines.command(row["recipe"], row["seed"]))
    assert row["scores"]
    assert all(0 <= value <= 1 for one in row["scores"].values() for value in one.values())


def test_every_quick_recipe_of_the_distribution_is_known() -> None:
    folder = ROOT / "plugins/reid_baselines/src/reid_baselines/recipes"
    there = {f"{path.parent.name}/{path.stem}" for path in folder.glob("*/quick*.toml")}
    assert {*baselines.recipes()} == {"core/quick", *there}


def test_a_row_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    for recipe, seed, score in (("bot/quick", 1, 1), ("agw/quick", 0, 2), ("bot/quick", 1, 3)):
        baselines.keep({"recipe": recipe, "seed": seed, "score": score}, file)
    assert [row["score"] for row in baselines.read_rows(file)] == [2, 3]


def test_what_the_readme_says_beside_the_table_is_kept() -> None:
    text = (ROOT / "plugins/reid_baselines/README.md").read_text("utf-8")
    beside = text.partition("baselines -->")[2].partition("<!-- end of generated -->")[2]
    said = re.findall(r"(\d+\.\d) /\s+(\d+\.\d)", beside.partition("\n## ")[0])
    kept = {
        (f"{100 * one['rank1']:.1f}", f"{100 * one['mAP']:.1f}")
        for row in (*ROWS, *TRIED)
        for part in ("untrained", "scores")
        for one in row.get(part, {}).values()
    }
    assert len(said) > 5
    assert not {*said} - kept
