"""The data doctor's second half: every file is decoded once, and files of equal content are found.

Contents are compared by hash, never by name: names repeat between splits, and a copied image keeps
its content under another name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from reid_core.contract.fields import FieldSpec
from reid_core.contract.samples import DataSet, Sample, renumbered
from reid_core.data.counts import splits_of
from reid_core.data.decoding import read_field
from reid_core.data.doctor import Finding, short_name, some, span
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_retrieval.errors import RetrievalError
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import Protocol
from reid_retrieval.searching import Search

_AT_ONCE = 1024
"""Files handed to the threads at a time; bounds the results that wait."""

_SHOWN = 3
"""How many errors a finding lists."""

_Item = TypeVar("_Item")


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


@dataclass(frozen=True)
class _Outcome:
    digest: bytes | None = None
    size: tuple[int, int] | None = None
    error: str | None = None


def count_files(dataset: DataSet) -> int:
    """Return how many files `read_files` will read."""
    return len(_images(dataset)) + len(_side_cars(dataset))


def read_files(
    dataset: DataSet, threads: int, advance: Callable[[int], None] | None = None
) -> Reading:
    """Decode all images and side-car files of a data set, each once.

    Args:
        dataset: what a provider loaded.
        threads: how many decode at the same time.
        advance: is told how many more files are done.
    """
    images, side_cars = _images(dataset), _side_cars(dataset)
    digests: dict[Path, bytes] = {}
    sizes: set[tuple[int, int]] = set()
    errors: dict[Path, str] = {}

    def done(outcomes: Iterable[tuple[Path, _Outcome]]) -> None:
        for path, outcome in outcomes:
            if outcome.error is not None:
                errors[path] = outcome.error
            if outcome.digest is not None and outcome.size is not None:
                digests[path] = outcome.digest
                sizes.add(outcome.size)
            if advance:
                advance(1)

    with ThreadPoolExecutor(threads) as pool:
        for paths in _chunks(images):
            done(zip(paths, pool.map(_read_image, paths), strict=True))
        for pairs in _chunks(list(side_cars.items())):
            read = pool.map(lambda pair: _read_field(*pair), pairs)
            done(zip((path for path, _ in pairs), read, strict=True))
    return Reading(digests, frozenset(sizes), errors, len(side_cars))


def without_damaged(dataset: DataSet, threads: int) -> tuple[DataSet, list[str]]:
    """Leave out the samples whose image or side-car files cannot be read.

    Args:
        dataset: all its files are read once.
        threads: how many decode at the same time.

    Returns:
        The data set, training identities ``0 .. N-1`` again; and why, a line per damaged file.
    """
    damaged = read_files(dataset, threads).errors
    if not damaged:
        return dataset, []

    def whole(samples: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(s for s in samples if damaged.keys().isdisjoint((*s.images, *_files_of(s))))

    train = replace(dataset.train, samples=renumbered(whole(dataset.train.samples)))
    query, gallery = whole(dataset.query), whole(dataset.gallery)
    return replace(dataset, train=train, query=query, gallery=gallery), sorted(damaged.values())


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
        text = f"{len(reading.errors):,} files cannot be read: {listed}{more}"
        return Finding("files", f"{text}. Extract them again", "problem")
    heights, widths = zip(*reading.sizes, strict=True) if reading.sizes else ((0,), (0,))
    text = f"{len(reading.digests):,} images can be read"
    text += f" and {reading.side_cars:,} files of fields" if reading.side_cars else ""
    return Finding("files", f"{text}; {span(heights)} pixels high, {span(widths)} wide")


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
            text = f"{len(torn):,} images are there as two people in {where}: "
            text += " = ".join(dict.fromkeys(names[torn[0]]))
            yield Finding("duplicates", f"{text}{', ...' if len(torn) > 1 else ''}", "problem")


def _check_copies(dataset: DataSet, reading: Reading) -> Iterator[Finding]:
    """Find images that are in a split more than once."""
    for split, samples in splits_of(dataset).items():
        again = [rows[-1] for rows in _by_digest(samples, reading).values() if len(rows) > 1]
        if again:
            names = some([short_name(samples[row]) for row in again])
            text = f"{split}: {len(again):,} images are there more than once: {names}"
            yield Finding("duplicates", text, "note")


def _check_training(dataset: DataSet, reading: Reading) -> Finding:
    tested = _by_digest((*dataset.query, *dataset.gallery), reading)
    both = [short_name(s) for s in dataset.train.samples if reading.digests.get(s.path) in tested]
    if both:
        text = f"{len(both):,} training images are in test, too: {some(both)}"
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
    queries, gallery = Labels.of_samples(dataset.query), Labels.of_samples(dataset.gallery)
    try:
        search = Search(protocol, queries, gallery)
    except RetrievalError:
        return None
    count = 0
    for query, row in enumerate(search.query_rows.tolist()):
        if row in twins:
            own, junk = search.own(query)
            kept = set(search.gallery_rows[own[~junk]].tolist())
            count += any(twin in kept for twin in twins[row])
    return count


def _images(dataset: DataSet) -> list[Path]:
    samples = (*dataset.train.samples, *dataset.query, *dataset.gallery)
    return list(dict.fromkeys(path for sample in samples for path in sample.images))


def _side_cars(dataset: DataSet) -> dict[Path, FieldSpec]:
    """Return the files of fields and what each of them should hold."""
    found: dict[Path, FieldSpec] = {}
    for samples, specs in (
        (dataset.train.samples, dataset.train.fields),
        ((*dataset.query, *dataset.gallery), dataset.query_fields),
    ):
        for sample in samples:
            for name, spec in specs.items():
                found.update(dict.fromkeys(_files_of(sample, name), spec))
    return found


def _files_of(sample: Sample, *fields: str) -> Iterator[Path]:
    """Yield the side-car files of a sample, of all its fields where none is named."""
    for name in fields or sample.fields:
        value = sample.fields[name]
        files = value if isinstance(value, tuple) else (value,)
        yield from (file for file in files if isinstance(file, Path))


def _read_image(path: Path) -> _Outcome:
    try:
        height, width = read_image(path).shape[:2]
    except DataError as error:
        return _Outcome(error=str(error))
    return _Outcome(hashlib.blake2b(path.read_bytes(), digest_size=16).digest(), (height, width))


def _read_field(path: Path, spec: FieldSpec) -> _Outcome:
    try:
        read_field(path, spec)
    except DataError as error:
        return _Outcome(error=str(error))
    return _Outcome()


def _by_digest(samples: Iterable[Sample], reading: Reading) -> dict[bytes, list[int]]:
    """Return the rows of samples by the content of their images."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        digest = reading.digests.get(sample.path)
        if digest is not None:
            rows[digest].append(row)
    return dict(rows)


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
