"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), streamed into the evaluation.

The final distance is ``(1 - weight) Jaccard + weight d``, where ``d`` is the squared distance that
was there before, divided by the largest of its row (as the ``zhong`` variant has it). Encodings are
sparse, and distances are made for some queries at a time: neither the matrix of all images nor that
of all queries and the gallery ever exists.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_retrieval.encodings import Distance, encode_features
from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FloatArray
from reid_retrieval.labels import IntArray
from reid_retrieval.precision import Precision
from reid_retrieval.reciprocal import Neighbourhood, Overlap, Variant, encode, own_first
from reid_retrieval.similarities import Block, Similarities, SimilarityMaker, maker_of


def k_reciprocal(
    variant: Variant = "zhong",
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    *,
    distance: Distance = "cosine",
    precision: Precision = "auto",
) -> SimilarityMaker:
    """Return similarities after re-ranking, to be passed to `evaluate` as its ``distance``.

    Queries and gallery images all take part in the neighbourhoods; cameras and identities do not.
    The similarity is the negative final distance.

    Args:
        variant: whose neighbourhoods and weights, see `Neighbourhood`.
        k1: neighbours that must be mutual; more than there are images means all of them.
        k2: nearest images whose encodings are averaged.
        weight: of the distance before re-ranking (the paper's lambda), in 0 .. 1; at 0 all images
            that share no neighbour with the query tie.
        distance: ``cosine`` takes the squared distance of unit features, ``euclidean`` that of
            features as they are.
        precision: of the search for neighbours, which are the same by any, see `Precision`.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    sizes = Neighbourhood(variant, k1, k2)
    _require_share(weight)
    compare = maker_of(distance)

    def make(queries: FloatArray, gallery: FloatArray) -> Similarities:
        before = compare(queries, gallery)
        encodings = encode_features(np.concatenate([queries, gallery]), sizes, distance, precision)
        asked = encodings.weights[: len(queries)]
        overlap = Overlap(asked, encodings.weights[len(queries) :])
        slopes = 2 * weight / encodings.scales[: len(queries)]
        levels = slopes / 2 * encodings.offsets[: len(queries)] + (1 - weight)
        # In float32 before blocks are touched: a float64 column would make copies of them.
        factors = slopes.astype(np.float32)[:, None]
        offsets = levels.astype(np.float32)[:, None]

        def fill(start: int, stop: int, out: Block) -> None:
            before.fill(start, stop, out)
            out *= factors[start:stop]
            out -= offsets[start:stop]
            for pairs in overlap.blocks(start, stop):
                out[pairs.rows - start, pairs.columns] += (1 - weight) * (1 - pairs.distances)

        text = f"k-reciprocal {sizes.text} lambda={weight:g}"
        return replace(before, fill=fill, reranking=text)

    return make


def rerank_distances(
    query_gallery: ArrayLike,
    query_query: ArrayLike,
    gallery_gallery: ArrayLike,
    *,
    variant: Variant = "zhong",
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> NDArray[np.float64]:
    """Re-rank ready, small matrices of distances, in float64.

    Args:
        query_gallery, query_query, gallery_gallery: plain Euclidean distances, ``Q G``, ``Q Q`` and
            ``G G``. They are squared here: squared ones would be squared again, which is how
            published code has come to other numbers than the paper.
        variant, k1, k2, weight: as for `k_reciprocal`.

    Returns:
        Final distances ``Q G``, for `evaluate_distances`.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: the matrices do not fit each other, hold NaN or negative values, or are not
            distances: symmetric, and zero of an image to itself.
    """
    sizes = Neighbourhood(variant, k1, k2)
    _require_share(weight)
    squared = np.square(_joined(query_gallery, query_query, gallery_gallery))
    keys = squared.copy()
    np.fill_diagonal(keys, -1)
    neighbours = np.argsort(keys, axis=1, kind="stable")[:, : sizes.wanted]
    if sizes.normalised:
        furthest = squared.max(axis=1, keepdims=True)
        squared /= np.where(furthest > 0, furthest, 1)

    def of_pairs(rows: IntArray, columns: IntArray) -> NDArray[np.float64]:
        return squared[rows, columns]

    encoded = encode(own_first(neighbours), sizes, of_pairs)
    count = len(np.asarray(query_gallery))
    final = weight * squared[:count, count:] + (1 - weight)
    for pairs in Overlap(encoded[:count], encoded[count:]).blocks(0, count):
        final[pairs.rows, pairs.columns] -= (1 - weight) * (1 - pairs.distances)
    return final


def _require_share(weight: float) -> None:
    if not 0 <= weight <= 1:
        raise ConfigError(f"the weight (lambda) of re-ranking must be in 0 .. 1, not {weight}")


def _joined(
    query_gallery: ArrayLike, query_query: ArrayLike, gallery_gallery: ArrayLike
) -> NDArray[np.float64]:
    """Return the distances of all images to all, queries first."""
    across, asked, offered = (
        np.asarray(part, np.float64) for part in (query_gallery, query_query, gallery_gallery)
    )
    if across.ndim != 2 or not across.size:
        raise DataError(f"distances of queries to gallery must be Q x G, not {across.shape}")
    for name, part, size in (
        ("queries", asked, across.shape[0]),
        ("gallery", offered, across.shape[1]),
    ):
        if part.shape != (size, size):
            raise DataError(
                f"distances among {name} have shape {part.shape}, but {across.shape} between "
                f"queries and gallery need {(size, size)}"
            )
    joined = np.block([[asked, across], [across.T, offered]])
    if not (joined.min() >= 0 and np.isfinite(joined.max())):
        bad = int((~(np.isfinite(joined) & (joined >= 0))).sum())
        raise DataError(f"{bad} of {joined.size} distances are negative, NaN or infinite")
    largest = float(joined.max())
    if np.diag(joined).max() > 1e-3 * largest:
        raise DataError(
            "an image has a distance to itself: these are not distances (similarities, perhaps?)"
        )
    if np.abs(joined - joined.T).max() > 1e-3 * largest:
        raise DataError("distances among queries or gallery are not symmetric")
    return joined
