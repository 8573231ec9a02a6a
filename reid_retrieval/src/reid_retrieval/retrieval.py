"""Exact retrieval scores under protocols, from features or from ready distances.

Queries are compared to the whole gallery a chunk at a time in one buffer that is used again and
again: memory grows with the gallery, not with queries x gallery. Protocols of one data set are
scored from the same chunks, and several processes divide the chunks among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reid_retrieval.errors import DataError, RetrievalError
from reid_retrieval.features import FeatureSet, on_host, require_fitting, warn_of_zeros
from reid_retrieval.labels import BoolArray, IntArray, Labels
from reid_retrieval.passes import ALONE, Member, Pass, Share, fill_finite, passes_of
from reid_retrieval.precision import Precision, screens
from reid_retrieval.products import products_by
from reid_retrieval.protocols import STANDARD, Protocol
from reid_retrieval.ranks import closest
from reid_retrieval.results import Provenance, RetrievalResult
from reid_retrieval.scoring import Compared, Scorer
from reid_retrieval.searching import Search
from reid_retrieval.similarities import Block, SimilarityMaker, of_distances


def evaluate(
    queries: FeatureSet,
    gallery: FeatureSet,
    protocol: Protocol = STANDARD,
    *,
    distance: str | SimilarityMaker = "cosine",
    draws: Sequence[ArrayLike] | None = None,
    chunk: int | None = None,
    per_query: bool = False,
    provenance: Provenance | None = None,
    products: str | None = None,
    precision: Precision = "auto",
    share: Share = ALONE,
) -> RetrievalResult:
    """Search for every query in the gallery and score the rankings.

    Exact: the order is ``(similarity, gallery index)`` as by a stable sort. With features whose
    inner products are exact in float32, the result does not depend on ``chunk``, ``products`` or
    the device.

    Args:
        queries, gallery: features and labels; the order of the gallery breaks ties.
        protocol: who takes part and what counts.
        distance: ``cosine``, ``euclidean``, or a function of the two arrays of features that
            returns `Similarities`.
        draws: rows of ``gallery`` for each single-shot gallery, in place of random ones.
        chunk: queries compared at once; None takes 256, or fewer for a very large gallery.
        per_query: whether to keep the scores of every query.
        provenance: recorded in the result.
        products: library for the inner products, see
            [products_by][reid_retrieval.products.products_by]; None takes the chosen one.
        precision: ``auto``, ``fp32`` or ``bf16``, see `Precision`: with ``bf16``, and with ``auto``
            where it pays, a named distance on the host is screened in bfloat16, which needs half
            the gallery's memory for a copy.
        share: which of several processes this is; all get the result.

    Raises:
        DataError: features are not finite or do not fit each other, nobody takes part, no query
            has a match, or labels that the protocol needs are not known.
        ConfigError: there is no such distance or library.
    """
    search = Search(protocol, queries.labels, gallery.labels, draws)
    scorers = [Scorer(search, "seed" if draws is None else "given")]
    with products_by(products):
        screened = _screened(precision, [search], queries, gallery, share)
        passes = _compared(scorers, queries, gallery, distance, screened)
        (result,) = _results(scorers, passes, chunk, per_query, provenance, share)
    return result


def evaluate_all(
    queries: FeatureSet,
    gallery: FeatureSet,
    protocols: Sequence[Protocol],
    *,
    distance: str | SimilarityMaker = "cosine",
    chunk: int | None = None,
    per_query: bool = False,
    heads: int = 0,
    provenance: Provenance | None = None,
    products: str | None = None,
    precision: Precision = "auto",
    share: Share = ALONE,
) -> tuple[RetrievalResult, ...]:
    """Score the rankings under several protocols, comparing every pair of images once.

    Arguments and errors are those of `evaluate`, and:

    Args:
        heads: with ``per_query``, how many images of every ranking's head to keep (`RankedHead`);
            with any, everything is compared in float32, whatever ``precision`` says.

    Returns:
        One result per protocol, in their order.
    """
    scorers = [Scorer(Search(p, queries.labels, gallery.labels), heads=heads) for p in protocols]
    with products_by(products):
        # Screened similarities are exact around the matches alone.
        exact: Precision = "fp32" if heads else precision
        screened = _screened(exact, [s.search for s in scorers], queries, gallery, share)
        passes = _compared(scorers, queries, gallery, distance, screened)
        return _results(scorers, passes, chunk, per_query, provenance, share)


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
    if protocol.pool or protocol.gallery_pool:
        raise DataError(
            f"protocol '{protocol.name}' pools features of several images, which ready distances "
            "cannot tell; evaluate features"
        )
    shape = np.shape(distances)
    if shape != (len(queries), len(gallery)):
        raise DataError(
            f"distances of shape {shape} do not fit {len(queries)} queries and "
            f"{len(gallery)} gallery images"
        )
    search = Search(protocol, queries, gallery, draws)
    similarities = of_distances(distances, search.query_rows, search.gallery_rows)
    scorer = Scorer(search, "seed" if draws is None else "given")
    everyone = Member(scorer, np.arange(len(search.query_rows)), None)
    passes = [Pass(similarities, (everyone,))]
    (result,) = _results([scorer], passes, None, per_query, provenance, ALONE)
    return result


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
    (only,) = _compared([Scorer(search)], queries, gallery, distance)
    similarities = only.similarities
    row = np.empty((1, similarities.shape[1]), similarities.dtype)
    ranked = []
    for query in np.searchsorted(search.query_rows, rows).tolist():
        fill_finite(similarities, query, row)
        best = closest(np.where(search.shown(query), row[0], -np.inf), top)
        matches = search.gallery.pids[best] == search.queries.pids[query]
        ranked.append(
            RankedQuery(
                int(search.query_rows[query]), search.gallery_rows[best], matches, row[0, best]
            )
        )
    return ranked


def _compared(
    scorers: Sequence[Scorer],
    queries: FeatureSet,
    gallery: FeatureSet,
    distance: str | SimilarityMaker,
    screened: bool = False,
) -> Iterable[Pass]:
    """Return the passes over features that fit each other."""
    # Before rows are selected: the error must name the caller's row.
    require_fitting(queries, gallery)
    if distance == "cosine":  # of Euclidean distances, zeros are a point like any other
        warn_of_zeros(queries.rows, "query")
        warn_of_zeros(gallery.rows, "gallery")
    return passes_of(scorers, queries, gallery, distance, screened)


def _screened(
    precision: Precision,
    searches: Sequence[Search],
    queries: FeatureSet,
    gallery: FeatureSet,
    share: Share,
) -> bool:
    """Return whether to screen; of several processes, all do as the first."""
    if precision == "auto" and not all(search.shows_everything for search in searches):
        precision = "fp32"  # their rows are scored one by one, which was not shown to pay
    host = on_host(queries.rows) and on_host(gallery.rows)
    least = min((len(search.query_rows) for search in searches), default=0)
    wanted = screens(precision, host, least)
    return wanted if share.ranks == 1 else bool(share.gather(wanted)[0])


def _results(
    scorers: Sequence[Scorer],
    passes: Iterable[Pass],
    chunk: int | None,
    per_query: bool,
    provenance: Provenance | None,
    share: Share,
) -> tuple[RetrievalResult, ...]:
    """Run the passes, here and in the other processes, and return what they found."""
    compared: dict[int, Compared] = {}
    failed = None
    try:
        for one in passes:
            one.run(chunk, share)
            compared |= {id(member.scorer): one.compared for member in one.members}
    except RetrievalError as error:
        failed = error
    # Where one process fails, the others must not wait for its part.
    parts = share.gather((failed, [scorer.answers for scorer in scorers]))
    for problem, _ in parts:
        if problem is not None:
            raise problem
    for number, scorer in enumerate(scorers):
        scorer.take_over([answers[number] for _, answers in parts])
    return tuple(s.result(compared[id(s)], per_query, provenance) for s in scorers)
