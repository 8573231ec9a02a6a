"""Scores under one protocol, collected query by query, by one process or by several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.expectation import ExpectedRank, expected_rank
from reid_retrieval.labels import BoolArray, IntArray
from reid_retrieval.ranks import (
    Measures,
    closest,
    cumulative_matches,
    measures,
    positive_ranks,
)
from reid_retrieval.results import (
    Provenance,
    QueryScores,
    RankedHead,
    RetrievalResult,
    Spread,
)
from reid_retrieval.searching import Search
from reid_retrieval.similarities import Block


class Compared(NamedTuple):
    """How images were compared, for the record; see `Similarities`."""

    distance: str
    reranking: str
    products: str


@dataclass(frozen=True)
class Answer:
    """What the ranking of one valid query came to.

    Args:
        query: its number in the `Search`.
        ranks: of its matches, in every gallery; empty where all galleries are averaged.
        expected: the distribution of the rank where all galleries are averaged.
        tied: whether a match is exactly as close as another image.
        head: of its ranking, where heads are kept.
    """

    query: int
    ranks: list[IntArray]
    expected: ExpectedRank | None
    tied: bool
    head: RankedHead | None = None


class Scorer:
    """Collect the answers of a search and turn them into its result.

    Args:
        search: a protocol, applied.
        drawn: where its single-shot galleries come from, ``seed`` or ``given``.
        heads: how many images of every ranking's head to keep.
    """

    def __init__(self, search: Search, drawn: str = "seed", heads: int = 0) -> None:
        self.search = search
        self.answers: list[Answer] = []
        self._drawn = drawn
        self._heads = heads

    def add(self, query: int, row: Block) -> None:
        """Rank the gallery for one query.

        Args:
            query: its number in the search.
            row: ``G``, similarities to the search's gallery; not written to.
        """
        search = self.search
        own, junk = search.own(query)
        if junk.all():
            return
        head = self._head(query, row, own) if self._heads else None
        if search.every_gallery:
            likely = expected_rank(row, search.identities, own, junk, search.hidden(query))
            self.answers.append(Answer(query, [], likely, likely.tied, head))
            return
        ranks, tied = self._rank(query, row, own, junk)
        self.answers.append(Answer(query, ranks, None, tied, head))

    def add_ranks(self, query: int, ranks: IntArray, tied: bool) -> None:
        """Take over the ranks of a query's matches, where it is shown everything.

        Args:
            query, ranks, tied: see `Answer`.
        """
        self.answers.append(Answer(query, [ranks], None, tied))

    def _head(self, query: int, row: Block, own: IntArray) -> RankedHead:
        """Return the head of a query's ranking, in rows of the gallery set."""
        search = self.search
        shown = search.shown(query)
        seen = np.where(shown, row, row.dtype.type(-np.inf))
        best = closest(seen, self._heads)
        matches = search.gallery.pids[best] == search.queries.pids[query]
        found = own[shown[own]]
        ranks, _ = positive_ranks(seen, found, np.zeros(len(found), np.bool_))
        matched = found[np.argsort(-row[found], kind="stable")]
        rows = search.gallery_rows
        return RankedHead(rows[best], matches, ranks, rows[matched])

    def _rank(
        self, query: int, row: Block, own: IntArray, junk: BoolArray
    ) -> tuple[list[IntArray], bool]:
        """Return the ranks of a query's matches in every gallery, and whether one of them ties."""
        search = self.search
        if not search.trials:
            hidden = search.hidden(query)
            if hidden is not None:
                row = np.where(hidden, row.dtype.type(-np.inf), row)
            ranks, tied = positive_ranks(row, own, junk)
            return [ranks], tied
        found = []
        tied = False
        for shown in search.galleries(query):
            match = np.flatnonzero(search.gallery.pids[shown] == search.queries.pids[query])
            ranks, tie = positive_ranks(row[shown], match, np.zeros(len(match), np.bool_))
            found.append(ranks)
            tied |= tie
        return found, tied

    def take_over(self, parts: Sequence[list[Answer]]) -> None:
        """Replace the answers by those of all processes."""
        together = [answer for part in parts for answer in part]
        # In the order of one process, so that sums round as they do there.
        self.answers = sorted(together, key=lambda answer: answer.query)

    def result(
        self, compared: Compared, per_query: bool, provenance: Provenance | None
    ) -> RetrievalResult:
        """Return the means over the queries.

        Args:
            compared: how images were compared.
            per_query: whether to keep the scores of every query.
            provenance: recorded in the result.

        Raises:
            DataError: no query has a match.
        """
        search, protocol = self.search, self.search.protocol
        if not self.answers:
            raise self._no_valid_query()
        scores = self._measures()
        total, valid = len(search.query_rows), len(self.answers)
        over = valid if protocol.denominator == "valid" else total
        curves = self._reached(scores) / over
        averages = scores.average_precision.sum(axis=1) / over
        spread = Spread(tuple(curves.std(axis=0).tolist()), float(averages.std()))
        return RetrievalResult(
            protocol=protocol.name,
            protocol_text=protocol.text,
            ranks=protocol.ranks,
            cmc=tuple(curves.mean(axis=0).tolist()),
            mean_ap=float(averages.mean()),
            mean_ap_trapezoid=float(scores.trapezoid.sum(axis=1).mean() / over),
            mean_inp=float(scores.inverse_negative_penalty.sum(axis=1).mean() / over),
            valid_queries=valid,
            total_queries=total,
            gallery_images=len(search.gallery_rows),
            tied_queries=sum(answer.tied for answer in self.answers),
            distance=compared.distance,
            reranking=compared.reranking,
            provenance=provenance or Provenance(),
            trials=len(search.trials),
            spread=spread if search.trials else None,
            drawn="every" if search.every_gallery else self._drawn if search.trials else None,
            denominator=protocol.denominator,
            per_query=self._of_queries(scores) if per_query else None,
            products=compared.products,
        )

    def _measures(self) -> Measures:
        """Return the scores of the valid queries ``V`` in ``T`` galleries, ``T V`` each."""
        if self.search.every_gallery:
            likely = [answer.expected.measures() for answer in self.answers if answer.expected]
            return Measures(*(column[None] for column in np.array(likely, np.float64).T))
        flat = measures([ranks for answer in self.answers for ranks in answer.ranks])
        shape = (len(self.answers), -1)
        return Measures(
            flat.first_hit.reshape(shape).T,
            flat.average_precision.reshape(shape).T,
            flat.trapezoid.reshape(shape).T,
            flat.inverse_negative_penalty.reshape(shape).T,
        )

    def _reached(self, scores: Measures) -> NDArray[np.float64]:
        """Count the queries that have a match by rank ``k``, ``T max_rank``."""
        longest = self.search.protocol.max_rank
        if self.search.every_gallery:
            chances = [a.expected.reached(longest) for a in self.answers if a.expected]
            return np.asarray(np.sum(chances, axis=0))[None]
        hits = scores.first_hit.astype(np.int64)
        return np.array([cumulative_matches(trial, longest) for trial in hits])

    def _of_queries(self, scores: Measures) -> QueryScores:
        answered = np.array([answer.query for answer in self.answers])
        return QueryScores(
            self.search.query_rows[answered],
            scores.first_hit.mean(axis=0),
            scores.average_precision.mean(axis=0),
            scores.trapezoid.mean(axis=0),
            scores.inverse_negative_penalty.mean(axis=0),
            tuple(answer.head for answer in self.answers if answer.head is not None),
        )

    def _no_valid_query(self) -> Exception:
        sizes = [len(self.search.own(query)[0]) for query in range(len(self.search.query_rows))]
        unknown = sizes.count(0)
        return self.search.no_valid_query(unknown, len(sizes) - unknown)
