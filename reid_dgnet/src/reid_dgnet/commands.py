"""``reid dgnet``: images composed by a trained run, and how good they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from reid_core import PICTURE_SUFFIXES, checked_folder, checked_output

if TYPE_CHECKING:
    from reid_dgnet.generating import Composer

_RUN = click.argument("run", type=click.Path(path_type=Path))
_OUT = click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Picture.")
_SEED = click.option("--seed", type=click.IntRange(0), default=0, help="Of the random partners.")


@click.group()
def dgnet() -> None:
    """Compose images with a trained run, and measure them.

    RUN is always the folder of a run with `--plugins dgnet`, whose data set must still be there.
    """


@dgnet.group()
def generate() -> None:
    """Generate images: a grid of swaps, interpolations, or a whole set."""


@generate.command()
@_RUN
@click.option("--people", type=click.IntRange(1, 32), default=8, help="Rows and columns.")
@_OUT
def swaps(run: Path, people: int, out: Path) -> None:
    """Draw everybody's appearance in everybody's structure (figures 1 and 6)."""
    from reid_dgnet.pictures import draw_swaps

    checked_output(out, PICTURE_SUFFIXES)
    click.echo(f"one appearance per row: {draw_swaps(_composer(run), people, out)}")


@generate.command()
@_RUN
@click.option(
    "--codes",
    type=click.Choice(["appearance", "structure"]),
    default="appearance",
    help="Which code moves; the other one stays.",
)
@click.option("--rows", type=click.IntRange(1, 32), default=4, help="Pairs of people.")
@click.option("--steps", type=click.IntRange(2, 32), default=8, help="Images of a row.")
@_OUT
def interpolate(
    run: Path, codes: Literal["appearance", "structure"], rows: int, steps: int, out: Path
) -> None:
    """Draw images between two people (figures 5 and 9)."""
    from reid_dgnet.pictures import draw_interpolations

    checked_output(out, PICTURE_SUFFIXES)
    path = draw_interpolations(_composer(run), codes, rows, steps, out)
    click.echo(f"{codes} codes from left to right: {path}")


@generate.command("set")
@_RUN
@click.option("--per-image", type=click.IntRange(1), default=1, help="Partners of every image.")
@_SEED
@click.option("--with-real", is_flag=True, help="Put the real images beside them, test sets too.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="New folder.")
def write_set(run: Path, per_image: int, seed: int, with_real: bool, out: Path) -> None:
    """Write every training image's appearance in a random other one's structure.

    The folder can be trained on: `--data folder --data-root OUT`. A file is named after
    the identity of its appearance.
    """
    from reid_core.cli.progress import Screen
    from reid_dgnet.offline import write_generated

    checked_folder(out)
    assembly = _restored(run)
    total = per_image * len(assembly.ctx.main.samples)
    with Screen().bar("generating", total) as advance:
        count = write_generated(assembly.ctx, out, per_image, seed, with_real, advance)
    click.echo(f"{count} generated images: {out / 'train'}")


@dgnet.command()
@_RUN
@click.option("--pairs", type=click.IntRange(1), default=500, help="Pairs of images for SSIM.")
@_SEED
@click.option(
    "--inception",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights of the Inception network, for FID; without them there is none.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures.")
def quality(
    run: Path, pairs: int, seed: int, inception: Path | None, json_path: Path | None
) -> None:
    """Measure generated images: diversity (SSIM) and realism (FID), as in table 2."""
    from reid_dgnet.quality import frechet_distance, similarity_within_people

    if json_path is not None:
        checked_output(json_path, option="--json")
    assembly = _restored(run)
    found: dict[str, Any] = {"data": assembly.config.data.name, "seed": seed, "pairs": pairs}
    found |= similarity_within_people(assembly.ctx, pairs, seed)
    if inception is not None:
        found["fid"] = frechet_distance(assembly.ctx, inception, seed)
    for name, value in found.items():
        click.echo(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    if json_path:
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _restored(run: Path) -> Any:
    from reid_core import restore

    return restore(run, say=_silent)


def _composer(run: Path) -> Composer:
    from reid_dgnet.generating import Composer

    return Composer.of(_restored(run).ctx)


def _silent(line: str) -> None:
    """Say nothing."""
