"""Several data sets as one training set, whose people, cameras and outfits stay apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reid_core.contract.samples import DataSet, Sample
from reid_core.errors import DataError


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
    notes = []
    for other in others:
        source, ours = other.train, first.train
        if not source.samples:
            raise DataError(f"--also {other.name}: it has no training images")
        if ours.samples and source.identities != ours.identities:
            lacking = ours.name if source.identities else other.name
            raise DataError(
                f"--also {other.name}: '{lacking}' has no identities, the other one has"
            )
        camid, clothes = (
            1 + max((getattr(s, name) for s in _all(first)), default=-1)
            for name in ("camid", "clothes")
        )
        moved = tuple(
            replace(
                sample,
                pid=_moved(sample.pid, ours.num_identities),
                camid=_moved(sample.camid, camid),
                clothes=_moved(sample.clothes, clothes),
                # A number of another data set, which must not be compared with the test's.
                extra={name: value for name, value in sample.extra.items() if name != "person"},
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


def _all(dataset: DataSet) -> Iterable[Sample]:
    return (*dataset.train.samples, *dataset.query, *dataset.gallery)


def _moved(number: int, offset: int) -> int:
    """Return a number behind others; -1 stays what it is."""
    return number + offset if number >= 0 else number
