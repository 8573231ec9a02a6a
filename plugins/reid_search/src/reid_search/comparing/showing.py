"""Comparisons on a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from reid_search.comparing.effects import Comparison, Effect
from reid_search.comparing.models import Model, changes
from reid_search.comparing.statistics import LEVEL, Interval
from reid_search.comparing.tables import FOUND_BY

_PEOPLE = 10
"""How many people a table shows."""


def model_lines(models: Sequence[Model]) -> list[str]:
    """Return a line for each model: its runs, and what it has otherwise than the first."""
    lines = []
    for model in models:
        runs = ", ".join(str(run.path) for run in model.runs)
        said = "; ".join(changes(models[0], model))
        lines.append(f"{model.name}: {runs}{f' ({said})' if said else ''}")
    return lines


def effect_tables(one: Comparison) -> list[Table]:
    """Return a table for every model but the first: what it does against that one."""
    tables = []
    for other in one.models[1:]:
        table = _table(f"{other.name} against {one.models[0].name}")
        for name in ("", "before", "after", "change", f"{100 * LEVEL:.0f} %", "p", "resampled"):
            table.add_column(name, justify="left" if name in ("", "resampled") else "right")
        for effect in one.effects:
            if effect.model == other.name:
                _add_effect(table, effect)
        tables.append(table)
    return tables


def people_table(one: Comparison) -> Table:
    """Return the people whose average precision changed most between first and last model."""
    people = sorted(
        one.identities, key=lambda row: row.average_precision[-1] - row.average_precision[0]
    )
    half = _PEOPLE // 2
    shown = people if len(people) <= _PEOPLE else [*people[:half], *people[-half:]]
    table = _side_by_side("people whose AP changed most", ("person", "queries"), one)
    for row in shown:
        table.add_row(str(row.pid), str(row.queries), *_percents(row.average_precision))
    return table


def camera_table(one: Comparison) -> Table:
    """Return, for every pair of cameras, how many queries find a match early."""
    title = f"from camera to camera: a match among the first {FOUND_BY}"
    table = _side_by_side(title, ("query", "match", "queries"), one)
    for pair in one.cameras:
        cells = (str(pair.query), str(pair.gallery), str(pair.queries))
        table.add_row(*cells, *_percents(pair.found))
    return table


def _table(title: str) -> Table:
    return Table(title=f"{title}, per cent", box=box.SIMPLE_HEAD, pad_edge=False)


def _add_effect(table: Table, effect: Effect) -> None:
    found = effect.found
    measure = {"rank1": "rank-1"}.get(effect.measure, effect.measure)
    before, after, change = 100 * found.before, 100 * found.after, 100 * found.value
    cells = (measure, f"{before:.1f}", f"{after:.1f}", f"{change:+.1f}")
    spans, rest = found.intervals, ("",) * len(cells)
    table.add_row(*cells, _span(spans.identities), f"{found.p_identities:.4f}", "people")
    if spans.seeds:
        table.add_row(*rest, _span(spans.seeds), "", "people and seeds")
    table.add_row(*rest, _span(spans.queries), f"{found.p_queries:.4f}", "queries")
    table.add_row(*rest, "", "", f"{found.better} better, {found.worse} worse")


def _side_by_side(title: str, keys: Sequence[str], one: Comparison) -> Table:
    table = _table(title)
    for name in (*keys, *(model.name for model in one.models), "change"):
        table.add_column(name, justify="right")
    return table


def _percents(values: Sequence[float]) -> list[str]:
    return [*(f"{100 * value:.1f}" for value in values), f"{100 * (values[-1] - values[0]):+.1f}"]


def _span(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f} .. {100 * interval.high:+.1f}"
