"""``reid fsam``: look at what a run's parser has become; prepare poses for a run."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core import PICTURE_SUFFIXES, checked_output, write_json


@click.group()
def fsam() -> None:
    """Prepare runs of FSAM and look into them."""


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


@fsam.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--name", default="alphapose-results.json", show_default=True, help="Of every file.")
def poses(results: Path, out: Path, name: str) -> None:
    """Merge a pose estimator's results of many folders of images.

    RESULTS holds one file per folder of images, in folders of the same names: AlphaPose names an
    image without its folder, and some data sets repeat names in every folder. The merged file names
    images with their folders; give it to a run with -s fsam.poses=FILE.
    """
    from reid_fsam.pose_files import merge_results

    checked_output(out, (".json",))
    people = merge_results(results, name)
    write_json(out, people, None)
    click.echo(f"{out}: joints on {len(people)} images; give it with -s fsam.poses={out}")
