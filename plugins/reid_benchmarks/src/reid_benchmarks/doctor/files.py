"""What the files of a data set tell: every one is decoded once, and equal contents are found.

Contents are compared by hash, never by name: names repeat between splits, and a copied image keeps
its content under another name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_benchmarks.doctor.labels import Finding, search_of, short_name, some, span
from reid_core.contract.samples import DataSet, Sample
from reid_core.data.counts import splits_of
from reid_core.data.damage import damaged_files, image_files, side_cars
from reid_retrieval.errors import RetrievalError
from reid_retrieval.protocols import Protocol

_SHOWN = 3
"""How many errors a finding lists."""


@dataclass(frozen=True)
class Reading:
    """What came of reading files.

    Args:
        digests: hash of the content of every image that could be read, by path.
        sizes: heights and widths that occur.
        errors: why a file cannot be read, one line that names it, by path.
        side_cars: number of files of fields that were read.
    """

    digests: Mapping[Path, bytes]
    sizes: frozenset[tuple[int, int]]
    errors: Mapping[Path, str]
    side_cars: int


def count_files(dataset: DataSet) -> int:
    """Return how many files `read_files` will read."""
    return len(image_files(dataset)) + len(side_cars(dataset))


def read_files(
    dataset: DataSet, threads: int, advance: Callable[[int], None] | None = None
) -> Reading:
    """Decode all images and side-car files of a data set, each once; see `damaged_files`."""
    digests: dict[Path, bytes] = {}
    sizes: set[tuple[int, int]] = set()

    def see(path: Path, pixels: NDArray[np.uint8]) -> None:
        height, width = pixels.shape[:2]
        sizes.add((height, width))
        digests[path] = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()

    errors = damaged_files(dataset, threads, see, advance)
    return Reading(digests, frozenset(sizes), errors, len(side_cars(dataset)))


def check_files(
    dataset: DataSet, reading: Reading, protocols: Iterable[Protocol]
) -> Iterator[Finding]:
    """Yield what the files of a data set tell: what cannot be read, and what is there twice."""
    yield _check_reading(reading)
    yield from _check_people_of_duplicates(dataset, reading)
    yield from _check_copies(dataset, reading)
    yield _check_training(dataset, reading)
    yield from _check_queries(dataset, reading, protocols)


def _check_reading(reading: Reading) -> Finding:
    if reading.errors:
        listed = "; ".join(list(reading.errors.values())[:_SHOWN])
        more = "; ..." if len(reading.errors) > _SHOWN else ""
        text = f"{_many(reading.errors, 'file')} cannot be read: {listed}{more}"
        return Finding("files", f"{text}. Extract them again", "problem")
    heights, widths = zip(*reading.sizes, strict=True) if reading.sizes else ((0,), (0,))
    text = f"{_many(reading.digests, 'image')} can be read"
    text += f" and {reading.side_cars:,} files of fields" if reading.side_cars else ""
    return Finding("files", f"{text}; {span(heights)} pixels high, {span(widths)} wide")


def _images(found: Sized, kind: str = "") -> str:
    return f"{_many(found, f'{kind}image')} {'is' if len(found) == 1 else 'are'}"


def _many(found: Sized, what: str) -> str:
    return f"{len(found):,} {what}{'' if len(found) == 1 else 's'}"


def _check_people_of_duplicates(dataset: DataSet, reading: Reading) -> Iterator[Finding]:
    """Find images of equal content that are said to show different people."""
    for where, samples in (
        ("training", dataset.train.samples if dataset.train.identities else ()),
        ("test", (*dataset.query, *dataset.gallery)),
    ):
        shown: dict[bytes, set[int]] = defaultdict(set)
        names: dict[bytes, list[str]] = defaultdict(list)
        for sample in samples:
            digest = reading.digests.get(sample.path)
            if digest is not None and sample.pid >= 0:
                shown[digest].add(sample.pid)
                names[digest].append(short_name(sample))
        torn = [digest for digest, pids in shown.items() if len(pids) > 1]
        if torn:
            text = f"{_images(torn)} there as two people in {where}: "
            text += " = ".join(dict.fromkeys(names[torn[0]]))
            yield Finding("duplicates", f"{text}{', ...' if len(torn) > 1 else ''}", "problem")


def _check_copies(dataset: DataSet, reading: Reading) -> Iterator[Finding]:
    """Find images that are in a split more than once."""
    for split, samples in splits_of(dataset).items():
        again = [rows[-1] for rows in _by_digest(samples, reading).values() if len(rows) > 1]
        if again:
            names = some([short_name(samples[row]) for row in again])
            text = f"{split}: {_images(again)} there more than once: {names}"
            yield Finding("duplicates", text, "note")


def _check_training(dataset: DataSet, reading: Reading) -> Finding:
    tested = _by_digest((*dataset.query, *dataset.gallery), reading)
    both = [short_name(s) for s in dataset.train.samples if reading.digests.get(s.path) in tested]
    if both:
        text = f"{_images(both, 'training ')} in test, too: {some(both)}"
        return Finding("duplicates", f"{text}; results would be too good", "problem")
    return Finding("duplicates", "no training image is in test")


def _check_queries(
    dataset: DataSet, reading: Reading, protocols: Iterable[Protocol]
) -> Iterator[Finding]:
    """Say which queries are in the gallery themselves, and whether protocols keep them apart."""
    if not dataset.query or not dataset.gallery:
        return
    rows = _by_digest(dataset.gallery, reading)
    twins = {
        row: rows[digest]
        for row, sample in enumerate(dataset.query)
        if (digest := reading.digests.get(sample.path)) in rows and digest is not None
    }
    if not twins:
        yield Finding("duplicates", "no query image is in the gallery")
        return
    names = some([short_name(dataset.query[row]) for row in twins])
    text = f"{len(twins):,} query images are in the gallery: {names}"
    yield Finding("duplicates", text, "note")
    for protocol in protocols:
        found = _answered_by_themselves(dataset, protocol, twins)
        if found:
            text = f"{found:,} queries count as their own match by {protocol.name}"
            yield Finding("duplicates", f"{text}; results would be too good", "problem")
        elif found == 0:
            yield Finding("duplicates", f"as their own match they are junk by {protocol.name}")


def _answered_by_themselves(
    dataset: DataSet, protocol: Protocol, twins: Mapping[int, Sequence[int]]
) -> int | None:
    """Count the queries that find themselves; None where the protocol does not fit the data."""
    try:
        search, rows, others = search_of(dataset, protocol)
    except RetrievalError:
        return None
    count = 0
    for query, row in enumerate(rows.tolist()):
        if row in twins:
            own, junk = search.own(query)
            kept = set(others[own[~junk]].tolist())
            count += any(twin in kept for twin in twins[row])
    return count


def _by_digest(samples: Iterable[Sample], reading: Reading) -> dict[bytes, list[int]]:
    """Return the rows of samples by the content of their images."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        digest = reading.digests.get(sample.path)
        if digest is not None:
            rows[digest].append(row)
    return dict(rows)
