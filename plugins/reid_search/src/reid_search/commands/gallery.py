"""``reid gallery``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from reid_search.embedding.inputs import Item


@click.group()
def gallery() -> None:
    """Look at a gallery, or remove pictures from it."""


@gallery.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Print what a gallery holds and what made it."""
    from reid_search.gallery.gallery import Gallery

    opened = Gallery.open(folder)
    found = opened.description
    click.echo(f"pictures: {found.count}, {found.dim} values each")
    click.echo(f"embedder: {found.model} ({found.fingerprint[:12]}), {found.weights}")
    size = found.preprocessing
    click.echo(f"input: {size['height']} x {size['width']}, {size['resize']}")
    threshold = opened.threshold
    said = "none; see reid calibrate" if threshold is None else f"{threshold:.3f}"
    click.echo(f"threshold: {said}")


@gallery.command("remove")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("patterns", nargs=-1, required=True, metavar="PATH...")
def remove(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove pictures from a gallery, with their vectors, for good.

    PATH is a file, a folder, or a pattern of paths ('*/visitor_*.jpg').
    """
    from reid_core import DataError
    from reid_search.gallery.gallery import Gallery

    opened = Gallery.open(folder)
    absolute = [str(Path(pattern).absolute()) for pattern in patterns]

    def unwanted(item: Item) -> bool:
        path = str(item.get("path", ""))
        return any(
            path == full or path.startswith(f"{full}/") or fnmatchcase(path, pattern)
            for full, pattern in zip(absolute, patterns, strict=True)
        )

    removed = opened.remove(unwanted)
    if not removed:
        raise DataError(f"{folder}: no picture of it is {' or '.join(patterns)}")
    click.echo(f"{folder}: {removed} removed, {len(opened)} left")
