"""Writing a whole data set: once, by one process at a time, and resumable at any file.

A folder is one of three: empty, begun (it holds a note of what it is going to be), or whole (it
holds a card, which is written last). An interrupted generation is continued to the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from reid_core import DataError
from reid_core.data.encoding import write_whole
from reid_core.outputs import PART
from reid_synthpeople.atlas import LAYOUT
from reid_synthpeople.cards import (
    CARD,
    INDEX,
    README,
    STARTED,
    Order,
    card_of,
    read_card,
    read_started,
    readme_of,
)
from reid_synthpeople.chunks import Chunk, chunks_of, forget_world, one_thread, write_chunk
from reid_synthpeople.layouts import ROOTS, TEXTURES
from reid_synthpeople.loading import Row, index_text, lacking, read_index
from reid_synthpeople.workers import WorkerError, write_chunks

Advance = Callable[[int, int], None]
"""Is told how many images are done, of how many."""

_LOCK = ".lock"

_MOST_WORKERS = 8
_CHUNKS_PER_WORKER = 16
"""Fewer are rendered sooner than another process has started."""


def write(
    order: Order,
    folder: Path,
    workers: int = 0,
    advance: Advance = lambda done, total: None,
) -> None:
    """Write what was ordered into a folder, or go on with what was begun there.

    Another process that does the same at the same time is waited for.

    Args:
        order: what to write.
        folder: empty, or with the same order, begun or whole.
        workers: processes that render, 0 for one per core; the files do not depend on it.
        advance: is told about the progress.

    Raises:
        DataError: the folder holds something else, or cannot be written to.
    """
    try:
        if made(order, folder) is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Where another process is at work, what it has begun is looked at when it has ended.
        if _LOCK not in (there := os.listdir(folder)):
            _check(order, folder, there)
        with FileLock(folder / _LOCK):
            if made(order, folder) is None:  # otherwise another process was first
                _check(order, folder, os.listdir(folder))
                _begin(order, folder)
                _write(order, folder, _number_of(workers), advance)
            with suppress(OSError):
                os.unlink(folder / _LOCK)
    except WorkerError as error:
        raise DataError(
            f"{folder}: a process that renders has ended by itself ({error}); the next try goes on "
            "where it stopped, with fewer processes after -s synthpeople.workers=1"
        ) from error
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or name "
            "another folder (--out DIR, or REID_CACHE=DIR for the cache); what is there is kept "
            "and the next try goes on from it"
        ) from error


def made(order: Order, folder: Path) -> tuple[dict[str, Any], list[Row]] | None:
    """Return card and index of a folder that holds an order whole, or None."""
    card = read_card(folder)
    if card is None or card.get("order") != order.stamp():
        return None
    with suppress(DataError):
        rows = read_index(folder)
        if not lacking(folder, card, rows):
            return card, rows
    return None


def _stamp(folder: Path) -> dict[str, Any] | None:
    """Return the order that a folder was made or begun with."""
    card = read_card(folder)
    return card.get("order") if card else read_started(folder)


def _check(order: Order, folder: Path, there: Sequence[str]) -> None:
    """Refuse a folder that is neither empty nor begun with this very order.

    What was there is listed before: whoever begins in between has put nothing into that list.
    """
    found = _stamp(folder)
    others = [n for n in there if n != _LOCK and not n.startswith(PART)]
    if found is None and others:
        raise DataError(f"{folder} is not empty and holds no synthetic people; name another folder")
    if found not in (None, order.stamp()):
        raise DataError(
            f"{folder} holds other synthetic people ({_told(found)}) than are asked for "
            f"({_told(order.stamp())}); name another folder"
        )


def _begin(order: Order, folder: Path) -> None:
    """Note what a folder is going to be, and remove what a killed process left half-written."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(PART):
                Path(parent, name).unlink()
    write_whole(folder / STARTED, _json(order.stamp()))
    (folder / CARD).unlink(missing_ok=True)


def _write(order: Order, folder: Path, workers: int, advance: Advance) -> None:
    plan = order.plan()
    chunks = chunks_of(plan, folder, order.mask_noise)
    for parent in {(folder / file).parent for chunk in chunks for file in chunk.files}:
        parent.mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.sha256(), 0
    advance(0, len(plan))
    for chunk, parameters in zip(chunks, _written(chunks, workers), strict=True):
        digest.update(parameters.encode())
        done += len(chunk.entries)
        advance(done, len(plan))
    card = card_of(order, plan, LAYOUT, digest.hexdigest()[:16])
    texts = {**plan.texts, INDEX: index_text(plan), README: readme_of(order, card)}
    if plan.textures:
        texts[f"{TEXTURES}/layout.txt"] = f"{LAYOUT}\n"
    if plan.variant in ROOTS:  # the tree that could be taken for the real set
        texts[f"{ROOTS[plan.variant]}/{README}"] = texts[README]
    for file, text in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / file, text.encode())
    write_whole(folder / CARD, _json(card))
    (folder / STARTED).unlink()


def _written(chunks: Sequence[Chunk], workers: int) -> Iterator[str]:
    """Write chunks and yield the hashes of their parameters, in order."""
    processes = min(workers, len(chunks) // _CHUNKS_PER_WORKER)
    if processes <= 1:
        try:
            with one_thread():
                yield from map(write_chunk, chunks)
        finally:
            forget_world()
        return
    yield from write_chunks(chunks, processes)


def _number_of(workers: int) -> int:
    if workers:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def _told(stamp: dict[str, Any] | None) -> str:
    return " ".join(f"{key}={value}" for key, value in (stamp or {}).items())


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
