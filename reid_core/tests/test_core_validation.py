"""Held-out identities: a validation set out of the training split, and selection on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reid_core.config import RunConfig
from reid_core.contract.samples import DataSet
from reid_core.data.validation import split_validation
from reid_core.errors import CheckpointError, ConfigError, DataError
from reid_core.loop.selection import Selection
from reid_core.runs.resolve import resolve, validated
from reid_core.runs.running import run
from reid_core.testing.tiny import tiny_assembly, tiny_flags


def test_train_and_validation_share_nobody(toy_tiny: DataSet) -> None:
    smaller, validation = split_validation(toy_tiny, 0.25, seed=0)
    assert smaller.train.num_identities == 6
    assert sorted({s.pid for s in smaller.train.samples}) == list(range(6))
    kept = {s.path for s in smaller.train.samples}
    held = {s.path for s in (*validation.query, *validation.gallery)}
    assert not kept & held
    assert kept | held == {s.path for s in toy_tiny.train.samples}
    assert smaller.query == toy_tiny.query
    assert {s.pid for s in validation.query} == {s.pid for s in validation.gallery}


def test_one_query_per_person_and_camera(toy_tiny: DataSet) -> None:
    _, validation = split_validation(toy_tiny, 0.25, seed=0)
    asked = [(s.pid, s.camid) for s in validation.query]
    assert len(asked) == len(set(asked))


def test_the_seed_decides(toy_tiny: DataSet) -> None:
    first, again, other = (split_validation(toy_tiny, 0.5, seed)[1].query for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_too_few_identities_on_one_side(toy_tiny: DataSet, share: float) -> None:
    with pytest.raises(DataError, match=r"of 8 training identities; at least two"):
        split_validation(toy_tiny, share, seed=0)


@pytest.mark.parametrize(
    ("data", "evaluation", "message"),
    [
        ({}, {"every": 1}, "data.validation"),
        ({"validation": 0.3}, {}, "evaluation.every"),
    ],
)
def test_selection_needs_something_to_select_from(
    data: dict[str, float], evaluation: dict[str, int], message: str
) -> None:
    values = {"data": data, "evaluation": {**evaluation, "select": "validation"}}
    with pytest.raises(ConfigError, match=message):
        validated(RunConfig, values)


def test_the_best_is_kept_and_restored(reid_cache: Path, tmp_path: Path) -> None:
    model = tiny_assembly(cache=reid_cache).model
    selection = Selection(tmp_path)
    with pytest.raises(CheckpointError, match="no epoch was selected"):
        selection.restore(model)
    weight = next(model.encoder.parameters())
    best = weight.detach().clone()
    assert selection.consider(0.5, 0, model)
    with torch.no_grad():
        weight.add_(1)
    assert not selection.consider(0.5, 1, model), "the first of equals stays"
    assert Selection(tmp_path).best == (0.5, 0)
    assert selection.restore(model) == 0
    assert torch.equal(weight, best)


def test_a_run_reports_the_selected_epoch(reid_cache: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    flags = tiny_flags(
        (),
        {
            "data": {"validation": 0.3},
            "evaluation": {"select": "validation", "every": 1},
            "schedule": {"epochs": 3},
        },
    )
    summary = run(resolved=resolve(flags), out=tmp_path / "run", cache=reid_cache, say=lines.append)
    note = json.loads((summary.folder / "best.json").read_text("utf-8"))
    assert f"selected epoch {note['epoch'] + 1} on validation" in lines
    events = (summary.folder / "metrics.jsonl").read_text("utf-8").splitlines()
    scores = [
        event["results"]["standard"]["mAP"]
        for event in map(json.loads, events)
        if event.get("when") == "validation"
    ]
    assert len(scores) == 3
    assert max(scores) == note["mean_ap"] == scores[note["epoch"]]
