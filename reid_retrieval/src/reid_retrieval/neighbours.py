"""Exact nearest neighbours of many queries in a gallery of any size.

The gallery is read once, a block at a time, from memory or from a memory-mapped file; of every
query only the ``k`` closest images so far are kept. A block's similarities are looked at twice: all
of them against the ``k``-th closest so far, and the few that beat it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.blocks import (
    Blocks,
    Candidates,
    Images,
    MarginExceededError,
    Rounded,
    ScreenedBlocks,
)
from reid_retrieval.errors import DataError
from reid_retrieval.features import FloatArray, as_float32, on_host, require_finite
from reid_retrieval.metrics import metric_of
from reid_retrieval.precision import Precision, screens
from reid_retrieval.products import chosen_library, products_by

if TYPE_CHECKING:
    import torch

    from reid_retrieval.features import FeatureArray

QUERIES_AT_ONCE = 512
"""Queries compared at once."""

GALLERY_AT_ONCE = 8192
"""Gallery images compared at once: 16 MiB of similarities."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest gallery images of ``Q`` queries.

    Args:
        indices: int32 ``Q k``, rows of the gallery, the closest first; ties by gallery index.
        similarities: float32 ``Q k``, higher is closer: the cosine, or ``q.g - |g|^2 / 2``.
        lowest: float32 ``Q``, similarity of the least close image; None if not asked for.
    """

    indices: NDArray[np.int32]
    similarities: FloatArray
    lowest: FloatArray | None = None


def nearest(
    queries: FeatureArray,
    gallery: FeatureArray,
    k: int,
    *,
    distance: str = "cosine",
    lowest: bool = False,
    exclude_self: bool = False,
    precision: Precision = "fp32",
    products: str | None = None,
) -> Neighbours:
    """Find the ``k`` nearest gallery images of every query, exactly.

    Memory beside the arguments: the result, a block of similarities (16 MiB) and a block of the
    gallery.

    Args:
        queries: ``Q D``, numbers of any type.
        gallery: ``G D``; of a memory-mapped array a block at a time is read, once.
        k: neighbours of every query, at most ``G`` (``G - 1`` with ``exclude_self``).
        distance: ``cosine`` or ``euclidean``.
        lowest: whether to return the similarity of the least close image, too.
        exclude_self: query ``i`` is gallery image ``i``, which is not its own neighbour.
        precision: ``fp32``, ``bf16`` or ``auto``, see `Precision`. Should products in bfloat16 be
            further off than that arithmetic allows, everything is compared in float32.
        products: library for the inner products in float32, see `products_by`; None takes the
            chosen one.

    Raises:
        DataError: features are not finite, do not fit each other or are too large for float32, or
            the gallery has fewer than ``k`` images.
        ConfigError: there is no such distance, precision or library.
    """
    count = len(queries) if np.ndim(queries) else 0
    screened = screens(precision, on_host(gallery), count)
    how: Precision = "bf16" if screened else "fp32"
    prepared = Gallery(gallery, distance=distance, precision=how, keep=False)
    return prepared.nearest(queries, k, lowest=lowest, exclude_self=exclude_self, products=products)


class Gallery:
    """A gallery that is searched many times: what searches need of it is computed once.

    Beside the features it keeps one number per image, and with ``bf16`` the features in bfloat16,
    half their size; the features themselves, which may be memory-mapped, are then read for the few
    pairs that screening leaves in doubt.

    Args:
        features, distance, precision: as for `nearest`.
        keep: whether to keep what was computed; otherwise every search computes it again, a block
            at a time.

    Raises:
        DataError, ConfigError: as `nearest` does.
    """

    def __init__(
        self,
        features: FeatureArray,
        *,
        distance: str = "cosine",
        precision: Precision = "fp32",
        keep: bool = True,
    ) -> None:
        self._metric = metric_of(distance)
        self._features: Any = features if hasattr(features, "shape") else np.asarray(features)
        self._screened = screens(precision, on_host(self._features))
        self._kept: list[tuple[FloatArray, Rounded | None]] = []
        if keep:
            self._kept = [(images.terms, images.rounded) for _, images in self._blocks()]

    def __len__(self) -> int:
        return int(self._features.shape[0])

    def _blocks(self) -> Iterator[tuple[int, Images]]:
        """Yield the blocks of the gallery and the row that each begins with."""
        for number, start in enumerate(range(0, len(self), GALLERY_AT_ONCE)):
            rows = as_float32(self._features[start : start + GALLERY_AT_ONCE])
            if self._kept:
                yield start, Images(rows, *self._kept[number])
                continue
            require_finite(rows, "gallery", start)
            yield start, Images.prepared(rows, self._metric, self._screened)

    def nearest(
        self,
        queries: FeatureArray,
        k: int,
        *,
        lowest: bool = False,
        exclude_self: bool = False,
        products: str | None = None,
    ) -> Neighbours:
        """Find the ``k`` nearest images of every query; arguments and errors as for `nearest`."""
        asked = as_float32(queries)
        _require_fit(asked, self._features.shape, k, exclude_self)
        require_finite(asked, "query")
        images = Images.prepared(asked, self._metric, self._screened)
        with products_by(products):
            device = _device_for(queries, self._features)

            def search(kind: type[Blocks]) -> Neighbours:
                size = min(QUERIES_AT_ONCE, len(asked)), min(GALLERY_AT_ONCE, len(self))
                blocks = kind(images, self._metric, *size, device)
                searching = _Search(blocks, len(asked), k + exclude_self, lowest)
                for start, block in self._blocks():
                    searching.compare(start, block)
                return searching.found()

            try:
                found = search(ScreenedBlocks if self._screened else Blocks)
            except MarginExceededError:
                found = search(Blocks)
        return _without_self(found) if exclude_self else found


def _device_for(queries: FeatureArray, gallery: FeatureArray) -> torch.device | None:
    """Return the device to compare on; None means NumPy arrays on the host."""
    host = on_host(queries) and on_host(gallery)
    if chosen_library(host) != "cuda":
        return None
    import torch

    place = torch.device("cuda") if on_host(gallery) else cast("torch.Tensor", gallery).device
    return place


class _Search:
    """The closest images so far, of all queries.

    Args:
        blocks: compares them.
        queries: how many there are.
        k: images kept per query.
        lowest: whether to keep the least similarity.
    """

    def __init__(self, blocks: Blocks, queries: int, k: int, lowest: bool) -> None:
        self._blocks = blocks
        self._closest = np.full((queries, k), -np.inf, np.float32)
        self._indices = np.full((queries, k), -1, np.int32)
        self._lowest = np.full(queries, np.inf, np.float32) if lowest else None

    def compare(self, start: int, images: Images) -> None:
        """Compare all queries to the gallery images from ``start`` on; blocks come in order."""
        with np.errstate(over="ignore", invalid="ignore"):
            self._blocks.turn_to(images)
        for first in range(0, len(self._closest), QUERIES_AT_ONCE):
            some = slice(first, first + QUERIES_AT_ONCE)
            with np.errstate(over="ignore", invalid="ignore"):
                block = self._blocks.similarities(some)
            self._look_at_extremes(block, some)
            closest = self._closest[some]
            found = self._blocks.candidates(some, block, closest[:, -1], closest.shape[1])
            if len(found.rows):
                self._keep(some, start, found)

    def _look_at_extremes(self, block: Any, some: slice) -> None:
        if isinstance(block, np.ndarray):
            least, most = block.min(axis=1), block.max()
        else:
            least, most = block.amin(1).cpu().numpy(), float(block.max())
        if not (np.isfinite(least.min()) and np.isfinite(most)):
            raise DataError(
                f"similarities of queries {some.start} to {some.start + len(block) - 1} are not "
                "finite: the features are too large for float32, or nearly zero; scale them"
            )
        if self._lowest is not None:
            self._lowest[some] = self._blocks.lowest(some, block, least, self._lowest[some])

    def _keep(self, some: slice, start: int, found: Candidates) -> None:
        """Take over what is closer than the ``k``-th closest so far."""
        closest, nearest_so_far = self._closest[some], self._indices[some]
        k = closest.shape[1]
        changed, counts = np.unique(found.rows, return_counts=True)
        places = np.arange(len(found.rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(changed), k + int(counts.max()))
        values, indices = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
        values[:, :k], indices[:, :k] = closest[changed], nearest_so_far[changed]
        at = np.repeat(np.arange(len(changed)), counts), k + places
        values[at], indices[at] = found.similarities, found.columns + start
        # Stable, and candidates stand in the order of the gallery: ties go by index.
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        closest[changed] = np.take_along_axis(values, order, axis=1)
        nearest_so_far[changed] = np.take_along_axis(indices, order, axis=1)

    def found(self) -> Neighbours:
        """Return the result."""
        return Neighbours(self._indices, self._closest, self._lowest)


def _require_fit(queries: FloatArray, gallery: tuple[int, ...], k: int, exclude_self: bool) -> None:
    """Refuse a gallery, by its shape, in which ``k`` neighbours cannot be found."""
    if len(gallery) != 2 or gallery[1] != queries.shape[1]:
        raise DataError(
            f"query features have {queries.shape[1]} dimensions, the gallery has shape "
            f"{tuple(gallery)}: they must come from one model"
        )
    if exclude_self and len(queries) != gallery[0]:
        raise DataError(
            f"{len(queries)} queries are not the {gallery[0]} gallery images themselves, which "
            "exclude_self needs"
        )
    images = gallery[0] - exclude_self
    if not isinstance(k, Integral):
        raise DataError(f"the number of neighbours, k, must be a whole number, not {k!r}")
    if not 1 <= k <= images:
        others = " other" if exclude_self else ""
        raise DataError(f"{k} neighbours cannot be found among {images}{others} gallery images")


def _without_self(found: Neighbours) -> Neighbours:
    """Drop query ``i``'s gallery image ``i``, or the last one where copies crowd it out."""
    indices, values = found.indices, found.similarities
    own = indices == np.arange(len(indices), dtype=np.int32)[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return Neighbours(indices[~own].reshape(shape), values[~own].reshape(shape), found.lowest)
