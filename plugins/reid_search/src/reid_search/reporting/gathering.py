"""What a run has left in its folder, read for its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid_core import DataError
from reid_search.comparing.stored import StoredRun, read_run

_DRAWN_SUFFIXES = (".jpeg", ".jpg", ".png")

_OWN = "ranked_lists"
"""How pictures of the core begin that the page shows anew."""

_TRACKERS = "track"
"""Folder of a run in which trackers keep copies of pictures."""


@dataclass(frozen=True)
class RunFolder:
    """A finished run.

    Args:
        stored: its results.
        facts: its ``run.json``: versions, slots, parameters, environment.
        config: its configuration as TOML.
        steps: what was logged during training, by step.
        evaluations: metrics by protocol, with ``when``, ``epoch`` and ``iteration``.
        cost: what it has cost; empty where it does not say.
        drawn: pictures that plugins have left, by name within the folder.
        efficiency: what its embedder costs, where ``reid eval --cost`` has measured it.
    """

    stored: StoredRun
    facts: Mapping[str, Any]
    config: str
    steps: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    cost: Mapping[str, Any]
    drawn: Mapping[str, Path]
    efficiency: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How it is called on the page."""
        return self.stored.name

    @property
    def losses(self) -> dict[str, tuple[list[int], list[float]]]:
        """Iterations and values by term: what is minimised, then its parts as they are weighed."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        for step in self.steps:
            for key, value in step.items():
                kind, _, name = key.partition("/")
                if kind not in ("total", "loss") or value is None:
                    continue
                shown = f"{name} (sum)" if kind == "total" else name
                where, values = found.setdefault(shown, ([], []))
                where.append(int(step["iteration"]) + 1)
                values.append(float(value))
        return dict(sorted(found.items(), key=lambda item: not item[0].endswith("(sum)")))

    def curve(self, protocol: str, metric: str) -> tuple[list[int], list[float]]:
        """Return iterations and values of a metric on the test, as the run went on."""
        points: dict[int, float] = {}
        for one in self.evaluations:
            value = one["results"].get(protocol, {}).get(metric)
            if one["when"] != "validation" and value is not None:
                points[int(one["iteration"]) + 1] = float(value)
        return sorted(points), [points[key] for key in sorted(points)]


def read_folder(path: Path) -> RunFolder:
    """Read a finished run.

    Raises:
        DataError: it is no folder of a run, or not finished.
    """
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is no run: a report is about run folders")
    stored = read_run(path)
    lines = _lines(path / "metrics.jsonl")
    by_kind = {
        kind: [line for line in lines if line.get("kind") == kind]
        for kind in ("step", "evaluation", "end")
    }
    run, config, costs = (path / name for name in ("run.json", "config.toml", "efficiency.json"))
    drawn = {
        file.relative_to(path).as_posix(): file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in _DRAWN_SUFFIXES
        and not file.name.startswith(_OWN)
        and file.is_file()
        if path / _TRACKERS not in file.parents
    }
    return RunFolder(
        stored,
        json.loads(run.read_text("utf-8")) if run.is_file() else {},
        config.read_text("utf-8") if config.is_file() else "",
        by_kind["step"],
        by_kind["evaluation"],
        by_kind["end"][-1] if by_kind["end"] else {},
        drawn,
        json.loads(costs.read_text("utf-8")) if costs.is_file() else {},
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; an interrupted run may leave half a last one."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
