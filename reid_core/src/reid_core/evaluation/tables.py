"""Results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reid_retrieval.results import RetrievalResult, percent


def results_table(results: Sequence[RetrievalResult], title: str = "Evaluation") -> Group:
    """Return a table for the terminal, in per cent: two lines per result, 80 columns wide.

    The second line has the queries and the gallery, and deviations over trials. mAP and MRR have
    columns of their own, for they must not be read against each other; a rank that is not reported
    is empty. What the numbers rest on stands below: once, or with each result where they differ.
    """
    names = [name for name in ("mAP", "MRR") if any(r.ap_name == name for r in results)]
    columns = {name: name for name in names}
    if "mAP" in names:
        columns |= {"trap.": "mAP_trapezoid", "mINP": "mINP"}
    ranks = sorted({rank for result in results for rank in result.ranks})
    columns |= {f"R{rank}": f"rank{rank}" for rank in ranks}
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("protocol", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    shared = {result.comparison for result in results}
    for result in results:
        metrics = result.metrics()
        cells = [
            percent(metrics[key], metrics.get(f"{key}_std"), "\n") if key in metrics else ""
            for key in columns.values()
        ]
        scale = f"{result.valid_queries}/{result.total_queries} in {result.gallery_images}"
        scale += f", {result.comparison}" if len(shared) > 1 else ""
        table.add_row(f"{escape(result.label)}\n{escape(scale)}", *cells)
    return Group(table, *(Text(line) for line in _legend(results, shared)))


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """Return a table of the numbers that plugins measure, as they are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("measured by plugins", overflow="fold")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    return table


def _legend(results: Sequence[RetrievalResult], comparisons: set[str]) -> list[str]:
    """Return the lines below a table: what its numbers are, and what they rest on."""
    lines = sorted(comparisons) if len(comparisons) == 1 else []
    over = {result.denominator for result in results}
    lines += [
        f"valid/total queries in gallery images; means over {name} queries" for name in sorted(over)
    ]
    if any(not result.drawn for result in results):
        lines.append("mAP: precision at each match (step); trap.: the same by the trapezoid rule")
    if any(result.drawn for result in results):
        lines.append("MRR: mean of 1 / rank of the only match; not to be read against mAP")
    return lines
