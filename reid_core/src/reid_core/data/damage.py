"""Decode every file of a data set once, to find those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import FieldSpec
from reid_core.contract.samples import DataSet, Sample, renumbered
from reid_core.data.decoding import read_field
from reid_core.errors import DataError
from reid_core.images import read_image

_AT_ONCE = 1024
"""Files handed to the threads at a time; bounds the results that wait."""


def image_files(dataset: DataSet) -> list[Path]:
    """Return the images of a data set, each once."""
    samples = (*dataset.train.samples, *dataset.query, *dataset.gallery)
    return list(dict.fromkeys(path for sample in samples for path in sample.images))


def side_cars(dataset: DataSet) -> dict[Path, FieldSpec]:
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


def damaged_files(
    dataset: DataSet,
    threads: int,
    see: Callable[[Path, NDArray[np.uint8]], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[Path, str]:
    """Decode all images and side-car files of a data set, each once.

    Args:
        dataset: what a provider loaded.
        threads: how many decode at the same time.
        see: is shown every image that can be read, ``H W 3``, by the thread that decoded it.
        advance: is told how many more files are done.

    Returns:
        Why a file cannot be read, one line that names it, by path.
    """

    def read(file: tuple[Path, FieldSpec | None]) -> str | None:
        path, spec = file
        try:
            if spec is not None:
                read_field(path, spec)
                return None
            pixels = read_image(path)
        except DataError as error:
            return str(error)
        if see is not None:
            see(path, pixels)
        return None

    images = ((path, None) for path in image_files(dataset))
    files: list[tuple[Path, FieldSpec | None]] = [*images, *side_cars(dataset).items()]
    errors: dict[Path, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), _AT_ONCE):
            chunk = files[start : start + _AT_ONCE]
            for (path, _), error in zip(chunk, pool.map(read, chunk), strict=True):
                if error is not None:
                    errors[path] = error
                if advance is not None:
                    advance(1)
    return errors


def without_damaged(dataset: DataSet, threads: int) -> tuple[DataSet, list[str]]:
    """Leave out the samples whose image or side-car files cannot be read.

    Args:
        dataset: all its files are read once.
        threads: how many decode at the same time.

    Returns:
        The data set, training identities ``0 .. N-1`` again; and why, a line per damaged file.
    """
    damaged = damaged_files(dataset, threads)
    if not damaged:
        return dataset, []

    def whole(samples: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(s for s in samples if damaged.keys().isdisjoint((*s.images, *_files_of(s))))

    train = replace(dataset.train, samples=renumbered(whole(dataset.train.samples)))
    query, gallery = whole(dataset.query), whole(dataset.gallery)
    return replace(dataset, train=train, query=query, gallery=gallery), sorted(damaged.values())


def _files_of(sample: Sample, *fields: str) -> Iterator[Path]:
    """Yield the side-car files of a sample, of all its fields where none is named."""
    for name in fields or sample.fields:
        value = sample.fields[name]
        files = value if isinstance(value, tuple) else (value,)
        yield from (file for file in files if isinstance(file, Path))
