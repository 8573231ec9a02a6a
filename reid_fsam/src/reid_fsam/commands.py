"""``reid fsam``: look at what a run's parser has become."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core import PICTURE_SUFFIXES, checked_output


@click.group()
def fsam() -> None:
    """Look into runs of FSAM."""


@fsam.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Picture.")
def masks(runs: tuple[Path, ...], out: Path) -> None:
    """Compare masks of several runs, such as with and without L_R (figure 3).

    RUNS are folders of runs on one data set; the images and the coarse masks are the first one's.
    Where the data set has the true parts, the share of pixels that agree with them is printed, and
    how far the masks are from the coarse ones (equation 4).
    """
    from reid_fsam.comparing import compare_masks

    checked_output(out, PICTURE_SUFFIXES)
    for line in compare_masks(runs, out):
        click.echo(line)
    click.echo(str(out))
