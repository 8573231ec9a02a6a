"""What readers return, and how it becomes a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_core.contract.samples import DataSet, Sample, Source

DISTRACTOR = -2
"""Identity of gallery images that show none of the people: a negative to every query.

Below 0, so that it is counted as no person; not -1, which would make them junk.
"""

NO_CAMERA = 0
"""The camera of every image of a set that has none: with one alone nothing tells cameras apart."""

Outfits = Mapping[tuple[int, int | str | None], int]
"""A number by person, and by what tells the person's outfits apart."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image or tracklet, with the labels that its data set states.

    Args:
        path: the image file.
        pid: identity, the data set's own number, or ``DISTRACTOR``.
        camid: camera, 0-based.
        outfit: tells this person's outfits apart; None where it is unknown.
        extra: further labels, see `reid_benchmarks.datasets`.
        split: another value of ``Sample.split`` than the list in which the record stands.
        frames: the images of a tracklet in the order of time, ``path`` among them.
    """

    path: Path
    pid: int
    camid: int
    outfit: int | str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    frames: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Records:
    """All images of a copy.

    Args:
        train, query, gallery: the images, each list in its final order.
        protocols: names of further protocols that this copy has the labels for.
        notices: what a user must know about this copy, a phrase each.
    """

    train: Sequence[Record] = ()
    query: Sequence[Record] = ()
    gallery: Sequence[Record] = ()
    protocols: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @classmethod
    def by_split(cls, read: Callable[[str], Sequence[Record]]) -> Records:
        """Return what ``read`` finds of each split."""
        return cls(read("train"), read("query"), read("gallery"))


def assemble(
    name: str, records: Records, protocols: tuple[str, ...], *, people_together: bool = False
) -> DataSet:
    """Return the data set of a copy's images, without a notice.

    Training identities are numbered ``0 .. N-1`` in the order of their numbers, test identities
    keep theirs. Outfits are numbered over all people, training first: ``0 .. M-1`` in training,
    and from ``M`` on in test.

    Args:
        name: of the data set, variant included.
        records: its images.
        protocols: what is reported.
        people_together: whether a number means one person in training and in test; training
            samples then keep it as ``extra["person"]``.
    """
    pids = {pid: number for number, pid in enumerate(sorted({r.pid for r in records.train}))}
    tested = (*records.query, *records.gallery)
    worn, worn_in_test = number_outfits(
        *([(r.pid, r.outfit) for r in side] for side in (records.train, tested))
    )
    train = tuple(_sample(r, "train", pids[r.pid], worn) for r in records.train)
    if people_together:
        train = tuple(
            replace(sample, extra={**sample.extra, "person": record.pid})
            for sample, record in zip(train, records.train, strict=True)
        )
    return DataSet(
        name=name,
        train=Source("main", train),
        query=tuple(_sample(r, "query", r.pid, worn_in_test) for r in records.query),
        gallery=tuple(_sample(r, "gallery", r.pid, worn_in_test) for r in records.gallery),
        protocols=protocols,
    )


def number_outfits(*sides: Iterable[tuple[int, int | str | None]]) -> list[Outfits]:
    """Return a number for every outfit of each side, person by person, in their order.

    Args:
        sides: whose outfits are worn, and what tells a person's apart; None where it is unknown.
            The second side's numbers go on where the first one's end.
    """
    found: list[Outfits] = []
    for worn in sides:
        keys = {(pid, outfit) for pid, outfit in worn if outfit is not None}
        start = sum(map(len, found))
        found.append({key: n for n, key in enumerate(sorted(keys, key=_outfit_order), start)})
    return found


def _outfit_order(key: tuple[int, int | str]) -> tuple[int, bool, int | str]:
    pid, outfit = key
    return pid, isinstance(outfit, str), outfit


def _sample(record: Record, split: str, pid: int, outfits: Outfits) -> Sample:
    clothes = -1 if record.outfit is None else outfits[record.pid, record.outfit]
    return Sample(
        record.path,
        pid,
        record.camid,
        clothes,
        record.split or split,
        extra=record.extra,
        frames=record.frames,
    )
