"""``reid compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reid_core import PICTURE_SUFFIXES, checked_output, write_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from reid_search.comparing.effects import Comparison, Effect
    from reid_search.comparing.models import Model
    from reid_search.comparing.statistics import Interval


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN_A RUN_B...")
@click.option("--data", "-d", metavar="NAME", help="Evaluate all anew on NAME[/VARIANT][:SIZE].")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="Those to compare by.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Draw the queries that the first two models answer most differently.",
)
@click.option("--changed", type=click.IntRange(1), default=8, help="How many of them.")
def compare(
    runs: tuple[str, ...],
    data: str | None,
    data_root: Path | None,
    protocols: tuple[str, ...],
    device: str,
    json_path: Path | None,
    picture: Path | None,
    changed: int,
) -> None:
    """Compare models query by query: is one better, by how much, how surely, and for whom.

    A RUN is a run's folder or a file of `reid eval --json`; with --data also any other model. Runs
    that differ in their seed alone are seeds of one model. The first model is what the others are
    compared with; results of different protocol lines are refused.
    """
    if json_path is not None:
        checked_output(json_path, option="--json")
    if picture is not None:
        checked_output(picture, PICTURE_SUFFIXES, option="--picture")

    from rich.console import Console

    from reid_core.evaluation.records import results_text
    from reid_search.comparing.effects import compare as compared, shared_labels
    from reid_search.comparing.models import models_of
    from reid_search.comparing.stored import read_run

    if data is None:
        read = [read_run(Path(path)) for path in runs]
    else:
        from reid_core.cli.progress import Screen
        from reid_search.comparing.evaluating import evaluate_models

        read = evaluate_models(
            runs, data, data_root, protocols, device=device, say=click.echo, progress=Screen().bar
        )
    models = models_of(read)
    labels = shared_labels(read, () if data else protocols)
    found = [compared(models, label) for label in labels]
    console = Console()
    _show_models(models)
    for one in found:
        _show(console, one)
    if json_path is not None:
        write_text(json_path, results_text([one.to_json() for one in found]))
    if picture is not None:
        _draw(found[0], data, data_root, picture, changed)


def _draw(
    found: Comparison, data: str | None, root: Path | None, picture: Path, count: int
) -> None:
    from reid_core import ConfigError, open_dataset
    from reid_search.comparing.pictures import check_same_data, picture_of_changes
    from reid_search.comparing.tables import most_changed

    first, second = found.models[:2]
    config = first.runs[0].config
    if data is None and config is None:
        raise ConfigError("--picture needs the images: name their data set with --data")
    changes = most_changed(first, second, found.label, count)
    if not changes:
        click.echo("no picture: no query changed")
        return
    name, place = (data, root) if data or config is None else (config.data.name, config.data.root)
    assert name is not None
    dataset = open_dataset(name, root or place)
    check_same_data(dataset, first.result(found.label).content["fingerprint"])
    picture_of_changes(dataset, (first, second), found.label, changes, picture)
    click.echo(f"most changed queries: {picture}")


def _show_models(models: Sequence[Model]) -> None:
    from reid_search.comparing.models import changes

    for model in models:
        runs = ", ".join(str(run.path) for run in model.runs)
        said = "; ".join(changes(models[0], model))
        click.echo(f"{model.name}: {runs}{f' ({said})' if said else ''}")


def _show(console: Console, one: Comparison) -> None:
    """Print a comparison: the protocol's line, effects, who changed most, pairs of cameras."""
    from rich import box
    from rich.table import Table

    from reid_search.comparing.statistics import LEVEL
    from reid_search.comparing.tables import FOUND_BY

    click.echo(f"\n{one.label}: {one.text}")
    for other in one.models[1:]:
        title = f"{other.name} against {one.models[0].name}, per cent"
        table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("", "before", "after", "change", f"{100 * LEVEL:.0f} %", "p", "resampled"):
            table.add_column(name, justify="left" if name in ("", "resampled") else "right")
        for effect in one.effects:
            if effect.model == other.name:
                _add_effect(table, effect)
        console.print(table)
    people = sorted(
        one.identities, key=lambda row: row.average_precision[-1] - row.average_precision[0]
    )
    shown = people if len(people) <= 10 else [*people[:5], *people[-5:]]
    table = _side_by_side("people whose AP changed most", ("person", "queries"), one)
    for row in shown:
        table.add_row(str(row.pid), str(row.queries), *_percents(row.average_precision))
    console.print(table)
    if one.cameras:
        title = f"from camera to camera: a match among the first {FOUND_BY}"
        table = _side_by_side(title, ("query", "match", "queries"), one)
        for pair in one.cameras:
            cells = (str(pair.query), str(pair.gallery), str(pair.queries))
            table.add_row(*cells, *_percents(pair.found))
        console.print(table)


def _add_effect(table: Table, effect: Effect) -> None:
    d = effect.found
    measure = {"rank1": "rank-1"}.get(effect.measure, effect.measure)
    before, after, change = 100 * d.before, 100 * d.after, 100 * d.value
    cells = (measure, f"{before:.1f}", f"{after:.1f}", f"{change:+.1f}")
    spans, rest = d.intervals, ("",) * len(cells)
    table.add_row(*cells, _span(spans.identities), f"{d.p_identities:.4f}", "people")
    if spans.seeds:
        table.add_row(*rest, _span(spans.seeds), "", "people and seeds")
    table.add_row(*rest, _span(spans.queries), f"{d.p_queries:.4f}", "queries")
    table.add_row(*rest, "", "", f"{d.better} better, {d.worse} worse")


def _side_by_side(title: str, keys: Sequence[str], one: Comparison) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=f"{title}, per cent", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (*keys, *(model.name for model in one.models), "change"):
        table.add_column(name, justify="right")
    return table


def _percents(values: Sequence[float]) -> list[str]:
    return [*(f"{100 * value:.1f}" for value in values), f"{100 * (values[-1] - values[0]):+.1f}"]


def _span(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f} .. {100 * interval.high:+.1f}"
