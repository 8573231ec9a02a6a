"""Similarities, ROC and reliability diagram in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_core import whole_file
from reid_search.calibration.counting import ScoreCounts
from reid_search.calibration.results import CalibrationResult
from reid_search.plots import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SAME, _DIFFERENT, _CHOSEN = "#1f9d4d", "#d0342c", "#3b6fd4"
_COLOURS = {"similarity": "0.6", "logistic": "#3b6fd4", "isotonic": "#e08a00"}
_NAMES = {"similarity": "not calibrated", "logistic": "logistic", "isotonic": "isotonic"}


def picture(result: CalibrationResult, path: Path, title: str) -> Path:
    """Draw similarities, ROC and reliability of a calibration.

    Args:
        result: of `calibrate`.
        path: where to write; the suffix gives the format.
        title: one line above everything.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("a picture", "reid-core[plots]")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_histogram(left, result.counts, result.chosen.threshold)
    draw_roc(middle, result)
    draw_reliability(right, result)
    figure.suptitle(title)
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)
    return path


def draw_histogram(axes: Axes, counts: ScoreCounts, threshold: float | None = None) -> None:
    """Draw how similar pairs of one person and of different people are, each with area 1."""
    edges, *kinds = counts.histogram(int(np.clip(np.sqrt(counts.pairs[0]), 10, 80)))
    for values, colour, name in zip(
        kinds, (_SAME, _DIFFERENT), ("same person", "different people"), strict=True
    ):
        density = values / values.sum() / np.diff(edges)
        label = f"{name} ({int(values.sum()):,} pairs)"
        axes.stairs(density, edges, fill=True, alpha=0.45, color=colour, label=label)
    if threshold is not None:
        axes.axvline(threshold, color=_CHOSEN, label=f"threshold {threshold:.3f}")
    axes.set(xlabel="cosine similarity", ylabel="density", title="Similarities")
    _finish(axes)


def draw_roc(axes: Axes, result: CalibrationResult) -> None:
    """Draw TPR over FPR on a logarithmic axis, with intervals and the operating point."""
    curve = result.roc.thinned()
    least = 1 / result.counts.pairs[1]
    shown = curve.fpr >= least
    axes.plot(curve.fpr[shown], curve.tpr[shown], color="0.2", label=f"AUC {result.auc.value:.3f}")
    axes.plot(curve.fpr[shown], curve.fpr[shown], color="0.7", linestyle=":", label="chance")
    points: Any = [(one.target, one.rate) for one in result.tpr_at_fpr if one.rate]
    if points:
        fprs, rates = zip(*points, strict=True)
        values = np.array([rate.value for rate in rates])
        low, high = (np.array([getattr(rate, end) for rate in rates]) for end in ("low", "high"))
        label = f"{100 * result.confidence:g} % over people"
        axes.errorbar(
            fprs,
            values,
            [values - low, high - values],
            fmt="o",
            color="0.2",
            capsize=3,
            markersize=4,
            label=label,
        )
    if result.chosen.fpr.value > 0:
        axes.plot(
            result.chosen.fpr.value,
            result.chosen.tpr.value,
            "D",
            color=_CHOSEN,
            label=f"chosen: {result.chosen.text}",
        )
    axes.set(
        xscale="log",
        xlabel="FPR (different people taken for one)",
        ylabel="TPR (same person recognised)",
        title="ROC",
        ylim=(0, 1.02),
        xlim=(least, 1.05),
    )
    _finish(axes)


def draw_reliability(axes: Axes, result: CalibrationResult) -> None:
    """Draw observed over predicted probability, the areas of points by share of pairs."""
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    for one in result.reliability:
        label = f"{_NAMES[one.name]}: ECE {one.expected_error:.3f}"
        colour = _COLOURS[one.name]
        axes.plot(one.predicted, one.observed, color=colour, label=label)
        axes.scatter(
            one.predicted, one.observed, 400 * np.array(one.share), color=colour, alpha=0.5
        )
    axes.set(
        xlabel="predicted probability of the same person",
        ylabel="observed share",
        title="Reliability on the other half of the people",
        xlim=(0, 1),
        ylim=(-0.02, 1.02),
    )
    if result.reliability:
        _finish(axes)
    else:
        axes.text(0.5, 0.5, "too few people to divide", ha="center")


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
