"""k-reciprocal encoding written out image by image on dense matrices, in float64.

The reference for the sparse one: sets are sets, and every matrix is N x N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def dense_squared(features: NDArray[np.floating], distance: str = "cosine") -> Matrix:
    """Return squared distances ``N N``; zero of an image to itself."""
    rows = features.astype(np.float64)
    if distance == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = rows / np.where(norms > 0, norms, 1)
        squared = 2 - 2 * unit @ unit.T
    else:
        squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, 0)
    return np.maximum(squared, 0)


def dense_encodings(
    squared: Matrix, k1: int, k2: int, variant: str = "zhong"
) -> tuple[Matrix, Matrix]:
    """Return the squared distances as the variant reads them, and the encodings of all images."""
    count = len(squared)
    keys = squared.copy()
    np.fill_diagonal(keys, -1)  # an image is its own nearest, also among copies of it
    nearest = np.argsort(keys, axis=1, kind="stable")
    size = k1
    if variant == "zhong":
        size = k1 + 1
        furthest = squared.max(axis=1, keepdims=True)
        squared = squared / np.where(furthest > 0, furthest, 1)
    else:
        nearest = nearest[:, :k1]

    def reciprocal(size: int) -> list[set[int]]:
        lists = [set(row) for row in nearest[:, :size].tolist()]
        return [{j for j in near if image in lists[j]} for image, near in enumerate(lists)]

    full, half = reciprocal(size), reciprocal(min(round(k1 / 2) + 1, size))
    encodings = np.zeros((count, count))
    for image in range(count):
        expanded = set(full[image])
        for candidate in full[image]:
            if 3 * len(half[candidate] & full[image]) > 2 * len(half[candidate]):
                expanded |= half[candidate]
        members = sorted(expanded)
        weights = np.exp(-squared[image, members])
        encodings[image, members] = weights / weights.sum()
    averaged = [encodings[nearest[image, :k2]].mean(axis=0) for image in range(count)]
    return squared, np.stack(averaged)


def dense_jaccard(squared: Matrix, k1: int, k2: int, variant: str = "zhong") -> Matrix:
    """Return the Jaccard distances of all pairs ``N N``."""
    _, encodings = dense_encodings(squared, k1, k2, variant)
    shared = np.stack([np.minimum(row, encodings).sum(axis=1) for row in encodings])
    return np.maximum(1 - shared / (2 - shared), 0)


def dense_final(squared: Matrix, k1: int, k2: int, weight: float, variant: str = "zhong") -> Matrix:
    """Return the final distances of all pairs ``N N``."""
    before, _ = dense_encodings(squared, k1, k2, variant)
    return (1 - weight) * dense_jaccard(squared, k1, k2, variant) + weight * before
