"""``reid embed``."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click

from reid_core import ConfigError, checked_folder
from reid_core.cli.options import DEVICES
from reid_search.models import is_model


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] IMAGES...")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("gallery"),
    show_default=True,
    help="The gallery's folder; what it has already is not embedded again.",
)
@click.option(
    "--items",
    type=click.Choice(["jsonl", "parquet"]),
    help="How a new gallery says what its rows show: JSON lines (the default), or Parquet shards.",
)
@click.option("--every", type=click.IntRange(1), default=1, help="Of videos, every so many frames.")
@click.option("--device", default="auto", help=DEVICES)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="As engine.precision of a run.",
)
@click.option("--on", type=click.Choice(["ray"]), help="By actors of a Ray cluster (RAY_ADDRESS).")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="With --on ray: how many actors; by default one per GPU, or per core.",
)
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads that decode pictures.")
def embed(
    arguments: tuple[str, ...],
    out: Path,
    items: str | None,
    every: int,
    device: str,
    precision: str,
    on: str | None,
    workers: int | None,
    threads: int,
) -> None:
    """Describe pictures by vectors, in a gallery that `reid search` looks into.

    MODEL is a run, an embedder, an address or the name of shipped weights; without one, the shipped
    embedder is taken. IMAGES are folders, files, patterns ('shots/*.jpg'), videos, and tables
    (.csv, .jsonl) of a path, perhaps a box (left, top, right, bottom) and further columns.

    Called again, it adds what is new, and goes on where it was interrupted. Under torchrun, all
    processes share the work; with --on ray, the actors of a cluster do. The exit code is 1 where a
    picture could not be read.
    """
    model_text, images = split_model(arguments)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if workers is not None and on is None:
        raise ConfigError("--workers says how many actors --on ray has")
    if several and on is not None:
        raise ConfigError(f"--on {on} starts its own processes: call it without torchrun")
    checked_folder(out, empty=not (out / "gallery.json").exists())

    from reid_core.cli.progress import Screen
    from reid_core.machine.ranks import process_group, rank_0_first, world
    from reid_search.embedding.inputs import Inputs
    from reid_search.embedding.on_ray import embed_on_ray, require_ray
    from reid_search.embedding.worker import Worker
    from reid_search.gallery.filling import fill, open_or_create, over_ranks
    from reid_search.gallery.items import require_pyarrow
    from reid_search.models import open_model

    if items == "parquet":
        require_pyarrow()
    if on == "ray":
        require_ray()
    inputs = Inputs(images, every)
    total = inputs.check()
    model = open_model(model_text)
    with process_group(device) if several else nullcontext():
        with rank_0_first():
            gallery = open_or_create(out, model, items)
        first = world()[0] == 0
        screen = Screen()
        writing = gallery.writing() if first else nullcontext()
        with writing, screen.bar("embed", total if first else 0) as advance:
            if on == "ray":
                embed_shards = partial(
                    embed_on_ray,
                    embedder=model.embedder,
                    device=device,
                    precision=precision,
                    threads=threads,
                    workers=workers,
                    advance=advance,
                )
            else:
                worker = Worker(model.embedder, device, precision, threads)
                embed_shards = partial(over_ranks, worker=worker, advance=advance)
            done = fill(gallery, inputs, embed_shards, say=screen.say)
        if not first:
            return
    there = f", {done.there} were there" if done.there else ""
    pictures = "1 picture" if len(gallery) == 1 else f"{len(gallery)} pictures"
    click.echo(f"{out}: {pictures} by {model.name}; {done.added} added{there}")
    if done.unread:
        click.echo(f"could not be read, and named above: {done.unread}", err=True)
        sys.exit(1)


def split_model(arguments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return MODEL, or None where the first argument is none, and the other arguments.

    Raises:
        ConfigError: nothing but a model, or one among the pictures.
    """
    for text in arguments[1:]:
        if is_model(text):
            raise ConfigError(f"{text} is a model: name one alone, before the pictures")
    if not is_model(arguments[0]):
        return None, arguments
    if len(arguments) == 1:
        raise ConfigError(f"{arguments[0]} is a model: name pictures behind it")
    return arguments[0], arguments[1:]
