"""DBSCAN on sparse distances (Ester et al., KDD 1996): clusters of images as pseudo-identities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.labels import IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

TOLERANCE = 1e-6
"""How far above ``eps`` a distance still counts as within it.

Jaccard distances have structural ties: values that are exactly 1/2 or 2/3 on paper are common, and
rounding would decide whether they are within an ``eps`` of 0.5. With it they always are.
"""

OUTLIER = -1
"""The label of an image in no cluster."""


def dbscan(
    distances: csr_array, eps: float, min_samples: int = 4, *, tolerance: float = TOLERANCE
) -> IntArray:
    """Return the cluster of every image by density.

    A core image has at least ``min_samples`` images within ``eps``, itself included. Core images
    within ``eps`` of each other share a cluster; clusters are numbered from 0 in the order of their
    first core image. Another image joins the smallest-numbered cluster that has a core image within
    ``eps`` of it. The labels are those of scikit-learn's ``DBSCAN(metric="precomputed")``.

    Args:
        distances: sparse ``N N``, symmetric; a pair without an entry is far apart, so a distance
            of zero needs an entry. Of the diagonal none is needed: an image is close to itself.
        eps: largest distance of neighbours, not negative.
        min_samples: images that make a neighbourhood dense, at least 1.
        tolerance: a distance up to ``eps + tolerance`` is within ``eps``.

    Returns:
        int64 ``N``; -1 for outliers.

    Raises:
        ConfigError: ``eps`` or ``min_samples`` is out of range.
        DataError: distances are not sparse, not square, negative, NaN, or not symmetric.
    """
    from scipy.sparse.csgraph import connected_components

    if not eps >= 0:
        raise ConfigError(f"DBSCAN needs an eps of at least 0, not {eps}")
    if min_samples < 1:
        raise ConfigError(f"DBSCAN needs min_samples of at least 1, not {min_samples}")
    close = _within(distances, eps + tolerance)
    count = close.shape[0]
    labels = np.full(count, OUTLIER, np.int64)
    core = np.diff(close.indptr) + 1 >= min_samples
    places = np.flatnonzero(core)
    if not places.size:
        return labels
    _, found = connected_components(close[places][:, places], directed=False)
    _, first, component = np.unique(found, return_index=True, return_inverse=True)
    labels[places] = np.argsort(np.argsort(first))[component]
    rows = np.repeat(np.arange(count), np.diff(close.indptr))
    border = ~core[rows] & core[close.indices]
    joined = np.full(count, count, np.int64)
    np.minimum.at(joined, rows[border], labels[close.indices[border]])
    reached = joined < count
    labels[reached] = joined[reached]
    return labels


def count_of(labels: IntArray) -> int:
    """Return the number of clusters of `dbscan`'s labels."""
    return int(labels.max(initial=OUTLIER)) + 1


def with_singletons(labels: IntArray) -> IntArray:
    """Return labels in which every outlier is a cluster of its own, behind the others."""
    alone = labels == OUTLIER
    return np.where(alone, count_of(labels) - 1 + np.cumsum(alone), labels)


def _within(distances: csr_array, radius: float) -> csr_array:
    """Return which other images are within a radius of each, as ones."""
    from scipy.sparse import csr_array, issparse

    # A dense array would lose its zeros on the way, and with them the closest pairs.
    if not issparse(distances):
        raise DataError(
            f"DBSCAN needs a sparse matrix of distances, not {type(distances).__name__}; distances "
            "of zero must be stored, as jaccard_distances does"
        )
    if distances.shape[0] != distances.shape[1]:
        raise DataError(f"distances of shape {distances.shape} are not square")
    matrix = csr_array(distances)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if matrix.nnz and not matrix.data.min() >= 0:
        bad = int((~(matrix.data >= 0)).sum())
        raise DataError(f"{bad} of {matrix.nnz} distances are negative or NaN")
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    kept = (matrix.data <= radius) & (rows != matrix.indices)
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    near = csr_array((np.ones(indptr[-1], np.int8), matrix.indices[kept], indptr), matrix.shape)
    mirrored = near.T.tocsr()
    if not np.array_equal(mirrored.indptr, near.indptr) or not np.array_equal(
        mirrored.indices, near.indices
    ):
        raise DataError(
            "distances are not symmetric: an image is within eps of another, but not the other way "
            "round; pass the larger or the smaller of both directions"
        )
    return near
