"""Ranks of a query's matches, and what they are worth: AP, INP, first hit.

The gallery is ordered by ``(similarity descending, gallery index ascending)``. Only the matches'
places in that order are needed, so nothing but the images above the hardest match is sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.labels import BoolArray, IntArray

TIE_RULE = "gallery index"
"""Of images that are equally close, the one that comes first in the gallery ranks first."""

AP_DEFINITIONS = {
    "mAP": "step: mean over the matches of the precision at their ranks",
    "mAP_trapezoid": "trapezoid: mean of the precisions before and at each match",
}
"""The two definitions of average precision in the literature; both are always reported."""


def positive_ranks(
    row: NDArray[np.floating[Any]], own: IntArray, junk: BoolArray
) -> tuple[IntArray, bool]:
    """Return the ranks of a query's matches among the images that are not junk.

    Args:
        row: ``G``, similarities of one query to the gallery; higher is closer, finite (``-inf``
            hides an image that takes no part).
        own: gallery indices of the query's identity, ascending.
        junk: which of ``own`` are junk; at least one must not be.

    Returns:
        int64 ranks of the matches, 1-based, ascending; and whether a match ties with another
        image, so that its rank rests on the order of the gallery.
    """
    closeness = row[own]
    # Stable, so that equally close images of the identity stay in gallery order.
    order = np.argsort(-closeness, kind="stable")
    ignored = junk[order]
    kept = ~ignored
    matches = own[order][kept]
    values = closeness[order][kept]
    # The threshold is read from the row itself: recomputed by another kernel, it could round
    # differently and lose the match.
    near = row[row >= values[-1]]
    near.sort()
    closer = near.size - np.searchsorted(near, values, side="right")
    equal = near.size - np.searchsorted(near, values, side="left") - closer
    ranks = closer + 1
    tied = bool((equal > 1).any())
    if tied:
        ranks += _ties_before(row, matches, values, equal > 1)
    if ignored.any():
        # `order` ranks the identity's own images, so the junk ahead of a match is a running sum.
        ranks -= np.cumsum(ignored)[kept]
    return ranks.astype(np.int64, copy=False), tied


def _ties_before(
    row: NDArray[np.floating[Any]],
    matches: IntArray,
    values: NDArray[np.floating[Any]],
    tied: BoolArray,
) -> IntArray:
    """Count, for every match, the equally close images of a smaller gallery index."""
    before = np.zeros(len(matches), np.int64)
    for value in np.unique(values[tied]):
        here = values == value
        before[here] = np.searchsorted(np.flatnonzero(row == value), matches[here])
    return before


def ranks_of_many(
    similarities: NDArray[np.float32],
    counts: IntArray,
    own: IntArray,
    own_counts: IntArray,
    junk: BoolArray,
    closer: IntArray,
) -> list[tuple[IntArray, bool]]:
    """Return what `positive_ranks` does of many short rows, by one sort of all of them.

    Args:
        similarities: float32, row by row.
        counts: int64 ``q``, lengths of the rows.
        own: int64, places among all similarities of the rows' own images: row by row, ascending.
        own_counts: int64 ``q``, how many each row has.
        junk: bool, which of ``own`` are junk; of every row at least one must not be.
        closer: int64, how many images that are not in the row are closer than each match: row by
            row, from the closest match on.
    """
    bits = similarities.view(np.int32).astype(np.int64)
    order = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)  # integers that are ordered alike
    numbers = np.arange(len(counts))
    keys = np.repeat(numbers << 33, counts) - order
    matches, ignored = np.sort(keys[own[~junk]]), np.sort(keys[own[junk]])
    ordered = keys
    ends = np.cumsum(counts)
    for first, end in zip((ends - counts).tolist(), ends.tolist(), strict=True):
        ordered[first:end].sort()  # the rows are in order: many short sorts are faster than one
    ahead = np.searchsorted(ordered, matches)
    equal = np.searchsorted(ordered, matches, side="right") - ahead
    count = np.add.reduceat(~junk, starts_of(own_counts), dtype=np.int64)
    junk_counts = own_counts - count
    before = starts_of(counts) - starts_of(junk_counts)
    ranks = ahead + 1 - np.searchsorted(ignored, matches) - np.repeat(before, count) + closer
    tied = np.logical_or.reduceat(equal > 1, starts_of(count))
    found = []
    parts = (starts_of(each).tolist() for each in (counts, own_counts, count))
    for number, (first, start, match) in enumerate(zip(*parts, strict=True)):
        some = slice(match, match + int(count[number]))
        if tied[number]:
            row = similarities[first : first + int(counts[number])]
            mine = slice(start, start + int(own_counts[number]))
            exact, _ = positive_ranks(row, own[mine] - first, junk[mine])
            found.append((exact + closer[some], True))
        else:
            found.append((ranks[some], False))
    return found


def starts_of(counts: IntArray) -> IntArray:
    """Return where the parts of an array start that have the given lengths."""
    return np.asarray(np.cumsum(counts) - counts)


def closest(row: NDArray[np.floating[Any]], count: int) -> IntArray:
    """Return the closest gallery images in order, of equals the first in the gallery.

    Args:
        row: ``G``, similarities of one query to the gallery; ``-inf`` hides an image.
        count: how many; fewer where there are not as many.
    """
    near = row > -np.inf
    if count < len(row):
        # Those tied with the last one stay, so that the order of the gallery chooses among them.
        near &= row >= np.partition(row, len(row) - count)[len(row) - count]
    places = np.flatnonzero(near)
    return places[np.argsort(-row[places], kind="stable")[:count]]


@dataclass(frozen=True)
class Measures:
    """What ``R`` rankings are worth, float64 ``R`` each.

    Args:
        first_hit: rank of the first match, 1-based.
        average_precision, trapezoid: by the two definitions.
        inverse_negative_penalty: INP.
    """

    first_hit: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    trapezoid: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]


def measures(rankings: Sequence[IntArray]) -> Measures:
    """Return first hits, APs, trapezoid APs and INPs of rankings.

    With ``P`` matches at ranks ``r_1 < ... < r_P``:

    - AP = ``1/P sum_i i/r_i``;
    - trapezoid AP = ``1/P sum_i ((i-1)/(r_i-1) + i/r_i) / 2``, the first quotient being 1 where
      ``r_i = 1`` (the original Market-1501 evaluation);
    - INP = ``P/r_P`` (Ye et al., Deep Learning for Person Re-identification, 2021).

    Args:
        rankings: of each, the ranks of its matches, 1-based, ascending, at least one.
    """
    ranks = np.concatenate(rankings)
    counts = np.fromiter(map(len, rankings), np.int64, len(rankings))
    ends = np.cumsum(counts)
    starts = ends - counts
    number = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)
    precision = number / ranks
    before = np.where(ranks == 1, 1.0, (number - 1) / np.maximum(ranks - 1, 1))
    average = np.add.reduceat(precision, starts) / counts
    trapezoid = np.add.reduceat(before + precision, starts) / (2 * counts)
    first = ranks[starts].astype(np.float64)
    return Measures(first, average, trapezoid, counts / ranks[ends - 1])


def cumulative_matches(first_ranks: IntArray, max_rank: int) -> NDArray[np.float64]:
    """Count the queries whose first hit is at rank ``k`` or before, for ``k = 1 .. max_rank``.

    Args:
        first_ranks: 1-based ranks of the first hits, one per query.
        max_rank: length of the answer; the last count goes on where rankings are shorter.
    """
    counts = np.bincount(np.minimum(first_ranks, max_rank + 1), minlength=max_rank + 2)
    return np.cumsum(counts[1 : max_rank + 1]).astype(np.float64)
