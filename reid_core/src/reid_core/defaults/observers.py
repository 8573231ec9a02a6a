"""The core's own observers: metrics as JSON lines, and TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from reid_core.contract.events import Evaluated, Event, RunEnded, StepEnded
from reid_core.outputs import append_json

METRICS = "metrics.jsonl"
"""In a run's folder: one JSON object per line, each step and evaluation once."""


class JsonLines:
    """Append one JSON object per event to ``metrics.jsonl``.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS

    def __call__(self, event: Event) -> None:
        """Write steps, evaluations and the end of the run."""
        match event:
            case StepEnded(epoch, iteration, scalars):
                self._write("step", epoch=epoch, iteration=iteration, **scalars)
            case Evaluated(when, epoch, iteration, results, metrics):
                numbers = {name: result["metrics"] for name, result in results.items()}
                measured = {"metrics": dict(metrics)} if metrics else {}
                where = {"when": when, "epoch": epoch, "iteration": iteration}
                self._write("evaluation", **where, results=numbers, **measured)
            case RunEnded(_, outcome, facts):
                self._write("end", outcome=outcome, **facts)

    def _write(self, kind: str, **values: Any) -> None:
        append_json(self._path, {"kind": kind, "time": round(time.time(), 3), **values})


class TensorBoard:
    """Write event files that TensorBoard shows.

    Args:
        folder: the run's folder; files go to ``tensorboard/``.
        iteration: the first step that is told; what an earlier part of the run told of it and of
            later ones is hidden, for it is told again.
    """

    def __init__(self, folder: Path, iteration: int = 0) -> None:
        # Importing protobuf takes a fifth of a second, which commands that only list never spend.
        from tensorboardX import SummaryWriter

        place = folder / "tensorboard"
        purge = iteration if place.exists() else None
        self._writer = SummaryWriter(str(place), purge_step=purge)

    def __call__(self, event: Event) -> None:
        """Write scalars of steps and evaluations; close at the run's end."""
        match event:
            case StepEnded(_, iteration, scalars):
                for name, value in scalars.items():
                    self._writer.add_scalar(name, value, iteration)
            case Evaluated(when, _, iteration, results, metrics):
                # Held-out people and the test are never one curve, though a protocol may be one.
                group = "validation" if when == "validation" else "evaluation"
                for protocol, result in results.items():
                    for name, value in result["metrics"].items():
                        tag = f"{group}/{protocol}/{name}"
                        self._writer.add_scalar(tag, value, max(iteration, 0))
                for name, value in metrics.items():
                    self._writer.add_scalar(f"{group}/{name}", value, max(iteration, 0))
            case RunEnded():
                self._writer.close()
