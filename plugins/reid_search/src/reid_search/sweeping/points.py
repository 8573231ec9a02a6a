"""What the runs of a sweep found, summed up over their seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_core import whole_file
from reid_search.plots import require_matplotlib

MEASURES = ("rank-1", "mAP")
"""What is compared, as shares in 0 .. 1."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Args:
        settings: the settings that make its point, by dotted key.
        seed: its seed.
        folder: what it left.
        scores: `MEASURES` by protocol.
    """

    settings: Mapping[str, Any]
    seed: int
    folder: Path
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SweepPoint:
    """What the runs of one point found, over their seeds.

    Args:
        settings: by dotted key.
        seeds: how many runs.
        mean, spread: by protocol and measure; the spread is the sample standard deviation, None
            where there is one seed.
    """

    settings: Mapping[str, Any]
    seeds: int
    mean: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, Mapping[str, float]] | None


def summarise(runs: Sequence[SweepRun]) -> list[SweepPoint]:
    """Return mean and spread over the seeds of every point, in the order of the runs."""
    points: dict[str, list[SweepRun]] = {}
    for one in runs:
        points.setdefault(json.dumps(one.settings, sort_keys=True, default=str), []).append(one)
    found = []
    for same in points.values():
        values = {
            protocol: {m: [one.scores[protocol][m] for one in same] for m in MEASURES}
            for protocol in same[0].scores
        }
        mean = {p: {m: statistics.mean(v) for m, v in by.items()} for p, by in values.items()}
        spread = None
        if len(same) > 1:
            spread = {
                p: {m: statistics.stdev(v) for m, v in by.items()} for p, by in values.items()
            }
        found.append(SweepPoint(same[0].settings, len(same), mean, spread))
    return found


def plot(points: Sequence[SweepPoint], key: str, path: Path) -> Path:
    """Draw rank-1 and mAP over the values of one setting, a line per protocol.

    Args:
        points: of `summarise`; only ``key`` may differ between them.
        key: the setting on the horizontal axis.
        path: where to write; the suffix gives the format.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("a plot", "reid-core[plots]")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(MEASURES), 3.4), layout="constrained")
    labels = [str(point.settings[key]) for point in points]
    for axis, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        for protocol in points[0].mean:
            values = [100 * point.mean[protocol][measure] for point in points]
            spreads = [100 * p.spread[protocol][measure] if p.spread else 0.0 for p in points]
            axis.errorbar(labels, values, spreads, marker="o", capsize=3, label=protocol)
        axis.set(xlabel=key, ylabel=f"{measure} (%)")
        axis.grid(alpha=0.3)
    axis.legend()
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)
    return path
