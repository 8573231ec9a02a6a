"""k-reciprocal encodings of features: neighbours, distances of pairs, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.features import FloatArray
from reid_retrieval.labels import IntArray
from reid_retrieval.metrics import metric_of
from reid_retrieval.neighbours import nearest
from reid_retrieval.precision import Precision
from reid_retrieval.reciprocal import Neighbourhood, encode, own_first

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Distance = Literal["cosine", "euclidean"]
"""What neighbours are found by; the cosine is read as the distance of unit features."""

_ROUNDING = 1e-6
"""Squared distances below this share of the features' scale are rounding, not distance."""


@dataclass(frozen=True)
class Encodings:
    """Encodings of ``N`` images, and the distances that they were made of.

    The distance of images ``i`` and ``j`` is ``(offset_i - 2 similarity(i, j)) / scale_i``.

    Args:
        weights: sparse ``N N``, float32, rows sum to 1.
        offsets: float64 ``N``, see `PairsOfFeatures`.
        scales: float64 ``N``: largest squared distance of every row, or ones.
    """

    weights: csr_array
    offsets: NDArray[np.float64]
    scales: NDArray[np.float64]


def encode_features(
    features: FloatArray,
    sizes: Neighbourhood,
    distance: Distance,
    precision: Precision = "auto",
) -> Encodings:
    """Encode images by the features that are closest to them.

    Args:
        features: float32 ``N D``, finite.
        sizes: of the neighbourhoods.
        distance: ``cosine`` reads features as unit vectors (one of norm 0 is as far from everything
            as an orthogonal one), ``euclidean`` as they are.
        precision: of the search for neighbours, which are the same either way, see `nearest`.

    Raises:
        ConfigError: there is no such distance or precision.
    """
    wanted = min(sizes.wanted, len(features))
    found = nearest(
        features,
        features,
        wanted,
        distance=distance,
        lowest=sizes.normalised,
        precision=precision,
    )
    pairs = PairsOfFeatures(features, distance)
    scales = np.ones(len(features))
    if found.lowest is not None:
        furthest = pairs.offsets - 2 * found.lowest.astype(np.float64)
        # Images that are all alike have no furthest one: their distances are 0, not noise.
        scales = np.where(furthest > _ROUNDING * pairs.offsets, furthest, np.inf)

    def squared(rows: IntArray, columns: IntArray) -> FloatArray:
        return (pairs.squared(rows, columns) / scales[rows]).astype(np.float32)

    weights = encode(own_first(found.indices), sizes, squared)
    return Encodings(weights, pairs.offsets, scales)


class PairsOfFeatures:
    """Squared distances of pairs of features: ``offset_i - 2 similarity(i, j)``.

    Args:
        features: float32 ``N D``.
        distance: ``cosine`` (offsets of 2) or ``euclidean`` (offsets of the squared norms).

    The similarities are those of `nearest`, up to rounding.
    """

    def __init__(self, features: FloatArray, distance: Distance) -> None:
        self._features = features
        self._terms = metric_of(distance).terms(features).astype(np.float64)
        self._cosine = distance == "cosine"
        self.offsets = np.full(len(features), 2.0) if self._cosine else 2 * self._terms

    def squared(self, rows: IntArray, columns: IntArray) -> NDArray[np.float64]:
        """Return the squared distances of pairs ``P``; ``rows`` are ascending."""
        products = np.empty(len(rows), np.float32)
        bounds = np.flatnonzero(np.diff(rows, prepend=-1, append=-1)).tolist()
        for start, stop in pairwise(bounds):
            others = self._features[columns[start:stop]]
            np.matmul(others, self._features[rows[start]], out=products[start:stop])
        if self._cosine:
            similarities = products * (self._terms[rows] * self._terms[columns])
        else:
            similarities = products - self._terms[columns]
        squared = np.maximum(self.offsets[rows] - 2 * similarities, 0)
        squared[rows == columns] = 0
        return squared
