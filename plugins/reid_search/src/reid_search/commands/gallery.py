"""``reid gallery``."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

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

    PATH is a file, a folder, or a pattern of paths ('*/visitor_*.jpg'). What is the name of a
    picture or of a folder is no pattern; where one PATH fits nothing, nothing is removed.
    """
    from reid_core import DataError
    from reid_search.gallery.gallery import Gallery

    opened = Gallery.open(folder)
    # As `reid embed` writes paths; a gallery that was filled from Python may have others.
    names = {pattern: {pattern, os.path.abspath(pattern)} for pattern in patterns}

    def named(path: str, pattern: str) -> bool:
        return any(
            path == name or path.startswith(os.path.join(name, "")) for name in names[pattern]
        )

    with opened.writing():
        fitting: dict[str, Callable[[str, str], bool]] = {}
        for item in opened.items():
            path = str(item.get("path", ""))
            for pattern in patterns:
                if named(path, pattern):
                    fitting[pattern] = named
                elif pattern not in fitting and fnmatchcase(path, pattern):
                    fitting[pattern] = fnmatchcase
        missing = [pattern for pattern in patterns if pattern not in fitting]
        if missing:
            raise DataError(f"{folder}: no picture of it is {' or '.join(missing)}")

        def unwanted(item: Item) -> bool:
            path = str(item.get("path", ""))
            return any(fits(path, pattern) for pattern, fits in fitting.items())

        removed = opened.remove(unwanted)
    click.echo(f"{folder}: {removed} removed, {len(opened)} left")
