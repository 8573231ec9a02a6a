"""The library's functions: features and labels in, results out.

Features are arrays of NumPy, memory-mapped ones among them, or tensors of torch on any device; what
lies on a CUDA device is compared there. torch is imported only where a tensor is given or a library
of its own is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from reid_retrieval import retrieval
from reid_retrieval.clustering import dbscan
from reid_retrieval.distances import jaccard_distances
from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FeatureSet, FloatArray, as_float32, require_finite
from reid_retrieval.finding import find_protocol
from reid_retrieval.labels import IntArray, Labels
from reid_retrieval.neighbours import Gallery, Neighbours, nearest
from reid_retrieval.passes import fill_finite
from reid_retrieval.precision import Precision
from reid_retrieval.products import products_by
from reid_retrieval.protocols import Protocol
from reid_retrieval.reciprocal import Variant
from reid_retrieval.reranking import k_reciprocal
from reid_retrieval.results import RetrievalResult
from reid_retrieval.similarities import SimilarityMaker

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from reid_retrieval.encodings import Distance
    from reid_retrieval.features import FeatureArray

    LabelSource = Labels | Mapping[str, ArrayLike] | ArrayLike
    """Labels of some images; see `evaluate`."""

    ProtocolSource = Protocol | str | Path
    """A protocol, or what `find_protocol` finds one by."""

_ROWS_AT_ONCE = 256
"""Queries whose final distances are made at a time."""


@overload
def evaluate(
    query: FeatureArray,
    gallery: FeatureArray,
    query_labels: LabelSource,
    gallery_labels: LabelSource,
    protocol: ProtocolSource = ...,
    *,
    distance: str | SimilarityMaker = ...,
    rerank: bool | Mapping[str, Any] = ...,
    draws: Sequence[ArrayLike] | None = ...,
    precision: Precision = ...,
    products: str | None = ...,
) -> RetrievalResult: ...


@overload
def evaluate(
    query: FeatureArray,
    gallery: FeatureArray,
    query_labels: LabelSource,
    gallery_labels: LabelSource,
    protocol: list[Any] | tuple[ProtocolSource, ...],
    *,
    distance: str | SimilarityMaker = ...,
    rerank: bool | Mapping[str, Any] = ...,
    precision: Precision = ...,
    products: str | None = ...,
) -> tuple[RetrievalResult, ...]: ...


def evaluate(
    query: FeatureArray,
    gallery: FeatureArray,
    query_labels: LabelSource,
    gallery_labels: LabelSource,
    protocol: ProtocolSource | list[Any] | tuple[ProtocolSource, ...] = "standard",
    *,
    distance: str | SimilarityMaker = "cosine",
    rerank: bool | Mapping[str, Any] = False,
    draws: Sequence[ArrayLike] | None = None,
    precision: Precision = "auto",
    products: str | None = None,
) -> RetrievalResult | tuple[RetrievalResult, ...]:
    """Search for every query in the gallery and score the rankings: CMC, mAP and mINP.

    Exact: the order is ``(similarity, gallery index)`` as by a stable sort of all of them, and
    both definitions of average precision are computed. The matrix of all pairs never exists.

    Args:
        query, gallery: features ``Q D`` and ``G D``, of any floating or integer type.
        query_labels, gallery_labels: of the same images: a mapping with ``pid`` and whatever the
            protocol compares (``camid``, ``clothes``, ``split``, others by their names), one value
            per image each; or `Labels`; or the identities alone. Gallery images of pid -1 are junk.
        protocol: one, by name (``standard``, ``cross-clothes``, ``same-clothes``, ``no-camera``,
            ``market1501``, ...), by a file of rules, or as a `Protocol`; or several, which are
            scored from the same products.
        distance: ``cosine``, ``euclidean``, or a function of both arrays that returns
            `Similarities`.
        rerank: True re-ranks by k-reciprocal encoding with the published settings; a mapping has
            arguments of `k_reciprocal`: ``{"k1": 20, "k2": 6, "weight": 0.3}``.
        draws: rows of the gallery for each single-shot gallery, in place of random ones.
        precision: ``auto``, ``fp32`` or ``bf16``, see `Precision`; the result is the same.
        products: library for the inner products, see `products_by`; None takes the chosen one.

    Returns:
        A result with the scores of every valid query (``per_query``); a tuple of them where
        several protocols are asked for.

    Raises:
        DataError: features are not finite or do not fit each other, nobody takes part, no query
            has a match, or labels that a protocol needs are not known.
        ConfigError: there is no such protocol, distance or library, or settings clash.

    Sources: CMC and mAP as in Zheng et al., ICCV 2015 (Market-1501); mINP: Ye et al., TPAMI 2021;
    re-ranking: Zhong et al., CVPR 2017.

    Example:
        >>> import numpy as np
        >>> query, gallery = np.eye(2), np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]])
        >>> result = evaluate(
        ...     query,
        ...     gallery,
        ...     {"pid": [1, 2], "camid": [0, 0]},
        ...     {"pid": [1, 2, 2], "camid": [1, 1, 1]},
        ... )
        >>> result.mean_ap, result.cmc[0], result.mean_inp
        (1.0, 1.0, 1.0)
        >>> result.per_query.average_precision
        array([1., 1.])
    """
    named = protocol if isinstance(protocol, list | tuple) else [protocol]
    protocols = [_protocol(one) for one in named]
    asked = FeatureSet(query, Labels.of(query_labels))
    offered = FeatureSet(gallery, Labels.of(gallery_labels))
    compared = _compared_by(distance, rerank, precision)
    if named is protocol:
        if draws is not None:
            raise ConfigError("draws are of one single-shot protocol: name that one alone")
        return retrieval.evaluate_all(
            asked,
            offered,
            protocols,
            distance=compared,
            per_query=True,
            products=products,
            precision=precision,
        )
    return retrieval.evaluate(
        asked,
        offered,
        protocols[0],
        distance=compared,
        draws=draws,
        per_query=True,
        products=products,
        precision=precision,
    )


def evaluate_distances(
    distances: ArrayLike,
    query_labels: LabelSource,
    gallery_labels: LabelSource,
    protocol: ProtocolSource = "standard",
    *,
    draws: Sequence[ArrayLike] | None = None,
) -> RetrievalResult:
    """Score the rankings of a ready, small matrix of distances.

    Args:
        distances: ``Q G``, smaller is closer; read in float64, equal values are ties.
        query_labels, gallery_labels, protocol, draws: as for `evaluate`.

    Raises:
        DataError, ConfigError: as `evaluate` does.

    Example:
        >>> evaluate_distances([[0.2, 0.1, 0.3]], [7], [7, 8, 7], "no-camera").mean_ap
        0.5833333333333333
    """
    return retrieval.evaluate_distances(
        distances,
        Labels.of(query_labels),
        Labels.of(gallery_labels),
        _protocol(protocol),
        draws=draws,
        per_query=True,
    )


def search(
    query: FeatureArray,
    gallery: FeatureArray | Gallery,
    k: int = 10,
    *,
    distance: str | None = None,
    exclude_self: bool = False,
    precision: Precision | None = None,
    products: str | None = None,
) -> Neighbours:
    """Find the ``k`` nearest gallery images of every query, exactly.

    Args:
        query: features ``Q D``.
        gallery: features ``G D``, read a block at a time (a memory-mapped array of any size will
            do), or a `Gallery`, which is prepared once and searched many times.
        k: neighbours of every query, at most ``G`` (``G - 1`` with ``exclude_self``).
        distance: ``cosine`` (None) or ``euclidean``; a `Gallery` has its own.
        exclude_self: query ``i`` is gallery image ``i``, which is not its own neighbour.
        precision: ``auto`` (None), ``fp32`` or ``bf16``, see `Precision`; a `Gallery` has its own.
        products: library for the inner products in float32, see `products_by`.

    Returns:
        ``indices`` int32 ``Q k``, the closest first, ties by gallery index, and ``similarities``
        float32 ``Q k``.

    Raises:
        DataError: features are not finite or do not fit each other, or there are fewer images.
        ConfigError: there is no such distance, precision or library, or a prepared gallery is
            given another.

    Example:
        >>> import numpy as np
        >>> search(np.eye(2), np.array([[0.6, 0.8], [1, 0]]), k=1).indices
        array([[1],
               [0]], dtype=int32)
    """
    if isinstance(gallery, Gallery):
        if distance is not None or precision is not None:
            raise ConfigError("a prepared gallery has its own distance and precision")
        return gallery.nearest(query, k, exclude_self=exclude_self, products=products)
    return nearest(
        query,
        gallery,
        k,
        distance=distance or "cosine",
        exclude_self=exclude_self,
        precision=precision or "auto",
        products=products,
    )


def rerank(
    query: FeatureArray,
    gallery: FeatureArray,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    *,
    variant: Variant = "zhong",
    distance: Distance = "cosine",
    precision: Precision = "auto",
    products: str | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    """Return final distances of k-reciprocal re-ranking, from features.

    ``(1 - weight) Jaccard + weight d``, ``d`` the squared distance divided by the largest of its
    row (Zhong et al., CVPR 2017). Nothing of the size of all pairs of images is made but the
    result; to score without it, call `evaluate` with ``rerank=True``.

    Args:
        query, gallery: features ``Q D`` and ``G D``; all of them take part in the neighbourhoods.
        k1: neighbours that must be mutual.
        k2: nearest images whose encodings are averaged.
        weight: of the distance before re-ranking (the paper's lambda), in 0 .. 1.
        variant: whose neighbourhoods and weights, see `Neighbourhood`.
        distance: ``cosine`` takes the squared distance of unit features, ``euclidean`` that of
            features as they are.
        precision: of the search for neighbours: ``auto``, ``fp32`` or ``bf16``, see `Precision`.
        products: library for the inner products, see `products_by`.
        out: float32 ``Q G`` to write to, a memory-mapped file for instance.

    Returns:
        float32 ``Q G``, smaller is closer.

    Raises:
        DataError: features are not finite or do not fit each other, or ``out`` is not ``Q G``.
        ConfigError: a setting is unknown or out of range.

    Example:
        >>> import numpy as np
        >>> people = np.repeat(np.eye(3), 4, axis=0) + 0.01 * np.arange(36).reshape(12, 3)
        >>> rerank(people[:1], people[1:], k1=3, k2=2).argsort(axis=1)[:, :3]
        array([[0, 1, 2]])
    """
    make = k_reciprocal(variant, k1, k2, weight, distance=distance, precision=precision)
    asked, offered = as_float32(query), as_float32(gallery)
    require_finite(asked, "query")
    require_finite(offered, "gallery")
    shape = len(asked), len(offered)
    if asked.shape[1] != offered.shape[1]:
        raise DataError(
            f"query features have {asked.shape[1]} dimensions, gallery features "
            f"{offered.shape[1]}: they must come from one model"
        )
    if not min(shape):
        raise DataError(f"there is nothing to re-rank: {shape[0]} queries, {shape[1]} images")
    final = np.empty(shape, np.float32) if out is None else out
    if final.shape != shape or final.dtype != np.float32:
        raise DataError(f"out must be float32 of shape {shape}, not {final.dtype} {final.shape}")
    with products_by(products):
        similarities = make(asked, offered)
        for start in range(0, len(asked), _ROWS_AT_ONCE):
            block = np.empty((min(_ROWS_AT_ONCE, len(asked) - start), shape[1]), np.float32)
            fill_finite(similarities, start, block)
            np.negative(block, out=final[start : start + len(block)])
    return final


def jaccard(
    features: FeatureArray,
    k1: int = 30,
    k2: int = 6,
    *,
    at_most: float = 1.0,
    variant: Variant = "cluster_contrast",
    distance: Distance = "cosine",
    precision: Precision = "auto",
) -> csr_array:
    """Return the Jaccard distances of all pairs of images that share a neighbour, sparse.

    Args:
        features: ``N D``.
        k1: neighbours that must be mutual; more than there are images means all of them.
        k2: nearest images whose encodings are averaged.
        at_most: leaves out pairs further apart than this, in 0 .. 1.
        variant, distance, precision: as for `rerank`.

    Returns:
        SciPy CSR ``N N``, float32, symmetric; a pair without an entry is further apart, zeros are
        entries like all others.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: features are not ``N D``, not finite, or there are none.

    Example:
        >>> import numpy as np
        >>> jaccard(np.repeat(np.eye(2), 3, axis=0), k1=3, k2=1).toarray()[0]
        array([0., 0., 0., 0., 0., 0.], dtype=float32)
        >>> jaccard(np.repeat(np.eye(2), 3, axis=0), k1=3, k2=1).nnz
        18
    """
    return jaccard_distances(
        features, k1, k2, variant, at_most=at_most, distance=distance, precision=precision
    )


def cluster(
    features: FeatureArray | csr_array,
    eps: float = 0.6,
    min_samples: int = 4,
    *,
    k1: int = 30,
    k2: int = 6,
    variant: Variant = "cluster_contrast",
    distance: Distance = "cosine",
    precision: Precision = "auto",
) -> IntArray:
    """Cluster images by DBSCAN on their Jaccard distances, without a matrix of all pairs.

    Args:
        features: ``N D``; or the sparse distances of `jaccard`, which serve every ``eps`` up to
            the ``at_most`` that they were made with.
        eps: largest distance of neighbours, not negative.
        min_samples: images that make a neighbourhood dense, itself included.
        k1, k2, variant, distance, precision: as for `jaccard`, where features are given.

    Returns:
        int64 ``N``, clusters from 0 in the order of their first core image; -1 for outliers. The
        labels are those of scikit-learn's ``DBSCAN(metric="precomputed")``.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: features or distances are unusable.

    Example:
        >>> import numpy as np
        >>> cluster(np.repeat(np.eye(2), 3, axis=0), eps=0.5, min_samples=2, k1=3, k2=1)
        array([0, 0, 0, 1, 1, 1])
    """
    from scipy.sparse import issparse

    if not issparse(features):
        if not eps >= 0:
            raise ConfigError(f"DBSCAN needs an eps of at least 0, not {eps}")
        features = jaccard(
            features,
            k1,
            k2,
            at_most=min(eps, 1.0),
            variant=variant,
            distance=distance,
            precision=precision,
        )
    return dbscan(features, eps, min_samples)


def _protocol(given: ProtocolSource) -> Protocol:
    return given if isinstance(given, Protocol) else find_protocol(given)


def _compared_by(
    distance: str | SimilarityMaker, rerank: bool | Mapping[str, Any], precision: Precision
) -> str | SimilarityMaker:
    """Return what `retrieval.evaluate` compares by."""
    if rerank is False:
        return distance
    if callable(distance):
        raise ConfigError("re-ranking needs a distance by name: cosine or euclidean")
    settings = {} if rerank is True else dict(rerank)
    unknown = sorted(settings.keys() - {"variant", "k1", "k2", "weight"})
    if unknown:
        raise ConfigError(
            f"re-ranking has no setting '{unknown[0]}'; known: variant, k1, k2, weight"
        )
    return k_reciprocal(**settings, distance=distance, precision=precision)  # type: ignore[arg-type]
