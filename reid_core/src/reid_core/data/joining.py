"""Several data sets as one training set, whose people, cameras and outfits stay apart.

A sample of a joined training set carries in ``extra["set"]`` which of them it is from: 0 is the
main one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.config import RunConfig
from reid_core.contract.names import check_choice
from reid_core.contract.samples import DataSet, Source
from reid_core.errors import ConfigError, DataError


def set_names(texts: Iterable[str]) -> list[str]:
    """Return what data sets of one run are called, each by a name of its own.

    Args:
        texts: ``NAME`` or ``NAME=FOLDER``.

    Returns:
        ``NAME``; of several of one name those with a folder take its name, too.

    Raises:
        ConfigError: the same data set twice.
    """
    pairs = [text.partition("=")[::2] for text in texts]
    often = Counter(name for name, _ in pairs)
    found = [
        f"{name}={Path(folder).name}" if folder and often[name] > 1 else name
        for name, folder in pairs
    ]
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise ConfigError(
            f"the data set '{twice[0]}' is named twice; name each once, and folders of one kind by "
            "folders of different names"
        )
    return found


def trained_on(config: RunConfig) -> tuple[str, ...]:
    """Return the names of the data sets that a run is trained on, without their folders."""
    return tuple(text.partition("=")[0] for text in (config.data.name, *config.data.also))


def set_number(name: str, names: Sequence[str], option: str) -> int:
    """Return which of the training sets is called so.

    Raises:
        ConfigError: none is.
    """
    check_choice(name, names, f"{option}: the run does not train on", ConfigError)
    return names.index(name)


def sets_of(source: Source) -> NDArray[np.int64]:
    """Return which of the joined data sets every sample is from, ``N``; all 0 where it is one."""
    return np.array([sample.extra.get("set", 0) for sample in source.samples], np.int64)


def joined(first: DataSet, others: Sequence[DataSet]) -> tuple[DataSet, list[str]]:
    """Add the training images of other data sets to those of one, whose test stays as it is.

    Numbers of people, cameras and outfits are moved behind those that are there. The fields are
    those that all carry in one layout.

    Args:
        first: the main data set.
        others: their training splits are added; their test splits are left out.

    Returns:
        The data set, and lines for the user.

    Raises:
        DataError: one has no training images, or one has identities and another has none.
    """
    notes: list[str] = []
    for number, other in enumerate(others, 1):
        source, ours = other.train, first.train
        if not source.samples:
            raise DataError(f"--also {other.name}: it has no training images")
        if ours.samples and source.identities != ours.identities:
            lacking = ours.name if source.identities else other.name
            raise DataError(
                f"--also {other.name}: '{lacking}' has no identities, the other one has"
            )
        there = (*first.train.samples, *first.query, *first.gallery)
        camid, clothes = (
            1 + max((getattr(sample, name) for sample in there), default=-1)
            for name in ("camid", "clothes")
        )
        moved = tuple(
            replace(
                sample,
                pid=_moved(sample.pid, ours.num_identities),
                camid=_moved(sample.camid, camid),
                clothes=_moved(sample.clothes, clothes),
                # A number of another data set, which must not be compared with the test's.
                extra={
                    **{name: value for name, value in sample.extra.items() if name != "person"},
                    "set": number,
                },
            )
            for sample in source.samples
        )
        shared = {n: spec for n, spec in ours.fields.items() if source.fields.get(n) == spec}
        lost = sorted({*ours.fields, *source.fields} - set(shared))
        if lost:
            notes.append(f"--also {other.name}: not all training images carry {', '.join(lost)}")
        train = replace(ours, samples=(*ours.samples, *moved), fields=shared)
        first = replace(first, name=f"{first.name}+{other.name}", train=train)
        if other.notice:
            notes.append(other.notice)
    return first, notes


def _moved(number: int, offset: int) -> int:
    """Return a number behind others; -1 stays what it is."""
    return number + offset if number >= 0 else number
