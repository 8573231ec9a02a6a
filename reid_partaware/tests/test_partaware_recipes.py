"""The paper's recipes: the baseline's with a head, and nothing else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import RunConfig
from reid_core.runs.resolve import resolve
from reid_parsing.plugin import ParsingSettings

FOLDER = Path(str(files("reid_partaware"))) / "recipes/partaware"
SETS = ("market1501", "cuhk03", "msmt17")
BASES = {
    **{
        f"{model}_{name}": f"{model}/{name}"
        for model in ("globalpool", "pcb", "mgn")
        for name in SETS
    },
    **{f"osnet_{name}": f"osnet/{name}" for name in SETS},
    "mobilenetv2_msmt17": "globalpool/msmt17_mobilenetv2",
    "densenet121_msmt17": "globalpool/msmt17_densenet121",
}
"""Every recipe and the one of its baseline, whose keys a test of reid-baselines compares."""

HEAD = {
    "weight": 1.0,
    "head": "c",
    "granularity": "seven",
    "stream": [],
    "norm": True,
    "joint": False,
    "resizing": "nearest-exact",
    "erased": "keep",
}
DANET = {"network": "danet", "labelled": "parsing-densepose", "pretrained": True}


def config(name: str) -> dict[str, Any]:
    found: RunConfig = resolve({}, recipe=name).config
    return found.model_dump(mode="json")


def test_there_is_one_for_every_model_of_figures_6_and_7() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*BASES, "synthpeople"}


@pytest.mark.parametrize("name", BASES)
def test_nothing_but_the_head_and_its_labels_is_added_to_the_baseline(name: str) -> None:
    found, wanted = config(f"partaware/{name}"), config(BASES[name])
    wanted["run"]["recipe"] = f"partaware/{name}"
    wanted["run"]["plugins"] = sorted([*wanted["run"]["plugins"], "parsing", "partaware"])
    wanted["labels"] = {"parts": "parsing"}
    wanted["plugins"] |= {
        "partaware": HEAD,
        "parsing": {**ParsingSettings().model_dump(mode="json"), **DANET},
    }
    assert found == wanted
