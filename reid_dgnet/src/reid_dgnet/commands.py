"""``reid dgnet``: images composed by a trained run, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from reid_core import PICTURE_SUFFIXES, checked_folder, checked_output, write_json
from reid_core.cli.options import json_option

if TYPE_CHECKING:
    from reid_core import RunContext
    from reid_core.loop.assembly import Assembly
    from reid_dgnet.generating import Composer
    from reid_dgnet.people import Split
    from reid_dgnet.writing import NamedAfter

_RUN = click.argument("run", type=click.Path(path_type=Path))
_OUT = click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Picture.")
_SEED = click.option("--seed", type=click.IntRange(0), default=0, help="Of the random partners.")
_SPLIT = click.option(
    "--split",
    type=click.Choice(["train", "query", "gallery"]),
    default="train",
    help="Whose images are composed.",
)
_IMAGES = click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="A folder to compose the images below it instead, each of a person of its own.",
)


@click.group()
def dgnet() -> None:
    """Compose images with a trained run, and measure them.

    RUN is always the folder of a run with `--plugins dgnet`, or of imported weights, whose data set
    must still be there.
    """


@dgnet.group()
def generate() -> None:
    """Generate images: a grid of swaps, interpolations, or a whole set."""


@generate.command()
@_RUN
@click.option("--people", type=click.IntRange(1, 32), default=8, help="Rows and columns.")
@_SPLIT
@_IMAGES
@_OUT
def swaps(run: Path, people: int, split: Split, images: Path | None, out: Path) -> None:
    """Draw everybody's appearance in everybody's structure (figures 1 and 6)."""
    from reid_dgnet.pictures import draw_swaps

    checked_output(out, PICTURE_SUFFIXES)
    _, composer = _composer(run, split, images)
    path = draw_swaps(composer, people, out)
    click.echo(f"one appearance per row: {path}{_fewer(composer, people)}")


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
@_SPLIT
@_IMAGES
@_OUT
def interpolate(
    run: Path,
    codes: Literal["appearance", "structure"],
    rows: int,
    steps: int,
    split: Split,
    images: Path | None,
    out: Path,
) -> None:
    """Draw images between two people (figures 5 and 9)."""
    from reid_dgnet.pictures import draw_interpolations

    checked_output(out, PICTURE_SUFFIXES)
    _, composer = _composer(run, split, images)
    path = draw_interpolations(composer, codes, rows, steps, out)
    click.echo(f"{codes} codes from left to right: {path}{_fewer(composer, 2 * rows)}")


@generate.command("set")
@_RUN
@click.option("--per-image", type=click.IntRange(1), default=1, help="Partners of every image.")
@_SEED
@click.option(
    "--named-after",
    type=click.Choice(["structure", "appearance"]),
    default="structure",
    help="Whose identity a file carries.",
)
@click.option("--with-real", is_flag=True, help="Put the real images beside them, test sets too.")
@_SPLIT
@_IMAGES
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="New folder.")
def write_set(
    run: Path,
    per_image: int,
    seed: int,
    named_after: NamedAfter,
    with_real: bool,
    split: Split,
    images: Path | None,
    out: Path,
) -> None:
    """Write every image's appearance in the structure of random images of other people.

    A set of the training images, named after the structure's people, trains both features without a
    generator: `-s dgnet.offline=OUT`. One named after the appearance's is more images of the same
    people: `--data folder --data-root OUT`.
    """
    from reid_core.cli.progress import Screen
    from reid_dgnet.writing import copy_real, write_generated

    checked_folder(out)
    ctx, composer = _composer(run, split, images)
    with Screen().bar("generating", per_image * len(composer.samples)) as advance:
        count = write_generated(composer, out, per_image, seed, named_after, advance)
    if with_real:
        copy_real(ctx, out)
    click.echo(f"{count} generated images: {out / 'train'}")


@dgnet.command()
@_RUN
@click.option("--pairs", type=click.IntRange(1), default=10, help="Pairs of images of a person.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Rounds over all people.")
@_SEED
@click.option(
    "--inception",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights of the Inception network, for FID; without them there is none.",
)
@json_option
def quality(
    run: Path, pairs: int, rounds: int, seed: int, inception: Path | None, json_path: Path | None
) -> None:
    """Measure generated images: diversity ("SSIM") and realism (FID), as in table 2."""
    from reid_dgnet.generating import Composer
    from reid_dgnet.quality import diversity_within_people, frechet_distance, inception_weights

    weights = None if inception is None else inception_weights(inception)
    assembly = _restored(run)
    found: dict[str, Any] = {"data": assembly.config.data.name, "seed": seed}
    found |= {"pairs": pairs, "rounds": rounds}
    found |= diversity_within_people(Composer.of(assembly.ctx), pairs, rounds, seed)
    if weights is not None:
        found["fid"] = frechet_distance(assembly.ctx, weights, seed)
    for name, value in found.items():
        click.echo(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    if json_path:
        write_json(json_path, found)


@dgnet.command()
@_RUN
@click.option("--betas", default="0,0.25,0.5,0.75,1,2", help="Weights of the fine-grained feature.")
@json_option
def betas(run: Path, betas: str, json_path: Path | None) -> None:
    """Evaluate a trained run with other weights of the fine-grained feature (figure 8, right).

    A run that held identities out (`-s data.validation=0.13`) is evaluated on them, any other on
    its test images.
    """
    from reid_core import ConfigError
    from reid_dgnet.weighing import evaluate_betas

    try:
        values = [float(beta) for beta in betas.split(",")]
    except ValueError:
        raise ConfigError(f"--betas {betas}: expected numbers such as 0,0.5,1") from None
    wrong = [beta for beta in values if not beta >= 0]
    if wrong:
        raise ConfigError(f"--betas: a weight is 0 or more, not {wrong[0]:g}")
    found = evaluate_betas(_restored(run), values)
    for row in found:
        click.echo(
            f"beta {row['beta']:g}: rank-1 {100 * row['rank1']:.1f}, mAP {100 * row['map']:.1f} "
            f"({row['protocol']}, {row['data']})"
        )
    if json_path:
        write_json(json_path, found)


@dgnet.command("import")
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="id_*.pt of the authors' release.",
)
@click.option(
    "--generator",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="gen_*.pt of the same training.",
)
@click.option("--recipe", default="dgnet/market1501", help="Of the data set that they are of.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of that data set.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="New folder.")
def import_official(
    identity: Path, generator: Path, recipe: str, data_root: Path | None, out: Path
) -> None:
    """Make a run of the weights that the authors released (your own copy; CC BY-NC-SA 4.0).

    `reid dgnet generate` and `reid eval` then read OUT as they read a run that was trained here.
    """
    from reid_dgnet.official import imported_run

    checked_folder(out)
    taken, idle = imported_run(identity, generator, recipe, data_root, out)
    without = ", ".join(idle) or "none"
    click.echo(f"{len(taken)} tensors taken; {len(idle)} without a part in the model: {without}")
    click.echo(f"run: {out}")


def _restored(run: Path) -> Assembly:
    from reid_core import restore
    from reid_dgnet.plugin import Dgnet

    return restore(run, needs=Dgnet, say=lambda line: None)


def _fewer(composer: Composer, most: int) -> str:
    """Say of how many people a picture is that has room for more."""
    from reid_dgnet.people import different_people

    there = len(different_people(composer.samples, most))
    people = "1 person" if there == 1 else f"{there} people"
    return "" if there == most else f"; there are {people} to show, and room for {most}"


def _composer(run: Path, split: Split, images: Path | None) -> tuple[RunContext, Composer]:
    from reid_dgnet.generating import Composer
    from reid_dgnet.people import samples_in, samples_of

    given = samples_in(images) if images else None
    ctx = _restored(run).ctx
    return ctx, Composer.of(ctx, given or samples_of(ctx, split))
