"""``reid san``: regressed textures of a trained run, drawn and measured."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core import PICTURE_SUFFIXES, checked_output


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
    from reid_core import ConfigError, DataError, restore
    from reid_san.labelling import summary
    from reid_san.plugin import San
    from reid_san.reporting import draw_and_measure

    checked_output(out, PICTURE_SUFFIXES)
    assembly = restore(run, say=_silent)
    plugin = assembly.plugins.get("san")
    if not isinstance(plugin, San):
        raise ConfigError(f"{run} has no decoder: it was made without --plugins san")
    ctx = assembly.ctx
    people = [*ctx.dataset.query, *ctx.dataset.gallery]
    if not people:
        raise DataError(f"data set '{ctx.dataset.name}' has no test images to draw")
    guide, pairs = plugin.guide, plugin.pairs
    found = draw_and_measure(ctx, assembly.model, guide, pairs, people, out, images)
    if found is not None:
        click.echo(summary(guide.field, found))
    click.echo(str(out))


def _silent(line: str) -> None:
    """Say nothing."""
