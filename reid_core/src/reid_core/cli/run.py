"""``reid run``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid_core.cli.options import run_options, to_flags

if TYPE_CHECKING:
    from reid_core.runs.running import RunSummary
    from reid_retrieval.results import RetrievalResult


@click.command()
@run_options
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--longer", is_flag=True, help="With --resume: allow more --epochs than before.")
def run(out: Path | None, resume: bool, longer: bool, **options: Any) -> None:
    """Train and evaluate.

    Without any option it trains the baseline on the embedded data set by the recipe core/quick,
    which takes minutes on two CPU cores, and leaves a folder under runs/.
    """
    from reid_core.cli.progress import Screen
    from reid_core.runs import running

    screen = Screen()
    summary = running.run(
        to_flags(options),
        recipe=options["recipe"],
        out=out,
        resume=resume,
        longer=longer,
        say=screen.say,
        progress=screen.bar,
    )
    if os.environ.get("RANK", "0") == "0":
        show(summary)


def show(summary: RunSummary) -> None:
    """Print a run's results, beside those of the untrained encoder where there are some."""
    from rich.console import Console

    from reid_core.evaluation.tables import metrics_table, results_table

    console = Console()
    if summary.results:
        console.print(results_table(summary.results, "Trained"))
    if summary.metrics:
        console.print(metrics_table(summary.metrics))
    if summary.untrained:
        console.print(results_table(summary.untrained, "Untrained encoder"))
        for line in gains(summary.untrained, summary.results):
            click.echo(line)
    click.echo(f"run folder: {summary.folder}")


def gains(before: Sequence[RetrievalResult], after: Sequence[RetrievalResult]) -> list[str]:
    """Return one line per protocol: rank-1 and mean average precision before and after."""
    return [
        f"{new.label}: rank-1 {100 * old.cmc[0]:.1f} -> {100 * new.cmc[0]:.1f}, "
        f"{new.ap_name} {100 * old.mean_ap:.1f} -> {100 * new.mean_ap:.1f} "
        "(untrained -> trained)"
        for old, new in zip(before, after, strict=True)
    ]
