"""Multi-query: several images of a person are one query, by the mean of their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reid_retrieval.labels import IntArray, Labels

if TYPE_CHECKING:
    from reid_retrieval.features import FloatArray


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

        Args:
            labels: of all images.
            rows: those that take part, ascending.
            keys: names of the labels.
        """
        numbers: dict[tuple[object, ...], int] = {}
        values = zip(*(labels.column(key)[rows].tolist() for key in keys), strict=True)
        group = np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
        order = np.argsort(group, kind="stable")
        return cls(rows[order], np.searchsorted(group[order], np.arange(len(numbers))))

    @property
    def first(self) -> IntArray:
        """Row of the first image of every group, ascending."""
        return self.rows[self.starts]

    def means(self, features: FloatArray) -> FloatArray:
        """Return the mean feature of every group.

        Args:
            features: ``N D`` of all images.

        Returns:
            float32, one row per group, summed in float64.
        """
        sums = np.add.reduceat(features[self.rows], self.starts, axis=0, dtype=np.float64)
        sizes = np.diff(self.starts, append=len(self.rows))
        return np.asarray(sums / sizes[:, None], np.float32)
