"""Which protocols are scored from the same similarities, and one pass over the queries for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_retrieval.blocks import MarginExceededError
from reid_retrieval.errors import DataError
from reid_retrieval.features import FeatureSet, FloatArray
from reid_retrieval.labels import IntArray
from reid_retrieval.scoring import Compared, Scorer
from reid_retrieval.screening import Asked
from reid_retrieval.similarities import Block, Similarities, SimilarityMaker, maker_of

if TYPE_CHECKING:
    from reid_retrieval.screening import Codes, Doubts, Screening

CHUNK = 256
"""Queries compared at once, at most."""

_CELLS_AT_ONCE = 24 << 20
"""Similarities held at once: 96 MiB. Beyond 98 000 gallery images chunks have fewer queries."""

_PAIRS_AT_ONCE = 3 << 16
"""Pairs in doubt that wait for more: the images of the gallery are read once for all of them."""


@dataclass(frozen=True)
class Share:
    """One of several processes that divide the queries among them.

    Args:
        rank: of this process, from 0.
        ranks: how many there are.
        gather: returns what every process passes to it, in rank order, on every process.
    """

    rank: int = 0
    ranks: int = 1
    gather: Callable[[Any], list[Any]] = lambda part: [part]


ALONE = Share()
"""One process that answers all queries."""


@dataclass(frozen=True)
class Member:
    """A protocol that takes part in a pass.

    Args:
        scorer: gets its rows.
        queries: int64, place of each of its queries among those of the pass, ascending.
        gallery: int64, places of its gallery images among those of the pass; None means all.
    """

    scorer: Scorer
    queries: IntArray
    gallery: IntArray | None

    def add(self, start: int, block: Block) -> None:
        """Score those of its queries that are in a chunk of the pass."""
        first, last = np.searchsorted(self.queries, (start, start + len(block)))
        for query in range(first, last):
            row = block[self.queries[query] - start]
            self.scorer.add(query, row if self.gallery is None else row[self.gallery])

    def screen(
        self, start: int, block: Codes, screening: Screening
    ) -> tuple[Doubts | None, IntArray]:
        """Find out what is in doubt of its queries in a chunk of screened similarities.

        Returns:
            What float32 has to decide, if anything is left to be decided later, and int64, its
            queries of which too much is in doubt: they need whole rows in float32.
        """
        search = self.scorer.search
        first, last = np.searchsorted(self.queries, (start, start + len(block)))
        images = [search.own(query) for query in range(first, last)]
        numbers: IntArray = first + np.flatnonzero([not junk.all() for _, junk in images])
        if not len(numbers):
            return None, numbers
        places = self.queries[numbers]
        asked = Asked.of(places, [images[query - first] for query in numbers])
        doubts = screening.doubts(start, block, asked, self.gallery)
        waiting = numbers[~np.isin(places, doubts.asked.places)]
        if search.shows_everything:
            return doubts, waiting
        (settled,) = screening.settle([doubts])
        for place, (exact, values) in zip(doubts.asked.places, settled.rows(), strict=True):
            row = screening.row(block[place - start], self.gallery)
            row[exact] = values
            self.scorer.add(int(np.searchsorted(self.queries, place)), row)
        return None, waiting

    def settle(self, parts: Sequence[Doubts], screening: Screening) -> None:
        """Score queries once float32 has decided what is in doubt."""
        for settled in screening.settle(parts):
            numbers = np.searchsorted(self.queries, settled.doubts.asked.places)
            for query, (ranks, tied) in zip(numbers.tolist(), settled.ranks(), strict=True):
                self.scorer.add_ranks(query, ranks, tied)


@dataclass(frozen=True)
class Pass:
    """Protocols that are scored from the same similarities."""

    similarities: Similarities
    members: tuple[Member, ...]

    @property
    def compared(self) -> Compared:
        """How images are compared."""
        made = self.similarities
        return Compared(made.distance, made.reranking, made.products)

    def run(self, chunk: int | None = None, share: Share = ALONE) -> None:
        """Compare the queries that are this process's part, and score them.

        Args:
            chunk: queries compared at once; None takes as many as the memory allows.
            share: which chunks are compared here. Chunks begin and end at the same queries
                whoever compares them, so that their products round alike.
        """
        count, width = self.similarities.shape
        rows = chunk or max(min(CHUNK, _CELLS_AT_ONCE // width), 1)
        buffer = np.empty((min(rows, count), width), self.similarities.dtype)
        starts = range(share.rank * rows, count, share.ranks * rows)
        if self.similarities.screening is not None:
            before = [len(member.scorer.answers) for member in self.members]
            try:
                self._run_screened(self.similarities.screening, starts, buffer)
                return
            except MarginExceededError:
                for member, answers in zip(self.members, before, strict=True):
                    del member.scorer.answers[answers:]
        for start in starts:
            self._compare(start, buffer[: min(rows, count - start)])

    def _compare(self, start: int, block: Block) -> None:
        fill_finite(self.similarities, start, block)
        for member in self.members:
            member.add(start, block)

    def _run_screened(self, screening: Screening, starts: range, buffer: FloatArray) -> None:
        """Screen the queries, and compare in float32 what is in doubt."""
        count, screened = self.similarities.shape[0], True
        # In the memory of the rows in float32: those are compared when the chunk is done.
        codes = buffer.reshape(-1).view(np.int16)[: buffer.size].reshape(buffer.shape)
        waiting: list[IntArray] = [np.empty(0, np.int64) for _ in self.members]
        doubts: list[list[Doubts]] = [[] for _ in self.members]
        for start in starts:
            size = min(len(buffer), count - start)
            if not screened:
                self._compare(start, buffer[:size])
                continue
            products = codes[:size]
            screening.fill(start, products)
            found = []
            for member, open_ones in zip(self.members, doubts, strict=True):
                some, queries = member.screen(start, products, screening)
                found.append(queries)
                if some is not None:
                    open_ones.append(some)
                if sum(len(one.places) for one in open_ones) > _PAIRS_AT_ONCE:
                    member.settle(open_ones, screening)
                    open_ones.clear()
            # Where most queries are compared twice, screening only costs: it ends here.
            screened = 2 * len(self._places(found)) <= size
            waiting = [np.append(*both) for both in zip(waiting, found, strict=True)]
            # A product of a few rows takes as long as one of many: they wait for others.
            if 4 * len(self._places(waiting)) > len(buffer):
                self._compare_waiting(screening, waiting, buffer)
                waiting = [some[:0] for some in waiting]
        self._compare_waiting(screening, waiting, buffer)
        for member, open_ones in zip(self.members, doubts, strict=True):
            member.settle(open_ones, screening)

    def _places(self, queries: Sequence[IntArray]) -> IntArray:
        """Return the places in the pass of some queries of its members, ascending."""
        places = [m.queries[some] for m, some in zip(self.members, queries, strict=True)]
        return np.unique(np.concatenate(places))

    def _compare_waiting(
        self, screening: Screening, waiting: Sequence[IntArray], buffer: FloatArray
    ) -> None:
        """Score queries of the members by rows in float32."""
        rows = self._places(waiting)
        for first in range(0, len(rows), len(buffer)):
            some = rows[first : first + len(buffer)]
            block = buffer[: len(some)]
            screening.fill_exactly(some, block)
            for member, queries in zip(self.members, waiting, strict=True):
                places = member.queries[queries]
                here = np.isin(places, some)
                for query, place in zip(queries[here].tolist(), places[here], strict=True):
                    row = block[np.searchsorted(some, place)]
                    member.scorer.add(query, row if member.gallery is None else row[member.gallery])


def fill_finite(similarities: Similarities, start: int, out: Block) -> None:
    """Write the similarities of the queries from ``start`` on.

    Raises:
        DataError: one is not finite.
    """
    stop = start + len(out)
    with np.errstate(over="ignore", invalid="ignore"):
        similarities.fill(start, stop, out)
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise DataError(
            f"{similarities.distance} similarities of queries {start} to {stop - 1} are not "
            "finite: the features are too large for float32, or nearly zero; scale them"
        )


def passes_of(
    scorers: Sequence[Scorer],
    queries: FeatureSet,
    gallery: FeatureSet,
    distance: str | SimilarityMaker,
    screened: bool = False,
) -> Iterator[Pass]:
    """Yield the passes that serve all protocols.

    Protocols share a pass over all their images, if that compares no more pairs than they would
    on their own. A given maker may look at all images together (re-ranking does), so it serves
    several protocols only where their images are the same; what stands for several images
    (`pool`, `gallery_pool`) has features of its own.

    Args:
        scorers: of the protocols.
        queries, gallery: all images that there are.
        distance: name or maker.
        screened: whether to screen in bfloat16 what a named distance compares on the host.
    """
    make = maker_of(distance, screened)
    for group in _groups(scorers, anywhere=not callable(distance)):
        searches = [scorer.search for scorer in group]
        query_rows = _union([search.query_rows for search in searches])
        gallery_rows = _union([search.gallery_rows for search in searches])
        asked: Any
        offered: Any
        if searches[0].query_pools is not None:  # its pass is its own
            asked = searches[0].asked(queries.features)
        else:
            asked = _images(queries.take(query_rows), distance)
        if searches[0].gallery_pools is not None:
            offered = searches[0].offered(gallery.features)
        else:
            offered = _images(gallery.take(gallery_rows), distance)
        members = tuple(
            Member(
                scorer,
                np.searchsorted(query_rows, scorer.search.query_rows),
                None
                if len(scorer.search.gallery_rows) == len(gallery_rows)
                else np.searchsorted(gallery_rows, scorer.search.gallery_rows),
            )
            for scorer in group
        )
        yield Pass(make(asked, offered), members)


def _images(features: FeatureSet, distance: str | SimilarityMaker) -> Any:
    """Return features where they are; on the host for makers from elsewhere."""
    return features.features if callable(distance) else features.rows


def _groups(scorers: Sequence[Scorer], anywhere: bool) -> list[list[Scorer]]:
    """Divide protocols into those that share a pass, in their order.

    Args:
        scorers: of the protocols.
        anywhere: whether similarities of two images do not depend on the others.
    """
    groups: list[list[Scorer]] = []
    for scorer in scorers:
        for group in groups:
            if scorer.search.pooled or group[0].search.pooled:
                continue
            together, apart = _pairs([*group, scorer]), _pairs(group) + _pairs([scorer])
            same = together == _pairs(group) == _pairs([scorer])
            if same or (anywhere and together <= apart):
                group.append(scorer)
                break
        else:
            groups.append([scorer])
    return groups


def _pairs(scorers: Sequence[Scorer]) -> int:
    """Return how many pairs of images a pass compares."""
    queries = _union([scorer.search.query_rows for scorer in scorers])
    return len(queries) * len(_union([scorer.search.gallery_rows for scorer in scorers]))


def _union(rows: Sequence[IntArray]) -> IntArray:
    return rows[0] if len(rows) == 1 else np.unique(np.concatenate(rows))
