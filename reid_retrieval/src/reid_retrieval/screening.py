"""Rankings from similarities in bfloat16 that are exact where it matters.

A rank counts the images that are closer than a match. A similarity in bfloat16 is off by at most a
margin that is known from the very features, so only images within the margin of a match can be
counted wrongly: those, and the query's own, are compared in float32, and the counts are float32's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.blocks import (
    Images,
    MarginExceededError,
    margins,
    multiply_rounded,
    share_of,
)
from reid_retrieval.features import FloatArray
from reid_retrieval.labels import IntArray
from reid_retrieval.metrics import Metric
from reid_retrieval.products import host_multiply, tensor_of

_DOUBTFUL = 1 / 32
"""Share of the gallery from which on a whole row in float32 is cheaper than its images in doubt."""

_PAIRS_AT_ONCE = 2048
"""Pairs compared in float32 at once: 4 MiB at 512 dimensions."""


class Screening:
    """Similarities of ``Q`` queries to ``G`` images, screened in bfloat16, on the host.

    Args:
        queries, gallery: float32 ``Q D`` and ``G D``, finite.
        metric: how products become similarities.
    """

    def __init__(self, queries: FloatArray, gallery: FloatArray, metric: Metric) -> None:
        self._queries = Images.prepared(queries, metric, screened=True)
        self._gallery = Images.prepared(gallery, metric, screened=True)
        self._metric = metric
        self._share = float(share_of(metric))
        self._margins = margins(self._queries, self._gallery, metric).astype(np.float64)
        self._multiply = host_multiply()
        self._room: Any = None

    def fill(self, start: int, out: FloatArray) -> None:
        """Write the screened similarities of the queries from ``start`` on, ``n G``."""
        import torch

        if self._room is None or self._room.numel() < out.size:
            self._room = torch.empty(out.size, dtype=torch.bfloat16)
        asked = self._queries.in_bfloat16.features[start : start + len(out)]
        offered = self._gallery.in_bfloat16.features
        multiply_rounded(asked, offered, self._room, tensor_of(out))
        if self._share == 0:  # the cosine's features were normalised before they were rounded
            self._metric.apply(out, None, self._gallery.terms)

    def fill_exactly(self, rows: IntArray, out: FloatArray) -> None:
        """Write the similarities of some queries, ``n G``, in float32 as without screening."""
        self._multiply(self._queries.features[rows], self._gallery.features, out)
        self._metric.apply(out, self._queries.terms[rows, None], self._gallery.terms)

    def settle(
        self,
        query: int,
        row: FloatArray,
        own: IntArray,
        matches: NDArray[np.bool_],
        images: IntArray | None = None,
    ) -> bool:
        """Make a row of screened similarities good for ranking a query's matches.

        Args:
            query: its number.
            row: ``n``, its similarities to some images; those that matter are replaced.
            own: places in ``row`` of the images of its identity.
            matches: which of them are ranked; at least one.
            images: int64 ``n``, which gallery images the row is of; None means all.

        Returns:
            False where so many images are in doubt that the whole row has to be compared.

        Raises:
            MarginExceededError: the products were not computed as bfloat16's should be.
        """
        exact = self._compared(query, row, own, images)
        lows, highs = self._doubtful(query, np.sort(exact[matches]))
        row[own] = -np.inf
        near = np.flatnonzero(row >= lows[0])
        values = row[near]
        places = np.searchsorted(lows, values, side="right")
        doubtful = near[places > np.searchsorted(highs, values, side="left")]
        settled = len(doubtful) <= max(len(row) * _DOUBTFUL, 1)
        if settled:
            row[doubtful] = self._compared(query, row, doubtful, images)
        row[own] = exact
        return settled

    def _doubtful(self, query: int, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the screened values from and to which an image may be as close as a match."""
        margin, share = self._margins[query], self._share
        low, high = values - margin, values + margin
        lows = np.where(low > 0, low / (1 + share), low / (1 - share)).astype(np.float32)
        highs = np.where(high > 0, high / (1 - share), high / (1 + share)).astype(np.float32)
        return np.nextafter(lows, -np.float32(np.inf)), np.nextafter(highs, np.float32(np.inf))

    def _compared(
        self, query: int, row: FloatArray, places: IntArray, images: IntArray | None
    ) -> FloatArray:
        """Return the similarities of places of a row in float32, as close to the screened ones."""
        offered = places if images is None else images[places]
        values = np.empty(len(places), np.float32)
        asked = self._queries.features[query]
        for start in range(0, len(places), _PAIRS_AT_ONCE):
            rows = self._gallery.features[offered[start : start + _PAIRS_AT_ONCE]]
            # Sums of every row in the same order, unlike a product with a vector: copies stay ties.
            np.einsum("nd,d->n", rows, asked, out=values[start : start + len(rows)])
        self._metric.apply(values, self._queries.terms[query], self._gallery.terms[offered])
        screened = row[places]
        margin = self._margins[query] + self._share * np.abs(screened)
        if not (np.abs(values - screened) <= margin).all():
            raise MarginExceededError
        return values
