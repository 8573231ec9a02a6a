"""One pass over all pairs: how many there are at every similarity, and the best of every search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError
from reid_search.calibration.pairs import COUNT, LEVELS, PairBlock, Pairs

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ScoreCounts:
    """Numbers of pairs of the same person and of different people, by level of similarity.

    Args:
        same, different: int64 ``COUNT``, by level; see `LEVELS`.
    """

    same: Counts
    different: Counts

    @property
    def pairs(self) -> tuple[int, int]:
        """How many pairs show the same person, and how many different people."""
        return int(self.same.sum()), int(self.different.sum())

    def histogram(self, bins: int = 100) -> tuple[NDArray[np.float64], Counts, Counts]:
        """Return the counts in bins of equal width over the similarities that there are.

        Args:
            bins: how many.

        Returns:
            float64 ``bins + 1``, the edges; int64 ``bins``, pairs of the same person; the same of
            different people.
        """
        there = np.flatnonzero(self.same + self.different)
        first, last = int(there[0]), int(there[-1]) + 1
        # Whole levels, so that every pair is in the bin whose edges it lies between.
        edges = np.unique(np.linspace(first, last, bins + 1).round().astype(np.int64))
        same, different = (
            np.add.reduceat(counts[first:last], edges[:-1] - first)
            for counts in (self.same, self.different)
        )
        return (edges - LEVELS) / LEVELS, same, different


@dataclass(frozen=True)
class Searches:
    """The best gallery images of every query ``Q``.

    Args:
        people: int64, who asks.
        own: int64, level of the best image of its person; -1 where there is none that counts.
        other: int64, level of the best image of anybody else; -1 where there is none.
        first: bool, whether an image of its person is the first of all; ties by gallery index.
        absent: bool, whether the person is not in the gallery at all.
    """

    people: NDArray[np.int64]
    own: NDArray[np.int64]
    other: NDArray[np.int64]
    first: NDArray[np.bool_]
    absent: NDArray[np.bool_]


@dataclass(frozen=True)
class Counted:
    """What a pass over all pairs counts.

    Args:
        all: every pair.
        halves: pairs within either half of the people; pairs across the halves are in neither.
        searches: the best of every query.
        compared: int64 ``P``, pairs of the same person, by person.
    """

    all: ScoreCounts
    halves: tuple[ScoreCounts, ScoreCounts]
    searches: Searches
    compared: Counts

    @property
    def people_with_pairs(self) -> int:
        """How many people have a pair that counts."""
        return int((self.compared > 0).sum())


def count_pairs(
    pairs: Pairs, seed: int = 0, advance: Callable[[int], None] | None = None
) -> Counted:
    """Count all pairs by level of similarity.

    Args:
        pairs: those that a protocol counts.
        seed: divides the people into halves.
        advance: is told how many more queries are done.

    Raises:
        DataError: there is no pair of one person, or none of different people.
    """
    half = np.random.default_rng(seed).permutation(pairs.count) % 2
    # Pairs within half 0, within half 1, and across.
    same, different = np.zeros((3, COUNT), np.int64), np.zeros((3, COUNT), np.int64)
    count = pairs.shape[0]
    searches = Searches(
        pairs.query_people,
        own=np.full(count, -1, np.int64),
        other=np.full(count, -1, np.int64),
        first=np.zeros(count, np.bool_),
        absent=np.zeros(count, np.bool_),
    )
    compared = np.zeros(pairs.count, np.int64)
    gallery_half = half[pairs.gallery_people]
    for block in pairs.blocks():
        asked = half[pairs.query_people[block.queries]]
        for side in range(2):
            rows = asked == side
            for place, columns in ((side, gallery_half == side), (2, gallery_half != side)):
                cells = block.levels[rows][:, columns][block.different[rows][:, columns]]
                different[place] += np.bincount(cells, minlength=COUNT)
        for row, own in enumerate(block.same):
            levels = block.levels[row, own]
            np.add.at(same[asked[row]], levels, 1)
            compared[pairs.query_people[block.queries[row]]] += len(own)
        _note_best(searches, block, pairs)
        if advance:
            advance(len(block.queries))
    if not same.any():
        _refuse_no_match(pairs)
    if not different.any():
        raise DataError(
            f"no pair shows different people: all of {pairs.shape[0]} queries and "
            f"{pairs.shape[1]} gallery images that may be compared show the same person; calibrate "
            "on pictures of several people"
        )
    halves = (ScoreCounts(same[0], different[0]), ScoreCounts(same[1], different[1]))
    return Counted(ScoreCounts(same.sum(0), different.sum(0)), halves, searches, compared)


def _note_best(searches: Searches, block: PairBlock, pairs: Pairs) -> None:
    """Find the best image of the person and of anybody else, for every query of a block."""
    others = np.where(block.different, block.similarities, -np.inf)
    best = others.argmax(axis=1)
    for row, query in enumerate(block.queries.tolist()):
        own, other = block.same[row], int(best[row])
        searches.absent[query] = not len(pairs.search.own(query)[0])
        if block.different[row, other]:
            searches.other[query] = block.levels[row, other]
        if not len(own):
            continue
        found = int(own[block.similarities[row, own].argmax()])
        searches.own[query] = block.levels[row, found]
        # The first of equals wins, as in a ranking.
        ahead, behind = block.similarities[row, found], others[row, other]
        searches.first[query] = ahead > behind or (ahead == behind and found < other)


def _refuse_no_match(pairs: Pairs) -> None:
    owns = [len(pairs.search.own(query)[0]) for query in range(pairs.shape[0])]
    unknown = sum(own == 0 for own in owns)
    raise pairs.search.no_valid_query(unknown, len(owns) - unknown)
