"""Similarities of queries to a gallery, a block of queries at a time.

This is where the engine meets whatever compares images: the inner products below, a ready
distance matrix, or a re-ranking that fills its blocks from neighbour lists. The matrix of all
queries and all gallery images is never asked for at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_core.errors import ConfigError, DataError, did_you_mean
from reid_core.evaluation.features import FloatArray, inverse_norms, squared_norms
from reid_core.evaluation.labels import IntArray

Block = NDArray[np.floating[Any]]
"""Similarities of some queries to the whole gallery, ``n G``; higher is closer."""


@dataclass(frozen=True)
class Similarities:
    """Similarities of ``Q`` queries to ``G`` gallery images, made on demand.

    Args:
        shape: ``(Q, G)``.
        fill: ``fill(start, stop, out)`` writes the similarities of queries ``start .. stop - 1``
            into ``out`` (``stop - start`` x ``G``, C-contiguous, of type ``dtype``); higher is
            closer, all values finite.
        distance: what is compared, for the record: ``cosine``, ``euclidean``.
        reranking: what was done to it, with its settings, for the record.
        dtype: of the blocks; equal values of this type are ties.
    """

    shape: tuple[int, int]
    fill: Callable[[int, int, Block], None]
    distance: str
    reranking: str = "none"
    dtype: type[np.floating[Any]] = np.float32


SimilarityMaker = Callable[[FloatArray, FloatArray], Similarities]
"""Makes similarities of query features ``Q D`` and gallery features ``G D``; float32, finite."""


def cosine(queries: FloatArray, gallery: FloatArray) -> Similarities:
    """Compare by the cosine, in -1 .. 1; a feature of norm 0 has cosine 0 with everything.

    The product is scaled, not the features: the gallery is not copied, and features that are
    exact in float32 (small integers) give results that do not depend on the block's size.
    """
    query_scale = inverse_norms(squared_norms(queries)).astype(np.float32)[:, None]
    gallery_scale = inverse_norms(squared_norms(gallery)).astype(np.float32)

    def fill(start: int, stop: int, out: Block) -> None:
        np.matmul(queries[start:stop], gallery.T, out=out)
        out *= query_scale[start:stop]
        out *= gallery_scale

    return Similarities((len(queries), len(gallery)), fill, "cosine")


def euclidean(queries: FloatArray, gallery: FloatArray) -> Similarities:
    """Compare by the Euclidean distance of the features as they are, not normalised.

    The similarity is ``q.g - |g|^2 / 2 = (|q|^2 - |q - g|^2) / 2``: it orders a query's gallery
    as the distance does and needs no square root of what may round below zero.
    """
    half_norms = (squared_norms(gallery) / 2).astype(np.float32)

    def fill(start: int, stop: int, out: Block) -> None:
        np.matmul(queries[start:stop], gallery.T, out=out)
        out -= half_norms

    return Similarities((len(queries), len(gallery)), fill, "euclidean")


def of_distances(
    distances: ArrayLike, query_rows: IntArray, gallery_rows: IntArray
) -> Similarities:
    """Rank by a ready distance matrix, restricted to some rows and columns.

    Args:
        distances: numbers of the shape queries x gallery; smaller is closer.
        query_rows, gallery_rows: which of them take part.

    Raises:
        DataError: a distance is NaN or infinite; names its row.
    """
    matrix = np.asarray(distances, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        raise DataError(
            f"distances are not finite: {bad.size} of {len(matrix)} query rows hold NaN or "
            f"infinity, the first is row {bad[0]}"
        )

    def fill(start: int, stop: int, out: Block) -> None:
        np.negative(matrix[np.ix_(query_rows[start:stop], gallery_rows)], out=out)

    shape = (len(query_rows), len(gallery_rows))
    return Similarities(shape, fill, "given distances", dtype=np.float64)


DISTANCES: dict[str, SimilarityMaker] = {"cosine": cosine, "euclidean": euclidean}
"""The distances that can be asked for by name."""


def maker_of(distance: str | SimilarityMaker) -> SimilarityMaker:
    """Return the maker of a named distance; one that is given is returned as it is.

    Raises:
        ConfigError: there is no distance of this name.
    """
    if callable(distance):
        return distance
    if distance not in DISTANCES:
        known = ", ".join(DISTANCES)
        raise ConfigError(
            f"unknown distance '{distance}'{did_you_mean(distance, DISTANCES)}; known: {known}"
        )
    return DISTANCES[distance]
