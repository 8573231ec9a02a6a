"""Similarities of queries to a gallery, a block of queries at a time.

This is where the engine meets whatever compares images: the inner products below, a ready
distance matrix, or a re-ranking that fills its blocks from neighbour lists. The matrix of all
queries and all gallery images is never asked for at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_retrieval.errors import DataError
from reid_retrieval.features import (
    FloatArray,
    as_float32,
    on_host,
)
from reid_retrieval.labels import IntArray
from reid_retrieval.metrics import (
    COSINE as COSINE,
    EUCLIDEAN as EUCLIDEAN,
    METRICS as METRICS,
    Metric as Metric,
    metric_of as metric_of,
)
from reid_retrieval.products import (
    chosen_library,
    full_precision,
    host_multiply,
    tensor_of,
)
from reid_retrieval.screening import Screening

if TYPE_CHECKING:
    import torch

    from reid_retrieval.features import Rows

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
        products: which library multiplies the features, for the record.
        screening: the same in bfloat16, where that pays; see `Screening`.
    """

    shape: tuple[int, int]
    fill: Callable[[int, int, Block], None]
    distance: str
    reranking: str = "none"
    dtype: type[np.floating[Any]] = np.float32
    products: str = "none"
    screening: Screening | None = None


SimilarityMaker = Callable[[FloatArray, FloatArray], Similarities]
"""Makes similarities of query features ``Q D`` and gallery features ``G D``; float32, finite."""


def cosine(queries: Rows, gallery: Rows) -> Similarities:
    """Compare by the cosine, see `COSINE`."""
    return compare(COSINE, queries, gallery)


def euclidean(queries: Rows, gallery: Rows) -> Similarities:
    """Compare by the Euclidean distance, see `EUCLIDEAN`."""
    return compare(EUCLIDEAN, queries, gallery)


def compare(metric: Metric, queries: Rows, gallery: Rows, screened: bool = False) -> Similarities:
    """Compare by a metric, with products by the library that is chosen now.

    Args:
        metric: how products become similarities.
        queries, gallery: float32 ``Q D`` and ``G D``, finite; those on a CUDA device are compared
            there unless another library is asked for.
        screened: whether to screen in bfloat16 first what is compared on the host.
    """
    library = chosen_library(on_host(queries) and on_host(gallery))
    if library == "cuda":
        return compare_on_device(metric, queries, gallery, "cuda")
    asked, offered = as_float32(queries), as_float32(gallery)
    multiply = host_multiply(library)
    screening = Screening(asked, offered, metric) if screened else None
    terms = screening.terms if screening else (metric.terms(asked), metric.terms(offered))
    query_terms, gallery_terms = terms

    def fill(start: int, stop: int, out: Block) -> None:
        multiply(asked[start:stop], offered, out)
        metric.apply(out, query_terms[start:stop, None], gallery_terms)

    shape = len(asked), len(offered)
    return Similarities(shape, fill, metric.name, products=library, screening=screening)


def compare_on_device(
    metric: Metric, queries: Rows, gallery: Rows, device: str | torch.device
) -> Similarities:
    """Compare by a metric on a device: features go there once, blocks of similarities come back.

    Args:
        metric: how products become similarities.
        queries, gallery: float32 ``Q D`` and ``G D``, finite, on any device.
        device: where to compare.
    """
    import torch

    place = torch.device(device)
    if place.type == "cuda" and place.index is None and not on_host(gallery):
        place = cast("torch.Tensor", gallery).device  # several devices: where the gallery is

    def there(rows: Any) -> torch.Tensor:
        return (tensor_of(rows) if isinstance(rows, np.ndarray) else rows).to(place)

    asked, offered = there(queries), there(gallery)
    query_terms, gallery_terms = there(metric.terms(queries)), there(metric.terms(gallery))
    cells = asked.new_empty(0)

    def fill(start: int, stop: int, out: Block) -> None:
        nonlocal cells
        if cells.numel() < out.size:
            cells = asked.new_empty(out.size)
        block = cells[: out.size].view(out.shape)
        with torch.inference_mode(), full_precision():
            torch.mm(asked[start:stop], offered.t(), out=block)
            metric.apply(block, query_terms[start:stop, None], gallery_terms)
            tensor_of(out).copy_(block)

    return Similarities((len(asked), len(offered)), fill, metric.name, products=place.type)


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


def maker_of(distance: str | SimilarityMaker, screened: bool = False) -> SimilarityMaker:
    """Return the maker of a named distance; one that is given is returned as it is.

    Args:
        distance: name or maker.
        screened: whether a named one screens in bfloat16.

    Raises:
        ConfigError: there is no distance of this name.
    """
    if callable(distance):
        return distance
    metric = metric_of(distance)
    return partial(compare, metric, screened=True) if screened else DISTANCES[metric.name]
