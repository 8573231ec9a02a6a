"""A calibration as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reid_search.calibration.intervals import Interval
from reid_search.calibration.results import CalibrationResult, RateAt

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHOWN_CAMERAS = 8
"""Rows of camera pairs; the others are in the JSON."""


def calibration_tables(result: CalibrationResult, title: str) -> Group:
    """Return what a calibration found, rates in per cent, 80 columns wide."""
    same, different = result.counts.pairs
    chosen = result.chosen
    images = f"{result.queries} queries in {result.gallery} images"
    if result.unknown_queries:
        images += f", {result.unknown_queries} of them of people who are not there"
    rates = _table(escape(title), ("of pairs", "threshold", "TPR"))
    for one in result.tpr_at_fpr:
        rates.add_row(f"FPR {one.target:g}", *_cells(one))
    searches = _table("", ("of searches", "threshold", "DIR"))
    for one in result.dir_at_far:
        searches.add_row(f"FAR {one.target:g}", *_cells(one))
    parts: list[RenderableType] = [
        rates,
        f"{same:,} pairs of one person, {different:,} of different people;",
        f"{images}; {result.compared_people} people with pairs",
        f"AUC {result.auc.value:.4f}{_ends(result.auc, 1, 4)}, EER {_percent(result.eer)};",
        f"rates in per cent, [{100 * result.confidence:g} % intervals over people]",
        searches,
        f"Chosen by {chosen.text}: threshold {chosen.threshold:.4f}",
        f"  pairs: TPR {_percent(chosen.tpr)}, FPR {_percent(chosen.fpr, 3)} "
        f"({chosen.false_pairs:,} of them)",
        f"  searches: DIR {_percent(chosen.dir)}, FAR {_percent(chosen.far)}",
    ]
    if result.cameras or result.clothes:
        parts.append(_groups(result))
    if len(result.cameras) > _SHOWN_CAMERAS:
        parts.append(f"of {len(result.cameras)} pairs of cameras, those with the lowest TPR")
    for fitted in result.reliability:
        name = "no calibration" if fitted.name == "similarity" else f"{fitted.name} calibration"
        kept = " (kept)" if fitted.name == result.calibration.method else ""
        error = f"expected error {fitted.expected_error:.3f}, Brier {fitted.brier:.3f}"
        parts.append(f"{name}: {error}{kept}")
    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title or None, box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _groups(result: CalibrationResult) -> Table:
    table = _table("Pairs at the chosen threshold", ("", "same", "TPR", "other", "FPR"))
    cameras = sorted(result.cameras, key=lambda one: one.tpr.value if one.tpr else 2.0)
    for one in (*cameras[:_SHOWN_CAMERAS], *result.clothes):
        table.add_row(
            one.name,
            f"{one.same:,}",
            _percent(one.tpr) if one.tpr else "",
            "" if one.different is None else f"{one.different:,}",
            _percent(one.fpr, 2) if one.fpr else "",
        )
    return table


def _cells(one: RateAt) -> tuple[str, str]:
    if one.threshold is None or one.rate is None:
        return "", "too few to tell"
    return f"{one.threshold:.4f}", _percent(one.rate)


def _percent(rate: Interval, digits: int = 1) -> str:
    return f"{100 * rate.value:.{digits}f}{_ends(rate, 100, digits)}"


def _ends(rate: Interval, scale: float, digits: int) -> str:
    if rate.low is None or rate.high is None:
        return ""
    return f" [{scale * rate.low:.{digits}f}, {scale * rate.high:.{digits}f}]"
