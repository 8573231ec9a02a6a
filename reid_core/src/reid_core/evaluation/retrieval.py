"""Exact retrieval scores under a protocol, from features or from ready distances.

Queries are compared to the whole gallery a chunk at a time in one buffer that is used again and
again: memory grows with the gallery, not with queries x gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_core.errors import DataError
from reid_core.evaluation.features import FeatureSet, require_finite
from reid_core.evaluation.labels import BoolArray, IntArray, Labels
from reid_core.evaluation.protocols import STANDARD, Protocol
from reid_core.evaluation.ranks import cumulative_matches, measures, positive_ranks
from reid_core.evaluation.results import Provenance, QueryScores, RetrievalResult, Spread
from reid_core.evaluation.search import Search
from reid_core.evaluation.similarities import (
    Block,
    Similarities,
    SimilarityMaker,
    maker_of,
    of_distances,
)

CHUNK = 256
"""Queries compared at once: 16 MiB of similarities at 16 000 gallery images, 80 at 82 000."""


def evaluate(
    queries: FeatureSet,
    gallery: FeatureSet,
    protocol: Protocol = STANDARD,
    *,
    distance: str | SimilarityMaker = "cosine",
    draws: Sequence[ArrayLike] | None = None,
    chunk: int = CHUNK,
    per_query: bool = False,
    provenance: Provenance | None = None,
) -> RetrievalResult:
    """Search for every query in the gallery and score the rankings.

    Exact: the order is ``(similarity, gallery index)`` as by a stable sort. With features whose
    inner products are exact in float32, the result does not depend on ``chunk``.

    Args:
        queries, gallery: features and labels; the order of the gallery breaks ties.
        protocol: who takes part and what counts.
        distance: ``cosine``, ``euclidean``, or a function of the two arrays of features that
            returns `Similarities`.
        draws: rows of ``gallery`` for each single-shot gallery, in place of random ones.
        chunk: queries compared at once.
        per_query: whether to keep the scores of every query.
        provenance: recorded in the result.

    Raises:
        DataError: features are not finite or do not fit each other, nobody takes part, no query
            has a match, or labels that the protocol needs are not known.
        ConfigError: there is no such distance.
    """
    search = Search(protocol, queries.labels, gallery.labels, draws)
    similarities = _compare(search, queries, gallery, distance)
    scores = _score(search, similarities, chunk)
    return _result(search, similarities, scores, draws is not None, per_query, provenance)


def evaluate_distances(
    distances: ArrayLike,
    queries: Labels,
    gallery: Labels,
    protocol: Protocol = STANDARD,
    *,
    draws: Sequence[ArrayLike] | None = None,
    per_query: bool = False,
    provenance: Provenance | None = None,
) -> RetrievalResult:
    """Score the rankings of a ready, small matrix of distances (queries x gallery).

    The matrix is read in float64, and equal values are ties. For everything else see `evaluate`.
    """
    shape = np.shape(distances)
    if shape != (len(queries), len(gallery)):
        raise DataError(
            f"distances of shape {shape} do not fit {len(queries)} queries and "
            f"{len(gallery)} gallery images"
        )
    search = Search(protocol, queries, gallery, draws)
    similarities = of_distances(distances, search.query_rows, search.gallery_rows)
    scores = _score(search, similarities, CHUNK)
    return _result(search, similarities, scores, draws is not None, per_query, provenance)


@dataclass(frozen=True)
class RankedQuery:
    """The head of one query's ranking, junk left out.

    Args:
        query: row of the query set.
        gallery: int64 ``k``, rows of the gallery, the closest first.
        matches: bool ``k``, which of them show the query's identity.
        similarities: ``k``, higher is closer.
    """

    query: int
    gallery: IntArray
    matches: BoolArray
    similarities: Block


def ranked_rows(
    queries: FeatureSet,
    gallery: FeatureSet,
    rows: Sequence[int] | IntArray,
    protocol: Protocol = STANDARD,
    *,
    top: int = 10,
    distance: str | SimilarityMaker = "cosine",
) -> list[RankedQuery]:
    """Return the first gallery images of chosen queries, for a picture of the ranked lists.

    Args:
        queries, gallery, protocol, distance: as for `evaluate`; of a single-shot protocol the
            gallery of the first trial is shown.
        rows: rows of the query set, in the order wanted.
        top: length of each list; shorter where fewer images are left.

    Raises:
        DataError: a row does not take part in the protocol, or as `evaluate` does.
    """
    search = Search(protocol, queries.labels, gallery.labels)
    missing = np.setdiff1d(rows, search.query_rows)
    if missing.size:
        raise DataError(f"protocol '{protocol.name}': query row {missing[0]} does not take part")
    similarities = _compare(search, queries, gallery, distance)
    row = np.empty((1, similarities.shape[1]), similarities.dtype)
    ranked = []
    for query in np.searchsorted(search.query_rows, rows).tolist():
        _fill(similarities, query, query + 1, row)
        own, junk = search.own(query)
        shown = np.ones(len(search.gallery), np.bool_)
        if search.trials:
            shown[:] = False
            shown[next(search.galleries(query))] = True
        shown[own[junk]] = False
        hidden = search.hidden(query)
        if hidden is not None:
            shown &= ~hidden
        candidates = np.flatnonzero(shown)
        best = candidates[np.argsort(-row[0, candidates], kind="stable")[:top]]
        matches = search.gallery.pids[best] == search.queries.pids[query]
        ranked.append(
            RankedQuery(
                int(search.query_rows[query]), search.gallery_rows[best], matches, row[0, best]
            )
        )
    return ranked


def _compare(
    search: Search, queries: FeatureSet, gallery: FeatureSet, distance: str | SimilarityMaker
) -> Similarities:
    width, other = queries.features.shape[1], gallery.features.shape[1]
    if width != other:
        raise DataError(
            f"query features have {width} dimensions, gallery features {other}: they must come "
            "from one model"
        )
    make = maker_of(distance)
    # Before rows are selected: the error must name the caller's row.
    require_finite(queries.features, "query")
    require_finite(gallery.features, "gallery")
    asked, offered = queries.take(search.query_rows), gallery.take(search.gallery_rows)
    return make(asked.features, offered.features)


def _fill(similarities: Similarities, start: int, stop: int, out: Block) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        similarities.fill(start, stop, out)
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise DataError(
            f"{similarities.distance} similarities of queries {start} to {stop - 1} are not "
            "finite: the features are too large for float32; scale them down"
        )


@dataclass(frozen=True)
class _Scores:
    """Scores of the valid queries ``V`` in ``T`` galleries: ``queries`` V, the others ``T V``."""

    queries: IntArray
    first_hit: IntArray
    average_precision: NDArray[np.float64]
    trapezoid: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    tied: int


def _score(search: Search, similarities: Similarities, chunk: int) -> _Scores:
    count, width = similarities.shape
    buffer = np.empty((min(chunk, count), width), similarities.dtype)
    valid: list[int] = []
    scores: list[list[tuple[int, float, float, float]]] = []
    unknown = only_junk = tied = 0
    for start in range(0, count, chunk):
        block = buffer[: min(chunk, count - start)]
        _fill(similarities, start, start + len(block), block)
        for query, row in enumerate(block, start):
            own, junk = search.own(query)
            if junk.all():
                unknown += not own.size
                only_junk += bool(own.size)
                continue
            found, tie = _rank(search, query, row, own, junk)
            valid.append(query)
            scores.append([measures(ranks) for ranks in found])
            tied += tie
    if not valid:
        raise search.no_valid_query(unknown, only_junk)
    # From V x T x 4 to one T x V array per measure.
    table = np.array(scores, np.float64).transpose(2, 1, 0)
    return _Scores(np.array(valid), table[0].astype(np.int64), table[1], table[2], table[3], tied)


def _rank(
    search: Search, query: int, row: Block, own: IntArray, junk: BoolArray
) -> tuple[list[IntArray], bool]:
    """Return the ranks of a query's matches in every gallery, and whether one of them ties."""
    if not search.trials:
        hidden = search.hidden(query)
        if hidden is not None:
            row[hidden] = -np.inf
        ranks, tie = positive_ranks(row, own, junk)
        return [ranks], tie
    found = []
    ties = False
    for shown in search.galleries(query):
        match = np.flatnonzero(search.gallery.pids[shown] == search.queries.pids[query])
        ranks, tie = positive_ranks(row[shown], match, np.zeros(len(match), np.bool_))
        found.append(ranks)
        ties |= tie
    return found, ties


def _result(
    search: Search,
    similarities: Similarities,
    scores: _Scores,
    given: bool,
    per_query: bool,
    provenance: Provenance | None,
) -> RetrievalResult:
    protocol = search.protocol
    total = len(search.query_rows)
    over = len(scores.queries) if protocol.denominator == "valid" else total
    curves = np.array([cumulative_matches(f, protocol.max_rank) for f in scores.first_hit]) / over
    averages = scores.average_precision.sum(axis=1) / over
    kept = None
    if per_query:
        kept = QueryScores(
            search.query_rows[scores.queries],
            scores.first_hit.mean(axis=0),
            scores.average_precision.mean(axis=0),
            scores.trapezoid.mean(axis=0),
            scores.inverse_negative_penalty.mean(axis=0),
        )
    spread = Spread(tuple(curves.std(axis=0).tolist()), float(averages.std()))
    return RetrievalResult(
        protocol=protocol.name,
        protocol_text=protocol.text,
        ranks=protocol.ranks,
        cmc=tuple(curves.mean(axis=0).tolist()),
        mean_ap=float(averages.mean()),
        mean_ap_trapezoid=float(scores.trapezoid.sum(axis=1).mean() / over),
        mean_inp=float(scores.inverse_negative_penalty.sum(axis=1).mean() / over),
        valid_queries=len(scores.queries),
        total_queries=total,
        gallery_images=len(search.gallery_rows),
        tied_queries=scores.tied,
        distance=similarities.distance,
        reranking=similarities.reranking,
        provenance=provenance or Provenance(),
        trials=len(search.trials),
        spread=spread if search.trials else None,
        drawn="given" if given else "seed",
        per_query=kept,
    )
