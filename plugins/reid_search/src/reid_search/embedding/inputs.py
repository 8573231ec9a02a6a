"""What shall be embedded: folders, globs, files, tables of crops and videos, as items in order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_core import DataError
from reid_search.embedding.tables import Table, is_table
from reid_search.embedding.videos import frames_of, is_video

Item = Mapping[str, Any]
"""One row: ``path``; ``frame`` of a video, from 0; ``box``; and whatever else the user has said."""

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".jpe", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
)
"""Files of a folder that are taken for pictures; files that are named are taken as they are."""


class Inputs:
    """The items that a command's IMAGES mean, in a fixed order; iterated as often as needed.

    Folders are gone through with all that is in them, names in order. A table is a ``.csv`` or a
    ``.jsonl``; see `Table`.

    Args:
        texts: folders, files, patterns (``shots/*.jpg``), tables, videos.
        every: of a video, every so many frames.

    Raises:
        DataError: nothing is called so, or a table cannot be used; names it.
    """

    def __init__(self, texts: Sequence[str | Path], every: int = 1) -> None:
        self.every = every
        self._sources: list[Path | Table] = []
        for text in texts:
            for path in _named(str(text)):
                self._sources.append(Table(path) if is_table(path) else path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for source in self._sources:
            if isinstance(source, Table):
                yield from source
            elif source.is_dir():
                for path in _within(source):
                    yield from self._of_file(path)
            else:
                yield from self._of_file(source)

    def _of_file(self, path: Path) -> Iterator[dict[str, Any]]:
        where = os.path.abspath(path)
        if is_video(path):
            try:
                count = frames_of(path)
            except DataError:
                count = 0
            # Whoever reads the first frame of a video without frames says what is wrong with it.
            yield from ({"path": where, "frame": n} for n in range(0, max(count, 1), self.every))
        else:
            yield {"path": where}

    def check(self) -> int:
        """Return how many items there are, after a look at what can be seen without decoding.

        Raises:
            DataError: there is none, or a box of a table shows nothing of its frame.
        """
        for source in self._sources:
            if isinstance(source, Table):
                source.check_boxes()
        count = sum(1 for _ in self)
        if not count:
            names = ", ".join(str(getattr(s, "path", s)) for s in self._sources)
            raise DataError(f"{names}: there are no pictures ({_suffixes()})")
        return count


def _named(text: str) -> Iterable[Path]:
    path = Path(text)
    if path.exists():
        return [path]
    if glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise DataError(f"{text}: no file fits this pattern")
        return [Path(name) for name in found]
    raise DataError(f"{text}: no such file or folder")


def printable(text: str) -> str:
    """Return a text with escapes where a file's name in it has bytes that are not UTF-8.

    The escapes are JSON's, too: within a line of JSON they mean what they stand for.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _within(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Yield the pictures and videos of a folder and of those in it.

    A folder that cannot be listed is yielded itself: whoever reads it names it. A link to one of
    those ``above`` is left out: its pictures are there already.
    """
    try:
        state = folder.stat()
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        yield folder
        return
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    for name in names:
        path = folder / name
        if name.startswith("."):
            continue
        if os.path.isdir(path):
            yield from _within(path, above | {here})
        elif path.suffix.lower() in IMAGE_SUFFIXES or is_video(path):
            yield path


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
