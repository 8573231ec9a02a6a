"""Rankings from similarities in bfloat16 that are exact where it matters.

A rank counts the images that are closer than a match. A similarity in bfloat16 is off by at most a
margin that is known from the very features, so only images within the margin of a match can be
counted wrongly: those, and the query's own, are compared in float32, and the counts are float32's.
A chunk of queries is settled as a whole: for the few images per query that matter, calls would
take longer than the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.blocks import (
    Images,
    MarginExceededError,
    margins,
    multiply_rounded,
    pairs_similarities,
    require_within,
    share_of,
    surely_finite,
)
from reid_retrieval.features import FloatArray
from reid_retrieval.labels import BoolArray, IntArray
from reid_retrieval.metrics import COSINE, Metric
from reid_retrieval.products import host_multiply
from reid_retrieval.ranks import ranks_of_many, starts_of

Codes = NDArray[np.int16]
"""The bits of numbers in bfloat16. Of positive ones, codes are ordered as the numbers are."""

_DOUBTFUL = 1 / 10
"""Share of the gallery from which on a whole row in float32 is cheaper than its images in doubt."""

_LARGEST = 0x7F7F
"""Code of the largest finite number."""

_CROWDED = 1 / 8
"""Share of the gallery that may be about as close as a match, or closer, before the same holds."""

_STEPS = 512
"""Into how many steps the values of a query's row are divided where something may be in doubt."""

_ROWS_AT_ONCE = 8
"""Rows whose closest images are looked for at once: what stays in the cache."""


@dataclass(frozen=True)
class Asked:
    """Queries of a chunk whose matches are to be ranked.

    Args:
        places: int64 ``q``, their numbers among the queries of the pass, ascending.
        counts: int64 ``q``, how many images each one's identity has.
        own: int64, those images, places in the row: query by query, ascending.
        matches: bool, which of them are ranked; of every query at least one.
    """

    places: IntArray
    counts: IntArray
    own: IntArray
    matches: BoolArray

    @classmethod
    def of(
        cls, places: Sequence[int] | IntArray, found: Sequence[tuple[IntArray, BoolArray]]
    ) -> Asked:
        """Put queries together, at least one.

        Args:
            places: their numbers.
            found: of each, the images of its identity and which of them are junk.
        """
        own, junk = zip(*found, strict=True)
        counts = np.array([len(images) for images in own])
        return cls(np.asarray(places), counts, np.concatenate(own), ~np.concatenate(junk))

    @property
    def match_counts(self) -> IntArray:
        """How many matches each query has, ``q``."""
        return np.add.reduceat(self.matches, starts_of(self.counts), dtype=np.int64)

    def take(self, kept: BoolArray) -> Asked:
        """Return some of the queries."""
        images = np.repeat(kept, self.counts)
        return Asked(self.places[kept], self.counts[kept], self.own[images], self.matches[images])


@dataclass(frozen=True)
class Doubts:
    """What a chunk of screened rows leaves open of the ranks of matches.

    Args:
        asked: the queries whose rows do; in those of the others so many images are in doubt that
            all have to be compared.
        counts: int64 ``q``, how many places of each row float32 has to decide.
        places: int64 ``n``, those places, query by query, ascending; those of the query's own
            images are among them.
        images: int64 ``n``, which gallery images are there.
        screened: float32 ``n``, their screened similarities.
        closer: int64, how many images at other places are closer than each match: query by query,
            from the closest match on.
    """

    asked: Asked
    counts: IntArray
    places: IntArray
    images: IntArray
    screened: FloatArray
    closer: IntArray


@dataclass(frozen=True)
class Settled:
    """What screening comes to once float32 has decided.

    Args:
        doubts: what was open.
        similarities: float32 ``n``, in float32.
    """

    doubts: Doubts
    similarities: FloatArray

    def rows(self) -> list[tuple[IntArray, FloatArray]]:
        """Return the places of every row that float32 had to decide, and their similarities."""
        doubts = self.doubts
        return [(doubts.places[some], self.similarities[some]) for some in _slices(doubts.counts)]

    def ranks(self) -> list[tuple[IntArray, bool]]:
        """Return the ranks of every query's matches, and whether one of them ties."""
        doubts, asked = self.doubts, self.doubts.asked
        if not len(asked.places):
            return []
        step = int(doubts.places.max()) + 1
        cells = np.repeat(np.arange(len(asked.counts)) * step, doubts.counts) + doubts.places
        own = np.repeat(np.arange(len(asked.counts)) * step, asked.counts) + asked.own
        found = np.searchsorted(cells, own)
        return ranks_of_many(
            self.similarities, doubts.counts, found, asked.counts, ~asked.matches, doubts.closer
        )


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
        self._finite = surely_finite(self._queries, self._gallery, metric)
        self._multiply = host_multiply()
        # The cosine's features were normalised before they were rounded.
        self._shifts = None if metric is COSINE else self._gallery.terms
        self._least_shift = 0.0 if self._shifts is None else float(self._shifts.min())

    @property
    def terms(self) -> tuple[FloatArray, FloatArray]:
        """The metric's terms of the queries and of the gallery."""
        return self._queries.terms, self._gallery.terms

    def fill(self, start: int, out: Codes) -> None:
        """Write the products of the queries from ``start`` on, ``n G``, in bfloat16.

        Raises:
            MarginExceededError: one, or a similarity in float32, need not be finite.
        """
        import torch

        if not self._finite:
            raise MarginExceededError
        asked = self._queries.in_bfloat16.features[start : start + len(out)]
        products = torch.from_numpy(out).view(torch.bfloat16)
        multiply_rounded(asked, self._gallery.in_bfloat16.features, products)

    def fill_exactly(self, rows: IntArray, out: FloatArray) -> None:
        """Write the similarities of some queries, ``n G``, in float32 as without screening."""
        self._multiply(self._queries.features[rows], self._gallery.features, out)
        self._metric.apply(out, self._queries.terms[rows, None], self._gallery.terms)

    def row(self, codes: Codes, images: IntArray | None) -> FloatArray:
        """Return the screened similarities that the products of a row say."""
        some = codes if images is None else codes[images]
        return self._screened(some, np.arange(len(some)), len(some), images)

    def doubts(
        self, start: int, block: Codes, asked: Asked, images: IntArray | None = None
    ) -> Doubts:
        """Find out what float32 has to decide so that the matches of queries are ranked exactly.

        Args:
            start: number of the first query of the block.
            block: the products of some queries, ``n G``; written to, and set back.
            asked: queries of the block.
            images: int64, which gallery images rows are of; None means all.

        Raises:
            MarginExceededError: the products were not computed as bfloat16's should be.
        """
        if images is not None:
            block = np.take(block, images, axis=1)
        width = block.shape[1]
        own = np.repeat((asked.places - start) * width, asked.counts) + asked.own
        screened = self._screened(block.reshape(-1)[own], own, width, images)
        places = np.repeat(asked.places, asked.counts)
        lows, highs = self._bounds(
            asked, self._compared(places, _images(asked.own, images), screened)
        )
        count = asked.match_counts
        near, counts = self._reaching(block, asked.places - start, lows[starts_of(count)], own)
        fits = counts > 0  # the own images of a query are always near, unless it is crowded
        lows, highs = lows[np.repeat(fits, count)], highs[np.repeat(fits, count)]
        asked, own = asked.take(fits), own[np.repeat(fits, asked.counts)]
        count, counts = count[fits], counts[fits]

        screened = self._screened(block.reshape(-1)[near], near, width, images)
        doubtful, closer = _doubtful(
            screened, counts, np.searchsorted(near, own), lows, highs, count
        )
        doubts = counts
        if len(counts):
            doubts = np.add.reduceat(doubtful, starts_of(counts), dtype=np.int64)
        fits = doubts <= max(width * _DOUBTFUL, 1) + asked.counts
        if not fits.all():
            doubtful &= np.repeat(fits, counts)
        places = near[doubtful] % width
        return Doubts(
            asked.take(fits),
            doubts[fits],
            places,
            _images(places, images),
            screened[doubtful],
            closer[np.repeat(fits, count)],
        )

    def settle(self, parts: Sequence[Doubts]) -> list[Settled]:
        """Decide in float32 what chunks leave open, in the order of their queries.

        Raises:
            MarginExceededError: the products were not computed as bfloat16's should be.
        """
        if not parts:
            return []
        queries = np.concatenate([np.repeat(one.asked.places, one.counts) for one in parts])
        images = np.concatenate([one.images for one in parts])
        screened = np.concatenate([one.screened for one in parts])
        values = self._compared(queries, images, screened)
        lengths = np.array([len(one.places) for one in parts])
        return [
            Settled(one, values[some]) for one, some in zip(parts, _slices(lengths), strict=True)
        ]

    def _bounds(self, asked: Asked, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the screened values from and to which an image may be as close as a match.

        Args:
            asked: queries.
            values: float32, the similarities of their own images.

        Returns:
            float32, of every match: query by query, from the least close on.
        """
        queries = np.repeat(asked.places, asked.counts)[asked.matches]
        similarities = values[asked.matches]
        order = np.lexsort((similarities, queries))
        similarities, margin, share = similarities[order], self._margins[queries], self._share
        low, high = similarities - margin, similarities + margin
        lows = np.where(low > 0, low / (1 + share), low / (1 - share)).astype(np.float32)
        highs = np.where(high > 0, high / (1 - share), high / (1 + share)).astype(np.float32)
        return np.nextafter(lows, -np.float32(np.inf)), np.nextafter(highs, np.float32(np.inf))

    def _reaching(
        self, block: Codes, rows: IntArray, lows: FloatArray, own: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Return the cells whose screened value may reach a value of their row, and the own ones.

        Args:
            block: the products.
            rows: int64 ``q``, rows of the queries.
            lows: float32 ``q``, the values.
            own: the cells of all queries' own images.

        Returns:
            int64 cells, ascending, and how many there are of each query: none of crowded ones.
        """
        # By the smallest of all shifts, so that codes are compared as they are; a screened value
        # may have been rounded up to ``low``.
        least = (lows - np.abs(lows) * 2.0**-23 + self._least_shift).astype(np.float32)
        bits = np.nextafter(least, np.float32(-np.inf)).view(np.int32)
        codes = np.full((len(block), 1), np.iinfo(np.int16).max, np.int16)
        codes[rows, 0] = np.where(bits > 0, -(-bits >> 16), np.iinfo(np.int16).min)
        cells = block.reshape(-1)
        kept = cells[own]
        cells[own] = _LARGEST
        width = block.shape[1]
        found, counts = [], []
        for first in range(0, len(block), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            reached = np.flatnonzero(block[some] >= codes[some])
            ends = np.arange(len(codes[some]) + 1) * width
            each = np.diff(np.searchsorted(reached, ends))
            crowded = each > max(width * _CROWDED, 1)
            if crowded.any():
                reached = reached[~np.repeat(crowded, each)]
            found.append(reached + first * width)
            counts.append(np.where(crowded, 0, each))
        cells[own] = kept
        return np.concatenate(found), np.concatenate(counts)[rows]

    def _screened(
        self, codes: Codes, cells: IntArray, width: int, images: IntArray | None
    ) -> FloatArray:
        """Return the similarities that products say.

        Args:
            codes: the products.
            cells: which of a block of rows they are.
            width: of the rows.
            images: which gallery images rows are of; None means all.
        """
        values = (codes.astype(np.int32) << 16).view(np.float32)
        if self._shifts is not None:
            values -= self._shifts[_images(cells % width, images)]
        return values

    def _compared(self, queries: IntArray, images: IntArray, screened: FloatArray) -> FloatArray:
        """Return similarities in float32, after a look at how far off the screened ones are.

        Args:
            queries, images: int64, of whom: queries ascending, and the images of each.
            screened: float32, their screened similarities.
        """
        values = pairs_similarities(self._queries, queries, self._gallery, images, self._metric)
        require_within(values, screened, self._margins[queries] + self._share * np.abs(screened))
        return values


def _doubtful(
    screened: FloatArray,
    counts: IntArray,
    own: IntArray,
    lows: FloatArray,
    highs: FloatArray,
    matches: IntArray,
) -> tuple[BoolArray, IntArray]:
    """Return which images may be on either side of a match, or are the query's own.

    Values are compared by steps between a query's least low and largest high. A step grows with
    the value, so at worst an image is in doubt that need not be.

    Args:
        screened: float32, of images: query by query.
        counts: int64 ``q``, how many each query has.
        own: int64, which of them are the query's own, ascending.
        lows, highs: float32, from and to which value an image may be as close as a match: query
            by query, from the least close match on.
        matches: int64 ``q``, how many each query has.

    Returns:
        bool, of every image; and int64, how many of those that are not in doubt are closer than
        each match: query by query, from the closest match on.
    """
    first, ends = starts_of(matches), np.cumsum(matches)
    base = lows[first]
    scales = np.float32(_STEPS) / np.maximum(highs[ends - 1] - base, np.float32(1e-30))
    width = _STEPS + 3
    rows = np.arange(len(counts)) * width

    def steps_of(values: FloatArray, counts: IntArray) -> IntArray:
        steps = values - np.repeat(base, counts)
        steps *= np.repeat(scales, counts)
        steps += 1
        np.clip(steps, 0, width - 1, out=steps)
        found = np.repeat(rows, counts)
        found += steps.astype(np.int32)
        return found

    steps = steps_of(screened, counts)
    froms, tos = steps_of(lows, matches), steps_of(highs, matches)
    size = len(counts) * width
    edges = np.bincount(froms, minlength=size + 1) - np.bincount(tos + 1, minlength=size + 1)
    open_steps = np.cumsum(edges[:-1]) > 0
    doubtful = open_steps[steps]
    doubtful[own] = True
    sure = np.cumsum(np.bincount(steps[~doubtful], minlength=size))
    above = np.repeat(sure[rows + width - 1], matches) - sure[tos]
    return doubtful, above[np.repeat(first + ends - 1, matches) - np.arange(len(above))]


def _images(places: IntArray, images: IntArray | None) -> IntArray:
    return places if images is None else images[places]


def _slices(counts: IntArray) -> list[slice]:
    """Return the parts of an array that have the given lengths."""
    ends = np.cumsum(counts)
    return [slice(*both) for both in zip((ends - counts).tolist(), ends.tolist(), strict=True)]
