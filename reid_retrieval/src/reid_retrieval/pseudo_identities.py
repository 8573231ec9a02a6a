"""Clusters in place of identities: enough of them for a batch, or what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from reid_retrieval.clustering import count_of, dbscan
from reid_retrieval.distances import jaccard_distances
from reid_retrieval.labels import IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from reid_retrieval.features import FeatureArray

_STEP = 0.05
"""Distance between the values of eps that are tried where the wanted one gives too few clusters."""


@dataclass(frozen=True)
class PseudoIdentities:
    """Clusters of images.

    Args:
        labels: int64 ``N``, clusters from 0; -1 for outliers.
        eps: what they were found with.
        wanted: how many there had to be.
        trouble: what was wrong at the wanted eps and what was done, in words; empty where nothing
            was wrong.
    """

    labels: IntArray
    eps: float
    wanted: int
    trouble: str = ""

    @property
    def count(self) -> int:
        """Number of clusters."""
        return count_of(self.labels)

    @property
    def enough(self) -> bool:
        """Whether there are as many as wanted."""
        return self.count >= self.wanted


def cluster_at_least(
    features: FeatureArray,
    least: int,
    eps: float = 0.6,
    min_samples: int = 4,
    *,
    k1: int = 30,
    k2: int = 6,
    adapt: bool = True,
) -> PseudoIdentities:
    """Cluster images by DBSCAN on Jaccard distances; with the nearest eps that gives enough.

    Distances beyond ``eps`` are made only where another one has to be tried.

    Args:
        features: ``N D``.
        least: clusters that a batch needs; at least 2 are always wanted, for with a single one
            there is nothing to contrast.
        eps, min_samples, k1, k2: as for `cluster`.
        adapt: try others, in steps of 0.05 from near to far, the smaller first; False leaves the
            wanted one.

    Returns:
        The clusters; those of the wanted eps, not `PseudoIdentities.enough`, where none gives
        enough.

    Raises:
        ConfigError: a setting is out of range.
        DataError: features are unusable.

    Example:
        >>> import numpy as np
        >>> people = np.repeat(np.eye(2), 3, axis=0)
        >>> found = cluster_at_least(people, 2, eps=0.5, min_samples=2, k1=3, k2=1)
        >>> found.labels, found.eps, found.enough
        (array([0, 0, 0, 1, 1, 1]), 0.5, True)
        >>> cluster_at_least(people, 3, 0.5, 2, k1=3, k2=1, adapt=False).trouble
        'clustering at eps = 0.50 finds 2 clusters, and a batch needs 3 identities'
    """
    wanted = max(2, least)
    near = jaccard_distances(features, k1, k2, at_most=min(eps, 1.0))
    labels = dbscan(near, eps, min_samples)
    if count_of(labels) >= wanted:
        return PseudoIdentities(labels, eps, wanted)
    trouble = _trouble(labels, eps, wanted)

    @cache
    def all_distances() -> csr_array:
        return jaccard_distances(features, k1, k2)

    for other in _nearest_first(eps) if adapt else ():
        found = dbscan(all_distances(), other, min_samples)
        if count_of(found) >= wanted:
            taken = f"{trouble}; taking eps = {other:.2f}, with {count_of(found)}"
            return PseudoIdentities(found, other, wanted, taken)
    others = ", nor does any other eps give enough" if adapt else ""
    return PseudoIdentities(labels, eps, wanted, f"{trouble}{others}")


def advice(labels: IntArray, prefix: str = "", *, batch: str = "", start: str = "") -> str:
    """Return what helps against too few clusters, as a list of instructions in words.

    Args:
        labels: of the clusters.
        prefix: what stands before the names of `cluster`'s arguments where the reader sets them.
        batch, start: what the reader sets for fewer identities, and for better features.

    Example:
        >>> import numpy as np
        >>> advice(np.array([0, 0, 0, -1]), "--").partition(", ")[0]
        'lower --eps'
    """
    largest = np.bincount(labels[labels >= 0], minlength=1).max()
    direction = "lower" if largest > len(labels) / 2 else "raise"
    return (
        f"{direction} {prefix}eps, lower {prefix}min_samples, bring {prefix}k1 nearer to the "
        f"images that there are of a person, take fewer identities per batch{_by(batch)}, or start "
        f"from better features{_by(start)}"
    )


def _by(settings: str) -> str:
    return f" ({settings})" if settings else ""


def _nearest_first(eps: float) -> list[float]:
    """Return the other values of eps, by how far they are from the wanted one."""
    grid = [round(_STEP * k, 2) for k in range(1, round(1 / _STEP))]
    # Rounded, for 0.45 is nearer to 0.4 than 0.35 in the last digit.
    return sorted((e for e in grid if e != eps), key=lambda e: (round(abs(e - eps), 6), e))


def _trouble(labels: IntArray, eps: float, wanted: int) -> str:
    count, images = count_of(labels), len(labels)
    if count == 0:
        return f"clustering at eps = {eps:.2f} leaves out all {images} images: no cluster"
    if count == 1:
        share = int((labels == 0).sum())
        return (
            f"clustering at eps = {eps:.2f} puts {share} of {images} images into a single cluster"
        )
    return (
        f"clustering at eps = {eps:.2f} finds {count} clusters, and a batch needs {wanted} "
        "identities"
    )
