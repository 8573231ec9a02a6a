"""The pairs of images that a protocol counts, a block of similarities at a time.

A pair is a query and a gallery image. The protocol says which pairs count: its junk leaves the
pairs of one person, what it hides leaves those of different people as well. Random single-shot
galleries are not drawn: every image counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reid_retrieval import Protocol
from reid_retrieval.features import FeatureSet, require_fitting
from reid_retrieval.labels import BoolArray, IntArray
from reid_retrieval.passes import fill_finite
from reid_retrieval.searching import Search
from reid_retrieval.similarities import Block, Similarities, cosine

LEVELS = 1 << 18
"""Levels of a unit of similarity: thresholds are multiples of ``1 / LEVELS``.

A similarity is counted at the level at or below it. It reaches a threshold exactly if its level
does, so that no count at a threshold is an approximation; only thresholds between levels are not
tried. 4e-6 is less than what similarities of one picture differ by between two processors.
"""

COUNT = 2 * LEVELS + 1
"""Levels of all similarities from -1 to 1, both included."""

_CELLS_AT_ONCE = 4 << 20
"""Similarities held at once: 16 MiB of them, and 32 MiB of their levels."""

_ROWS_AT_ONCE = 256


def level_of(similarities: Block) -> NDArray[np.int64]:
    """Return the levels ``0 .. COUNT - 1`` of similarities; what rounding leaves outside is cut."""
    # A power of two is multiplied without rounding, in float32 too.
    return np.clip(np.floor(similarities * LEVELS), -LEVELS, LEVELS).astype(np.int64) + LEVELS


def similarity_of(level: int) -> float:
    """Return the least similarity of a level, exact in float32; above 1 for ``COUNT``."""
    return (level - LEVELS) / LEVELS


@dataclass(frozen=True)
class PairBlock:
    """All pairs of some queries.

    Args:
        queries: int64 ``n``, the queries, of one or more people, those of one side by side.
        similarities: ``n G``.
        levels: int64 ``n G``.
        different: bool ``n G``, the pairs of different people that count.
        same: of every query, the gallery images of its person that count, ascending.
    """

    queries: IntArray
    similarities: Block
    levels: NDArray[np.int64]
    different: BoolArray
    same: list[IntArray]


class Pairs:
    """Apply a protocol to two sets of features and walk through the pairs that it counts.

    Queries are sorted by person. People are numbered ``0 .. P - 1`` over both sets.

    Args:
        queries, gallery: features and labels.
        protocol: which pairs count.

    Attributes:
        search: the protocol, applied.
        query_people, gallery_people: int64 ``Q`` and ``G``, numbers of the people.
        count: ``P``.

    Raises:
        DataError: features are not finite or do not fit each other, nobody takes part, or labels
            that the protocol compares are not known.
    """

    def __init__(self, queries: FeatureSet, gallery: FeatureSet, protocol: Protocol) -> None:
        require_fitting(queries, gallery)
        by_person = queries.take(np.argsort(queries.labels.pids, kind="stable"))
        self.search = Search(protocol, by_person.labels, gallery.labels)
        asked = (
            self.search.asked(by_person.features)
            if self.search.query_pools is not None
            else by_person.take(self.search.query_rows).rows
        )
        offered = (
            self.search.offered(gallery.features)
            if self.search.gallery_pools is not None
            else gallery.take(self.search.gallery_rows).rows
        )
        self._similarities: Similarities = cosine(asked, offered)
        pids = np.concatenate([self.search.queries.pids, self.search.gallery.pids])
        known, numbers = np.unique(pids, return_inverse=True)
        self.count = len(known)
        self.query_people = numbers[: len(self.search.queries)].astype(np.int64)
        self.gallery_people = numbers[len(self.search.queries) :].astype(np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of gallery images that take part."""
        return self._similarities.shape

    @cached_property
    def cameras(self) -> tuple[IntArray, IntArray] | None:
        """Cameras of queries and gallery images; None where they are not known."""
        return self._columns("camid")

    @cached_property
    def clothes(self) -> tuple[IntArray, IntArray]:
        """Outfits of queries and gallery images, -1 where unknown."""
        found = self._columns("clothes")
        assert found is not None  # every set of labels has this column
        return found

    def _columns(self, key: str) -> tuple[IntArray, IntArray] | None:
        sides = (self.search.queries, self.search.gallery)
        if not all(key in side.keys for side in sides):
            return None
        asked, offered = (np.asarray(side.column(key), np.int64) for side in sides)
        return asked, offered

    def blocks(self) -> Iterator[PairBlock]:
        """Yield all pairs once, in the order of the queries; their number costs no memory.

        Raises:
            DataError: a similarity is not finite.
        """
        count, width = self.shape
        rows = max(1, min(_ROWS_AT_ONCE, _CELLS_AT_ONCE // width))
        for start in range(0, count, rows):
            queries = np.arange(start, min(start + rows, count))
            block = np.empty((len(queries), width), self._similarities.dtype)
            fill_finite(self._similarities, start, block)
            different = self.query_people[queries, None] != self.gallery_people
            same = []
            for row, query in enumerate(queries.tolist()):
                own, junk = self.search.own(query)
                same.append(own[~junk])
                hidden = self.search.hidden(query)
                if hidden is not None:
                    different[row] &= ~hidden
            yield PairBlock(queries, block, level_of(block), different, same)
