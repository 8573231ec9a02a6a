"""``reid search``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reid_core import PICTURE_SUFFIXES, checked_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reid_search.embedding.inputs import Item
    from reid_search.gallery.gallery import Found


@click.command()
@click.argument("gallery", type=click.Path(path_type=Path))
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Answers each.")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="Leave out what is less similar; by default what `reid calibrate` stored, if anything.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per query.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the answers.")
@click.option("--model", help="Where the gallery's embedder is now, if it has moved.")
@click.option("--every", type=click.IntRange(1), default=1, help="Of videos, every so many frames.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
def search(
    gallery: Path,
    queries: tuple[str, ...],
    top: int,
    threshold: float | None,
    as_json: bool,
    picture: Path | None,
    model: str | None,
    every: int,
    device: str,
) -> None:
    """Find the pictures of a gallery that are most similar to others.

    QUERY is whatever `reid embed` takes, or another gallery, whose vectors are used. The similarity
    is the cosine; all of the gallery is compared. Answers are hints that a person has to look at.
    """
    if picture is not None:
        checked_output(picture, PICTURE_SUFFIXES, option="--picture")

    from reid_search.gallery.gallery import Gallery
    from reid_search.gallery.pictures import draw_answers
    from reid_search.gallery.queries import asked

    opened = Gallery.open(gallery)
    items, vectors, unread = asked(opened, queries, model=model, every=every, device=device)
    for reason in unread:
        click.echo(f"unreadable: {reason}", err=True)
    if threshold is None:
        threshold = opened.threshold
    answers = opened.nearest(vectors, top, threshold)
    show = _as_json if as_json else _as_text
    for item, found in zip(items, answers, strict=True):
        click.echo(show(item, found, threshold))
    if picture is not None:
        draw_answers(items, answers, picture)
        click.echo(f"picture: {picture}", err=True)
    if unread:
        sys.exit(1)


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
