"""``reid compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reid_core import PICTURE_SUFFIXES, checked_output, write_text
from reid_core.cli.options import DEVICES, json_option

if TYPE_CHECKING:
    from reid_core import DataSet
    from reid_search.comparing.models import Model


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN_A RUN_B...")
@click.option("--data", "-d", metavar="NAME", help="Evaluate all anew on NAME[/VARIANT][:SIZE].")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="Those to compare by.")
@click.option("--device", default="auto", help=DEVICES)
@json_option
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
    if picture is not None:
        checked_output(picture, PICTURE_SUFFIXES, option="--picture")

    from rich.console import Console

    from reid_core.evaluation.records import results_text
    from reid_search.comparing.effects import compare as compared, shared_labels
    from reid_search.comparing.models import models_of
    from reid_search.comparing.showing import camera_table, effect_tables, model_lines, people_table
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
    dataset = None if picture is None else _images_of(models[0], labels[0], data, data_root)
    found = [compared(models, label) for label in labels]
    console = Console()
    for line in model_lines(models):
        click.echo(line)
    for one in found:
        click.echo(f"\n{one.label}: {one.text}")
        cameras = [camera_table(one)] if one.cameras else []
        for table in (*effect_tables(one), people_table(one), *cameras):
            console.print(table)
    if json_path is not None:
        write_text(json_path, results_text([one.to_json() for one in found]))
    if picture is not None and dataset is not None:
        from reid_search.comparing.pictures import picture_of_changes
        from reid_search.comparing.tables import most_changed

        changes = most_changed(models[0], models[1], labels[0], changed)
        if changes:
            picture_of_changes(dataset, models[:2], labels[0], changes, picture)
        click.echo(f"most changed queries: {picture if changes else 'none, so no picture'}")


def _images_of(model: Model, label: str, data: str | None, root: Path | None) -> DataSet:
    """Return the data set that shows the queries."""
    from reid_core import ConfigError, open_dataset
    from reid_search.comparing.pictures import check_same_data
    from reid_search.comparing.stored import images_of

    place = (data, root) if data else images_of(model.runs[0], label)
    if place is None:
        raise ConfigError("--picture needs the images: name their data set with --data")
    data, root = place[0], root or place[1]
    dataset = open_dataset(data, root)
    check_same_data(dataset, model.result(label).content["fingerprint"])
    return dataset
