"""``reid san``: regressed textures of a trained run, drawn and measured."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, cast

import click

from reid_core import PICTURE_SUFFIXES, checked_output

if TYPE_CHECKING:
    from reid_core.loop.assembly import Assembly
    from reid_san.plugin import San


@click.group()
def san() -> None:
    """Look at what a trained decoder regresses."""


@san.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--images", type=click.IntRange(1), default=12, help="How many are drawn.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Picture.")
def textures(run: Path, images: int, out: Path) -> None:
    """Draw test images beside their regressed textures (figure 6), and measure all of them.

    RUN is the folder of a run with `--plugins san`. Where the data set's test images carry the
    truth, it stands beside, and the mean absolute error is printed, with that of the pairs' mean.
    """
    from reid_core import DataError
    from reid_san.reporting import draw_and_measure

    checked_output(out, PICTURE_SUFFIXES)
    assembly, plugin = _restored(run)
    ctx = assembly.ctx
    people = [*ctx.dataset.query, *ctx.dataset.gallery]
    if not people:
        raise DataError(f"data set '{ctx.dataset.name}' has no test images to draw")
    found = draw_and_measure(ctx, assembly.model, plugin.guide, plugin.pairs, people, out, images)
    for line in found.lines():
        click.echo(line)
    click.echo(str(out))


@san.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["pg", "run"]),
    default="pg",
    help="SAN-PG, which made the pseudo textures, or the run's own decoder.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Folder.")
def dataset(run: Path, by: str, out: Path) -> None:
    """Write what is regressed of every image as a data set (section 4.3).

    RUN is the folder of a run with `--plugins san`. The images of its training people, queries and
    gallery become regressed textures, which `reid run --data folder --data-root FOLDER` then
    recognises people by.
    """
    from reid_core import ConfigError, checked_folder
    from reid_san.datasets import write_dataset

    checked_folder(out)
    assembly, plugin = _restored(run)
    maker = plugin.maker
    if by == "pg" and maker is None:
        raise ConfigError(f"{run} has no SAN-PG: its targets were brought; add --by run")
    model = assembly.model if by == "run" or maker is None else assembly.ctx.stage(maker).model
    counts = write_dataset(assembly.ctx, model, out)
    listed = ", ".join(f"{count} of {split}" for split, count in counts.items())
    click.echo(f"{out}: {listed}; reid run --data folder --data-root {quote(str(out))}")


def _restored(run: Path) -> tuple[Assembly, San]:
    from reid_core import restore
    from reid_san.plugin import San

    assembly = restore(run, needs=San, say=lambda line: None)
    return assembly, cast(San, assembly.plugins["san"])
