"""The core's observers: what is written of which event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reid_core.contract.events import Evaluated, RunEnded, StepEnded
from reid_core.defaults.observers import JsonLines, TensorBoard

RESULTS = {"standard": {"metrics": {"mAP": 0.25, "rank1": 0.5}}}


@pytest.fixture
def scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what the writer of TensorBoard is told."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "tensorboardX.SummaryWriter.add_scalar", lambda self, *values: told.append(values)
    )
    return told


def test_held_out_people_and_the_test_are_curves_of_their_own(
    scalars: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    board = TensorBoard(tmp_path)
    for when, iteration in (("untrained", -1), ("validation", 4), ("epoch", 4), ("final", 9)):
        board(Evaluated(when, 0, iteration, RESULTS))
    board(RunEnded(tmp_path, "finished", {}))
    assert [values for values in scalars if values[0].endswith("mAP")] == [
        ("evaluation/standard/mAP", 0.25, 0),
        ("validation/standard/mAP", 0.25, 4),
        ("evaluation/standard/mAP", 0.25, 4),
        ("evaluation/standard/mAP", 0.25, 9),
    ]
    assert len(scalars) == 8


def test_steps_are_scalars_of_their_iteration(
    scalars: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    board = TensorBoard(tmp_path)
    board(StepEnded(1, 7, {"loss/main": 0.5}))
    board(RunEnded(tmp_path, "finished", {}))
    assert scalars == [("loss/main", 0.5, 7)]


def test_lines_hold_events(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path)
    lines(StepEnded(1, 7, {"loss/main": 0.5}))
    lines(Evaluated("validation", 1, 7, RESULTS))
    lines(RunEnded(tmp_path, "finished", {"images": 3}))
    found = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        del line["time"]
    assert found == [
        {"kind": "step", "epoch": 1, "iteration": 7, "loss/main": 0.5},
        {
            "kind": "evaluation",
            "when": "validation",
            "epoch": 1,
            "iteration": 7,
            "results": {"standard": {"mAP": 0.25, "rank1": 0.5}},
        },
        {"kind": "end", "outcome": "finished", "images": 3},
    ]
