"""Jaccard distances of k-reciprocal encodings: what unsupervised methods cluster by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reid_retrieval.clustering import TOLERANCE
from reid_retrieval.encodings import Distance, encode_features
from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import as_float32, require_finite
from reid_retrieval.precision import Precision
from reid_retrieval.reciprocal import Neighbourhood, Overlap, Variant

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from reid_retrieval.features import FeatureArray


def jaccard_distances(
    features: FeatureArray,
    k1: int = 30,
    k2: int = 6,
    variant: Variant = "cluster_contrast",
    *,
    at_most: float = 1.0,
    distance: Distance = "cosine",
    precision: Precision = "auto",
) -> csr_array:
    """Return the Jaccard distances of all pairs of images that share a neighbour.

    Made once, at the largest ``eps`` that is wanted, they serve `dbscan` at every smaller one.

    Args:
        features: ``N D``, any floating type.
        k1: neighbours that must be mutual; more than there are images means all of them.
        k2: nearest images whose encodings are averaged.
        variant: whose neighbourhoods and weights, see `Neighbourhood`.
        at_most: leaves out pairs further apart than this, in 0 .. 1 (and `TOLERANCE` beyond);
            at 1 there is every pair that shares a neighbour.
        distance: what neighbours are found by: ``cosine`` or ``euclidean``.
        precision: of the search for neighbours, which are the same by any, see `Precision`.

    Returns:
        Sparse ``N N``, float32, symmetric, indices ascending. A pair without an entry is further
        apart; zeros, the diagonal's among them, are entries like all others.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: features are not ``N D``, not finite, or there are none.
    """
    from scipy.sparse import coo_array, csr_array

    sizes = Neighbourhood(variant, k1, k2)
    if not 0 <= at_most <= 1:
        raise ConfigError(f"Jaccard distances are in 0 .. 1: at_most cannot be {at_most}")
    rows = as_float32(features)
    if not len(rows):
        raise DataError("there are no features to compare")
    require_finite(rows, "image")
    encoded = encode_features(rows, sizes, distance, precision).weights
    near = []
    for pairs in Overlap(encoded, at_most=at_most + TOLERANCE).blocks(0, len(rows)):
        distances = pairs.distances.astype(np.float32)
        distances[pairs.rows == pairs.columns] = 0
        near.append((pairs.rows.astype(np.int32), pairs.columns.astype(np.int32), distances))
    images, others, distances = (np.concatenate(parts) for parts in zip(*near, strict=True))
    # Each pair was made once. Mirrored pairs come first, so that columns ascend within a row; a sum
    # of both triangles would drop the zeros.
    twice = images != others
    entries = (
        np.concatenate([distances[twice], distances]),
        (np.concatenate([others[twice], images]), np.concatenate([images[twice], others])),
    )
    return csr_array(coo_array(entries, shape=(len(rows), len(rows))))
