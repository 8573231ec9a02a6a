"""Pools: several images of a person count as one, by a feature made of all of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reid_retrieval.errors import DataError
from reid_retrieval.features import inverse_norms, squared_norms
from reid_retrieval.labels import IntArray, Labels

if TYPE_CHECKING:
    from reid_retrieval.features import FloatArray

TRACKLET = "tracklet"
"""The label that says which images are frames of one track."""

_ROWS_AT_ONCE = 4096
"""Images whose features are pooled at a time, unless a single pool has more."""


@dataclass(frozen=True)
class Pools:
    """Groups of images, in the order of their first ones.

    Args:
        rows: int64, rows of all images, group by group.
        starts: int64, where the groups start among them.
    """

    rows: IntArray
    starts: IntArray

    @classmethod
    def of(cls, labels: Labels, rows: IntArray, keys: Sequence[str]) -> Pools:
        """Group images that agree in all of some labels.

        Identities below 0 are nobody's: what shares such a number (distractors do) is not one
        person, so these images stay apart unless they are grouped by their tracklets.

        Args:
            labels: of all images.
            rows: those that take part, ascending.
            keys: names of the labels.
        """
        numbers: dict[tuple[object, ...], int] = {}
        values = zip(*(labels.column(key)[rows].tolist() for key in keys), strict=True)
        alone = labels.pids[rows] < 0 if TRACKLET not in keys else np.zeros(len(rows), np.bool_)
        named = (
            (None, place) if single else value
            for place, (value, single) in enumerate(zip(values, alone.tolist(), strict=True))
        )
        group = np.array([numbers.setdefault(value, len(numbers)) for value in named], np.int64)
        order = np.argsort(group, kind="stable")
        return cls(rows[order], np.searchsorted(group[order], np.arange(len(numbers))))

    @property
    def first(self) -> IntArray:
        """Row of the first image of every group, ascending."""
        return self.rows[self.starts]

    def require_alike(self, labels: Labels, keys: Sequence[str], what: str) -> None:
        """Refuse groups whose images differ in a label that a ranking asks for.

        Args:
            labels: of all images.
            keys: names of the labels; the identity is always one of them.
            what: which pools these are, for the error.

        Raises:
            DataError: names the label, a pool and two of its values.
        """
        sizes = np.diff(self.starts, append=len(self.rows))
        for key in ("pid", *sorted({*keys} - {"pid"})):
            column = labels.column(key)
            values, firsts = column[self.rows], np.repeat(column[self.first], sizes)
            odd = np.flatnonzero(values != firsts)
            if odd.size:
                place = int(odd[0])
                first = self.first[np.searchsorted(self.starts, place, side="right") - 1]
                raise DataError(
                    f"{what} holds images of {key} {firsts[place]} and {values[place]} (rows "
                    f"{first} and {self.rows[place]}): add '{key}' to the labels that it is pooled "
                    "by, or mend the labels"
                )

    def pooled(self, features: FloatArray, pooling: str = "mean") -> FloatArray:
        """Return one feature of every group.

        Args:
            features: ``N D`` of all images.
            pooling: one of `POOLINGS`.

        Returns:
            float32, one row per group; means are summed in float64.
        """
        made = np.empty((len(self.starts), features.shape[1]), np.float32)
        ends = np.append(self.starts[1:], len(self.rows))
        first = 0
        while first < len(made):
            start = int(self.starts[first])
            last = max(int(np.searchsorted(ends, start + _ROWS_AT_ONCE, side="right")), first + 1)
            part = features[self.rows[start : ends[last - 1]]]
            made[first:last] = POOLINGS[pooling](part, self.starts[first:last] - start)
            first = last
        return made


def _mean(features: FloatArray, starts: IntArray) -> FloatArray:
    """Return the means of groups of rows that begin at ``starts``."""
    sums = np.add.reduceat(features, starts, axis=0, dtype=np.float64)
    sizes = np.diff(starts, append=len(features))
    return np.asarray(sums / sizes[:, None], np.float32)


def _unit_mean(features: FloatArray, starts: IntArray) -> FloatArray:
    """Return the means of rows that were given length one; a row of zeros stays one."""
    units = features * inverse_norms(squared_norms(features))[:, None]
    sums = np.add.reduceat(units, starts, axis=0)
    sizes = np.diff(starts, append=len(features))
    return np.asarray(sums / sizes[:, None], np.float32)


def _max(features: FloatArray, starts: IntArray) -> FloatArray:
    """Return the largest value of every dimension."""
    return np.asarray(np.maximum.reduceat(features, starts, axis=0), np.float32)


POOLINGS: Mapping[str, Callable[[FloatArray, IntArray], FloatArray]] = {
    "mean": _mean,
    "unit-mean": _unit_mean,
    "max": _max,
}
"""How the features of a pool become one, by name (`Protocol.pooling`)."""
