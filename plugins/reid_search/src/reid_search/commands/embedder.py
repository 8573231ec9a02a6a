"""``reid embedder``."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core import checked_folder
from reid_core.weights import EMBEDDER


@click.group()
def embedder() -> None:
    """Make embedders without a run."""


@embedder.command("make")
@click.option("--backbone", required=True, metavar="NAME", help="An encoder: timm's or a plugin's.")
@click.option(
    "--weights",
    default="published",
    show_default=True,
    metavar="FILE|published|random",
    help="A file, the weights that are published under the name, or none.",
)
@click.option("--height", type=click.IntRange(1), default=256, show_default=True)
@click.option("--width", type=click.IntRange(1), default=128, show_default=True)
@click.option("--pooling", type=click.Choice(["avg", "max"]), default="avg", show_default=True)
@click.option(
    "--last-stride",
    type=click.IntRange(1, 2),
    help="As model.last_stride of a run: 1 removes the last reduction of the stride.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Its folder.")
def make(
    backbone: str,
    weights: str,
    height: int,
    width: int,
    pooling: str,
    last_stride: int | None,
    seed: int,
    out: Path,
) -> None:
    """Make an embedder of an encoder alone: its map, pooled, with length one.

    Published weights and plain encoders can so be evaluated, exported, compared and searched with.
    """
    checked_folder(out)

    from reid_core import make_embedder

    made = make_embedder(
        backbone,
        (height, width),
        weights=weights,
        pooling="max" if pooling == "max" else "avg",
        last_stride=last_stride,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    out.mkdir(parents=True, exist_ok=True)
    made.save(out / EMBEDDER)
    click.echo(f"{out}: {backbone}, {height} x {width} -> {made.dim} values")
