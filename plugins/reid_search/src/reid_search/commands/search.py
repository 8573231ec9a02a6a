"""``reid search``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from reid_core import PICTURE_SUFFIXES, ConfigError, checked_output
from reid_core.cli.options import DEVICES
from reid_search.commands.numbers import Finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from reid_search.embedding.inputs import Item
    from reid_search.gallery.gallery import Found, Gallery


@click.command()
@click.argument("gallery", type=click.Path(path_type=Path))
@click.argument("queries", nargs=-1, metavar="QUERY...")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Answers each.")
@click.option(
    "--threshold",
    type=Finite(-1, 1),
    help="Leave out what is less similar; by default what `reid calibrate` stored, if anything.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per query.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the answers.")
@click.option(
    "--engine",
    metavar="qdrant://HOST/COLLECTION",
    help="Let a Qdrant collection answer, which is filled from the gallery before.",
)
@click.option("--indexed", is_flag=True, help="With --engine: by its index, fast, not exactly.")
@click.option(
    "--export",
    type=click.Choice(["faiss", "usearch", "qdrant"]),
    help="Hand the gallery over to an engine, as --out; without any QUERY.",
)
@click.option(
    "--out",
    "-o",
    metavar="FILE|ADDRESS",
    help="Of --export: the index's file, or qdrant://HOST/COLLECTION.",
)
@click.option("--model", help="Where the gallery's embedder is now, if it has moved.")
@click.option("--every", type=click.IntRange(1), default=1, help="Of videos, every so many frames.")
@click.option("--device", default="auto", help=DEVICES)
def search(
    gallery: Path,
    queries: tuple[str, ...],
    top: int,
    threshold: float | None,
    as_json: bool,
    picture: Path | None,
    engine: str | None,
    indexed: bool,
    export: str | None,
    out: str | None,
    model: str | None,
    every: int,
    device: str,
) -> None:
    """Find the pictures of a gallery that are most similar to others.

    QUERY is whatever `reid embed` takes, or another gallery, whose vectors are used. The similarity
    is the cosine; all of the gallery is compared. Answers are hints that a person has to look at.
    """
    if export is not None or out is not None:
        _refuse_idle()
        _export(gallery, queries, export, out)
        return
    if not queries:
        raise ConfigError("name pictures to look for behind the gallery, or --export")
    if indexed and engine is None:
        raise ConfigError("--indexed says how an --engine searches; the gallery itself is exact")
    if engine is not None:
        from reid_search.engines.qdrant import Address

        Address.parse(engine)
    if picture is not None:
        checked_output(picture, PICTURE_SUFFIXES, option="--picture")

    from reid_search.embedding.inputs import printable
    from reid_search.gallery.gallery import Gallery
    from reid_search.gallery.pictures import draw_answers
    from reid_search.gallery.queries import asked

    opened = Gallery.open(gallery)
    items, vectors, unread = asked(opened, queries, model=model, every=every, device=device)
    for reason in unread:
        click.echo(f"unreadable: {reason}", err=True)
    if threshold is None:
        threshold = opened.threshold
    if engine is None:
        answers = opened.nearest(vectors, top, threshold)
    else:
        answers = _by_engine(opened, engine, vectors, top, threshold, exact=not indexed)
    show = _as_json if as_json else _as_text
    for item, found in zip(items, answers, strict=True):
        click.echo(printable(show(item, found, threshold)))
    if picture is not None:
        draw_answers(items, answers, picture)
        click.echo(f"picture: {picture}", err=True)
    if unread:
        sys.exit(1)


def _refuse_idle() -> None:
    """Refuse, beside ``--export``, options that would do nothing."""
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        stated = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if stated and name not in ("gallery", "queries", "export", "out"):
            raise ConfigError(f"--export hands the gallery over whole; leave out {option.opts[0]}")


def _by_engine(
    gallery: Gallery,
    engine: str,
    vectors: NDArray[np.float32],
    top: int,
    threshold: float | None,
    *,
    exact: bool,
) -> list[list[Found]]:
    """Fill a collection with what it lacks, ask it, and say how far it agrees with ourselves."""
    from reid_core.cli.progress import Screen
    from reid_search.engines.qdrant import opened, recall

    with opened(engine) as collection:
        with Screen().bar("fill", len(gallery)) as advance:
            sent = collection.fill(gallery, advance)
        answers = collection.nearest(vectors, top, exact=exact)
    share = recall(answers, gallery.nearest(vectors, top))
    click.echo(
        f"{engine}: {sent} rows sent; recall of the exact search at {top}: {share:.4f}", err=True
    )
    lowest = -1.0 if threshold is None else threshold
    return [[f for f in found if f.similarity >= lowest] for found in answers]


def _export(gallery: Path, queries: Sequence[str], export: str | None, out: str | None) -> None:
    if export is None or out is None or queries:
        raise ConfigError("--export ENGINE and --out belong together, without any QUERY")

    from reid_core.cli.progress import Screen
    from reid_search.engines.exporting import SUFFIXES, export_index, require_engine
    from reid_search.engines.qdrant import Address, opened
    from reid_search.gallery.gallery import Gallery

    if export == "qdrant":
        Address.parse(out)
    else:
        checked_output(Path(out), SUFFIXES[export])
    require_engine(export)
    found = Gallery.open(gallery)
    with Screen().bar("export", len(found)) as advance:
        if export == "qdrant":
            with opened(out) as collection:
                sent = collection.fill(found, advance)
            click.echo(f"{out}: {len(found)} rows, {sent} of them new")
        else:
            table = export_index(found, export, Path(out), advance)
            click.echo(f"{out}: {len(found)} rows; their items: {table}")


def _as_json(item: Item, found: Sequence[Found], threshold: float | None) -> str:
    answers = [{"row": f.row, "similarity": f.similarity, "item": f.item} for f in found]
    content = {"query": item, "threshold": threshold, "found": answers}
    return json.dumps(content, ensure_ascii=False)


def _as_text(item: Item, found: Sequence[Found], threshold: float | None) -> str:
    lines = [named(item)]
    lines += (f"  {n:>3}  {f.similarity:+.3f}  {named(f.item)}" for n, f in enumerate(found, 1))
    if not found:
        lines.append(f"  nobody: no picture is as similar as {threshold:.3f}")
    return "\n".join(lines)


def named(item: Item) -> str:
    """Return what an item shows, in a line: path, frame and box."""
    text = str(item.get("path", "no file"))
    if "frame" in item:
        text += f" frame {item['frame']}"
    if "box" in item:
        text += " (" + ", ".join(f"{value:g}" for value in item["box"]) + ")"
    return text
