"""Several protocols from one pass, and several processes that divide it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from reid_retrieval import passes
from reid_retrieval.errors import DataError
from reid_retrieval.features import FeatureSet, FloatArray
from reid_retrieval.labels import Labels
from reid_retrieval.passes import Share, passes_of
from reid_retrieval.protocols import (
    CAMERA_POOLS,
    CROSS_CLOTHES,
    NO_CAMERA,
    STANDARD,
    JunkRule,
    Protocol,
    SingleShot,
    Subset,
    every_gallery_variant,
)
from reid_retrieval.reranking import k_reciprocal
from reid_retrieval.results import RetrievalResult
from reid_retrieval.retrieval import evaluate, evaluate_all, ranked_rows
from reid_retrieval.scoring import Scorer
from reid_retrieval.searching import Search
from reid_retrieval.similarities import Block, Similarities

PROTOCOLS = (
    STANDARD,
    CROSS_CLOTHES,
    NO_CAMERA,
    Protocol("apart", junk=JunkRule(apart=("camid",))),
    replace(STANDARD, name="some", query=Subset(cameras=(0, 1)), gallery=Subset(cameras=(1, 2))),
    replace(STANDARD, name="shots", single_shot=SingleShot(trials=3)),
    every_gallery_variant(STANDARD),
    replace(STANDARD, name="pooled", pool=("pid", "camid")),
    CAMERA_POOLS,
    replace(STANDARD, name="all count", denominator="all"),
)


SMALL = {"chunk": 7}


def two_sides(exact: bool = True) -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(11)

    def side(rows: int) -> FeatureSet:
        labels = Labels(*rng.integers(0, (12, 3, 2), (rows, 3)).T)
        features = rng.integers(-3, 4, (rows, 8)) if exact else rng.standard_normal((rows, 8))
        return FeatureSet(features, labels)

    return side(90), side(250)


def as_data(results: tuple[RetrievalResult, ...]) -> list[Any]:
    """Return everything in results, the scores of single queries included."""
    return [(r.to_json(), pickle.dumps(r.per_query)) for r in results]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_protocols_together_score_as_each_alone(distance: str) -> None:
    queries, gallery = two_sides()
    together = evaluate_all(queries, gallery, PROTOCOLS, distance=distance, per_query=True)
    # Means of pools are rounded: their products may end otherwise in blocks of another size.
    small = [{} if p.pool or p.gallery_pool else SMALL for p in PROTOCOLS]
    alone = [
        evaluate(queries, gallery, p, distance=distance, per_query=True, **chunk)
        for p, chunk in zip(PROTOCOLS, small, strict=True)
    ]
    assert as_data(together) == as_data(tuple(alone))
    assert len({result.mean_ap for result in together}) > 5


def test_protocols_together_score_as_each_alone_after_reranking() -> None:
    queries, gallery = two_sides(exact=False)
    maker = k_reciprocal(k1=6, k2=2)
    together = evaluate_all(queries, gallery, PROTOCOLS, distance=maker, per_query=True)
    alone = [evaluate(queries, gallery, p, distance=maker, per_query=True) for p in PROTOCOLS]
    assert as_data(together) == as_data(tuple(alone))


def counted(
    distance: str | Callable[[FloatArray, FloatArray], Similarities], protocols: Any
) -> list[tuple[tuple[int, int], list[str]]]:
    """Return the size of every pass and the protocols that it serves."""
    queries, gallery = two_sides()
    scorers = [Scorer(Search(p, queries.labels, gallery.labels)) for p in protocols]
    return [
        (one.similarities.shape, [m.scorer.search.protocol.name for m in one.members])
        for one in passes_of(scorers, queries, gallery, distance)
    ]


def zeros(queries: FloatArray, gallery: FloatArray) -> Similarities:
    def fill(start: int, stop: int, out: Block) -> None:
        out[:] = 0

    return Similarities((len(queries), len(gallery)), fill, "zeros")


def test_protocols_share_a_pass_where_that_saves_products() -> None:
    named = counted("cosine", PROTOCOLS)
    assert [names for _, names in named] == [
        ["standard", "cross-clothes", "no-camera", "apart", "some", "shots",
         "standard/single-shot@all", "all count"],
        ["pooled"],
        ["standard/camera-pools"],
    ]  # fmt: skip
    assert named[0][0] == (90, 250)
    # A maker may look at all images together, so only equal sets of images share it.
    given = counted(zeros, PROTOCOLS)
    assert [names for _, names in given] == [
        ["standard", "cross-clothes", "no-camera", "apart", "shots", "standard/single-shot@all",
         "all count"],
        ["some"],
        ["pooled"],
        ["standard/camera-pools"],
    ]  # fmt: skip
    cameras = [
        replace(STANDARD, name=f"{n}", query=Subset(cameras=(n,)), gallery=Subset(cameras=(n,)))
        for n in (0, 1)
    ]
    # Both together would compare each camera to the other for nothing.
    assert [names for _, names in counted("cosine", cameras)] == [["0"], ["1"]]


def test_similarities_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from reid_retrieval import products

    rows = []
    numpy = products.HOST_LIBRARIES["numpy"]

    def counting(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
        rows.append(len(queries))
        numpy(queries, gallery, out)

    monkeypatch.setattr(products, "HOST_LIBRARIES", {"numpy": counting})
    evaluate_all(*two_sides(), (STANDARD, CROSS_CLOTHES, NO_CAMERA), products="numpy", chunk=40)
    assert rows == [40, 40, 10]


def test_a_large_gallery_makes_chunks_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_CELLS_AT_ONCE", 2600)
    seen = []

    def maker(queries: FloatArray, gallery: FloatArray) -> Similarities:
        def fill(start: int, stop: int, out: Block) -> None:
            seen.append(out.shape)
            out[:] = queries[start:stop] @ gallery.T

        return Similarities((len(queries), len(gallery)), fill, "products")

    evaluate(*two_sides(), distance=maker)
    assert seen == [(10, 250)] * 9


def in_processes(ranks: int, work: Callable[[Share], Any]) -> list[Any]:
    """Run ``work`` as several ranks at once; parts travel pickled, as between processes."""
    barrier = Barrier(ranks, timeout=60)
    parts: list[bytes] = [b""] * ranks

    def share(rank: int) -> Share:
        def gather(part: Any) -> list[Any]:
            parts[rank] = pickle.dumps(part)
            barrier.wait()
            return [pickle.loads(one) for one in parts]

        return Share(rank, ranks, gather)

    with ThreadPoolExecutor(ranks) as pool:
        running = [pool.submit(work, share(rank)) for rank in range(ranks)]
        return [one.exception() or one.result() for one in running]


@pytest.mark.parametrize("ranks", [2, 3, 16])
@pytest.mark.parametrize("exact", [True, False])
def test_ranks_that_divide_the_queries_find_what_one_process_does(ranks: int, exact: bool) -> None:
    queries, gallery = two_sides(exact)

    def work(share: Share = passes.ALONE) -> Any:
        return as_data(
            evaluate_all(
                queries, gallery, PROTOCOLS, chunk=8, per_query=True, share=share, products="numpy"
            )
        )

    assert in_processes(ranks, work) == [work()] * ranks


def test_ranks_compare_their_own_queries_only() -> None:
    rows: dict[int, list[tuple[int, int]]] = {0: [], 1: []}

    def work(share: Share) -> None:
        def maker(queries: FloatArray, gallery: FloatArray) -> Similarities:
            def fill(start: int, stop: int, out: Block) -> None:
                rows[share.rank].append((start, stop))
                out[:] = 0

            return Similarities((len(queries), len(gallery)), fill, "zeros")

        evaluate(*two_sides(), distance=maker, chunk=20, share=share)

    in_processes(2, work)
    assert rows == {0: [(0, 20), (40, 60), (80, 90)], 1: [(20, 40), (60, 80)]}


def test_a_rank_that_fails_ends_all_of_them() -> None:
    def broken(queries: FloatArray, gallery: FloatArray) -> Similarities:
        def fill(start: int, stop: int, out: Block) -> None:
            out[:] = np.nan if start == 40 else 0

        return Similarities((len(queries), len(gallery)), fill, "broken")

    def work(share: Share) -> Any:
        return evaluate(*two_sides(), distance=broken, chunk=20, share=share)

    errors = in_processes(3, work)
    assert [type(error) for error in errors] == [DataError] * 3
    assert all("broken similarities of queries 40 to 59" in str(error) for error in errors)


def test_rows_are_not_written_to() -> None:
    """A protocol that hides images leaves them to the next one."""
    queries, gallery = two_sides()
    hiding = PROTOCOLS[3]
    found = evaluate_all(queries, gallery, (hiding, NO_CAMERA, hiding))
    assert found[0] == found[2]
    assert found[1] == evaluate(queries, gallery, NO_CAMERA)


def test_more_matches_than_other_images_and_nothing_but_matches() -> None:
    rng = np.random.default_rng(2)
    features = rng.integers(-3, 4, (40, 4))
    everyone = FeatureSet(features, Labels(np.ones(40, int), np.arange(40)))
    result = evaluate(everyone, everyone)
    assert (result.mean_ap, result.mean_inp, result.cmc[0]) == (1.0, 1.0, 1.0)
    one_other = FeatureSet(features, Labels([2] + [1] * 39, np.arange(40)))
    result = evaluate(everyone, one_other, per_query=True)
    assert result.per_query is not None
    # The other image costs at most one rank.
    assert ((result.per_query.first_hit == 1) | (result.per_query.first_hit == 2)).all()
    assert result.mean_inp >= 38 / 39 * 0.9


def test_every_feature_alike() -> None:
    labels = Labels([1, 2, 3, 1, 2, 3], [0, 0, 0, 1, 1, 1])
    same = FeatureSet(np.full((6, 4), 0.3), labels)
    for distance in ("cosine", "euclidean"):
        result = evaluate(same, same, distance=distance, per_query=True)
        assert result.tied_queries == 6
        assert result.per_query is not None
        # The gallery's order alone; what is junk to a query has left it.
        assert result.per_query.first_hit.tolist() == [3, 4, 5, 1, 2, 3]


@pytest.mark.filterwarnings("ignore:.* are zeros")
def test_features_of_norm_0_on_both_sides() -> None:
    queries = FeatureSet(np.zeros((1, 3)), Labels([1], [0]))
    gallery = FeatureSet(np.eye(3), Labels([2, 1, 3], [1, 1, 1]))
    result = evaluate(queries, gallery, per_query=True)
    assert result.per_query is not None
    assert result.per_query.first_hit.tolist() == [2]
    (line,) = ranked_rows(queries, gallery, [0])
    assert line.similarities.tolist() == [0, 0, 0]
    for size in (1e-42, 1e-38, 1e-25, 9e-16):
        tiny = FeatureSet(np.eye(3) * size, gallery.labels)
        with pytest.raises(DataError, match="nearly zero; scale them"):
            evaluate(queries, tiny)
    # Above, cosines are those of the features at any size; of Euclidean ones the largest counts.
    small = FeatureSet(np.array([[2, 1, 0], [9, 1, 0], [0, 1, 0]]) * 2.0**-49, gallery.labels)
    asked = FeatureSet(np.array([[1, 0, 0]]) * 2.0**-49, queries.labels)
    (line,) = ranked_rows(asked, small, [0])
    assert line.gallery.tolist() == [1, 0, 2]
    evaluate(queries, FeatureSet(np.diag([1, 1, 1e-30]), gallery.labels), distance="euclidean")


@pytest.mark.parametrize("products", ["numpy", "torch"])
def test_heads_are_the_ranked_rows_and_their_ranks_make_the_scores(products: str) -> None:
    queries, gallery = two_sides()
    found = evaluate_all(
        queries, gallery, PROTOCOLS, per_query=True, heads=5, products=products, precision="bf16"
    )
    plain = evaluate_all(queries, gallery, PROTOCOLS, per_query=True, products=products)
    for protocol, result, without in zip(PROTOCOLS, found, plain, strict=True):
        assert result == replace(without, per_query=result.per_query)
        assert without.per_query is not None
        assert without.per_query.heads == ()
        scores = result.per_query
        assert scores is not None
        assert len(scores.heads) == len(scores.rows)
        listed = ranked_rows(queries, gallery, scores.rows, protocol, top=5)
        for place, (head, row) in enumerate(zip(scores.heads, listed, strict=True)):
            assert head.gallery.tolist() == row.gallery.tolist()
            assert head.matches.tolist() == row.matches.tolist()
            # The ranks of the head's matches are those at which the head shows them.
            shown = dict(zip(head.matched.tolist(), head.ranks.tolist(), strict=True))
            at = {int(one): rank for rank, one in enumerate(head.gallery, 1) if int(one) in shown}
            assert at == {one: rank for one, rank in shown.items() if rank <= 5}
            if protocol.single_shot is None:
                assert scores.first_hit[place] == head.ranks[0]
                precision = np.arange(1, len(head.ranks) + 1) / head.ranks
                assert scores.average_precision[place] == pytest.approx(precision.mean())
