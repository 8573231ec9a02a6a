"""Rankings screened in bfloat16: the digits of float32, whatever multiplies bfloat16 here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from reid_retrieval import blocks, passes, precision, screening
from reid_retrieval.blocks import BFLOAT16, Images, MarginExceededError, Rounded, margins
from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FeatureSet, FloatArray
from reid_retrieval.labels import Labels
from reid_retrieval.neighbours import Gallery, nearest
from reid_retrieval.precision import screens
from reid_retrieval.products import Trial
from reid_retrieval.protocols import (
    NO_CAMERA,
    STANDARD,
    JunkRule,
    Protocol,
    Subset,
    every_gallery_variant,
    single_shot_variant,
)
from reid_retrieval.ranks import positive_ranks, ranks_of_many
from reid_retrieval.results import RetrievalResult
from reid_retrieval.retrieval import _screened, evaluate, evaluate_all
from reid_retrieval.screening import Asked, Doubts, Screening, Settled
from reid_retrieval.searching import Search
from reid_retrieval.similarities import COSINE, METRICS, compare, metric_of

PROTOCOLS = (
    STANDARD,
    NO_CAMERA,
    Protocol("apart", junk=JunkRule(apart=("camid",))),
    Protocol("some", query=Subset(cameras=(0, 1)), gallery=Subset(cameras=(0, 2))),
    single_shot_variant(STANDARD, 3),
    every_gallery_variant(STANDARD),
    Protocol("pooled", junk=JunkRule(same=("camid",)), pool=("pid", "camid")),
)


def emulated(queries: torch.Tensor, gallery: torch.Tensor, out: torch.Tensor) -> None:
    """Multiply as a processor with bfloat16 does: float32 sums, rounded to bfloat16 at the end."""
    out.copy_(queries.float() @ gallery.float().t())


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "multiply_rounded", emulated)
    monkeypatch.setattr(blocks, "multiply_rounded", emulated)


def sides(
    features: Callable[[np.random.Generator, int], FloatArray],
    queries: int,
    gallery: int,
    seed: int,
    people: int = 6,
) -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(seed)
    found = [
        FeatureSet(
            features(rng, rows), Labels(rng.integers(0, people, rows), rng.integers(0, 3, rows))
        )
        for rows in (queries, gallery)
    ]
    return found[0], found[1]


def whole(rng: np.random.Generator, rows: int) -> FloatArray:
    """Small integers: ties, copies, and products that float32 has exactly."""
    return rng.integers(-2, 3, (rows, 6)).astype(np.float32) + np.eye(1, 6, dtype=np.float32) * 9


def near(rng: np.random.Generator, rows: int) -> FloatArray:
    """Multiples of 1/64 around 10, exact in float32: bfloat16 cannot tell most of them apart."""
    return np.asarray(10 + rng.integers(-3, 4, (rows, 5)) / 64, np.float32)


def even(rng: np.random.Generator, rows: int) -> FloatArray:
    """Integers of norm 4: their cosines are exact in float32, and many are equal."""
    shapes = np.array([[2, 2, 2, 2, 0, 0], [3, 2, 1, 1, 1, 0], [4, 0, 0, 0, 0, 0]])
    found = rng.permuted(shapes[rng.integers(0, 3, rows)], axis=1)
    return np.asarray(found * rng.choice([-1, 1, 1], found.shape), np.float32)


def spread(rng: np.random.Generator, rows: int) -> FloatArray:
    return rng.standard_normal((rows, 24), np.float32)


def as_data(results: tuple[RetrievalResult, ...]) -> list[Any]:
    found: list[Any] = []
    for result in results:
        assert result.per_query is not None
        scores = result.per_query
        found.append(result.to_json() | {"products": ""})
        found += [
            scores.rows.tolist(),
            scores.first_hit.tolist(),
            scores.average_precision.tolist(),
        ]
    return found


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(
        [(whole, "euclidean"), (near, "euclidean"), (near, "cosine"), (even, "cosine")]
    ),
    seed=st.integers(0, 2**20),
    queries=st.integers(12, 30),
    gallery=st.integers(40, 150),
    chunk=st.sampled_from([None, 5]),
    doubtful=st.sampled_from([1 / 32, 0.3, 1.0]),
    crowded=st.sampled_from([1 / 8, 0.5, 1.0]),
    pairs=st.sampled_from([0, 40, 1 << 18]),
)
def test_ties_and_near_ties_are_those_of_float32(
    kind: tuple[Any, str],
    seed: int,
    queries: int,
    gallery: int,
    chunk: int | None,
    doubtful: float,
    crowded: float,
    pairs: int,
) -> None:
    asked, offered = sides(kind[0], queries, gallery, seed)
    # Copies of other people's images, so that matches tie with what is no match.
    copies = np.random.default_rng(seed).integers(0, gallery, gallery)
    offered = FeatureSet(offered.features[copies], offered.labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "_DOUBTFUL", doubtful)
        patch.setattr(screening, "_CROWDED", crowded)
        patch.setattr(passes, "_PAIRS_AT_ONCE", pairs)
        results = [
            evaluate_all(
                *(asked, offered, PROTOCOLS[:6]),
                distance=kind[1],
                per_query=True,
                precision=how,
                chunk=chunk,
            )
            for how in ("fp32", "bf16")
        ]
    assert as_data(results[0]) == as_data(results[1])


def test_a_large_search_has_the_same_digits_in_all_protocols(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def features(rng: np.random.Generator, rows: int) -> FloatArray:
        # Products are integers that float32 has exactly; bfloat16 has not even the features.
        return rng.integers(-400, 401, (rows, 48)).astype(np.float32)

    asked, offered = sides(features, 300, 1500, 4, people=30)
    options: Any = {"protocols": PROTOCOLS[:6], "per_query": True}
    expected = [
        evaluate_all(asked, offered, distance=d, precision="fp32", **options) for d in METRICS
    ]
    # Every row is settled by what is in doubt, none by comparing it as a whole.
    monkeypatch.setattr(screening, "_DOUBTFUL", 1.0)
    monkeypatch.setattr(screening, "_CROWDED", 1.0)
    monkeypatch.setattr(passes.Pass, "_compare", lambda *_: pytest.fail("in float32"))
    monkeypatch.setattr(Screening, "fill_exactly", lambda *_: pytest.fail("in float32"))
    for distance, one in zip(METRICS, expected, strict=True):
        found = evaluate_all(asked, offered, distance=distance, precision="bf16", **options)
        assert as_data(found) == as_data(one)


def settled_row(
    values: FloatArray,
    own: list[int],
    monkeypatch: pytest.MonkeyPatch,
    limit: float = 1.0,
    junk: list[int] | None = None,
) -> tuple[Settled, FloatArray]:
    """Return what a row of one query on the first axis comes to, and its screened similarities."""
    monkeypatch.setattr(screening, "_DOUBTFUL", limit)
    monkeypatch.setattr(screening, "_CROWDED", 1.0)
    gallery = np.stack([values, np.sqrt(1 - values**2)], 1).astype(np.float32)
    search = Screening(np.array([[1, 0]], np.float32), gallery, COSINE)
    codes = np.empty((1, len(values)), np.int16)
    search.fill(0, codes)
    before = codes.copy()
    asked = Asked.of([0], [(np.array(own), np.isin(own, junk or []))])
    (settled,) = search.settle([search.doubts(0, codes, asked)])
    assert np.array_equal(codes, before)
    return settled, search.row(codes[0], None)


def test_only_what_is_in_doubt_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # A match at 0.5: within the margin 0.5001 and 0.499; 0.6, 0.7 and 0.4 are not.
    values = np.array([0.6, 0.5, 0.5001, 0.499, 0.4, 0.7], np.float32)
    settled, row = settled_row(values, [1], monkeypatch)
    assert settled.doubts.places.tolist() == [1, 2, 3]
    assert settled.similarities == pytest.approx(values[[1, 2, 3]], abs=1e-6)
    assert settled.doubts.closer.tolist() == [2]
    ((ranks, tied),) = settled.ranks()
    assert (ranks.tolist(), tied) == ([4], False)
    assert row.tolist() == torch.tensor(values).bfloat16().float().tolist()
    # Beside a second match at 0.65, 0.7 is surely closer than both, 0.6 than one of them.
    settled, _ = settled_row(np.append(values, np.float32(0.65)), [1, 6], monkeypatch)
    assert settled.doubts.closer.tolist() == [1, 2]
    assert settled.ranks()[0][0].tolist() == [2, 5]


def test_junk_behind_all_matches_is_compared_like_the_rest_of_its_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.array([0.6, 0.5, 0.1, 0.8], np.float32)
    settled, _ = settled_row(values, [1, 2, 3], monkeypatch, junk=[2, 3])
    assert settled.doubts.places.tolist() == [1, 2, 3]
    assert settled.ranks()[0][0].tolist() == [2]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20), rows=st.integers(1, 5), least=st.sampled_from([-900.0, -0.2, 0.1])
)
def test_nothing_in_doubt_is_missed_and_nothing_sure_is_counted_twice(
    seed: int, rows: int, least: float
) -> None:
    rng = np.random.default_rng(seed)
    parts: list[Any] = []
    for _ in range(rows):
        images, matches = int(rng.integers(1, 40)), int(rng.integers(1, 6))
        values = np.float32(least) + rng.random(images).astype(np.float32)
        wide = rng.choice([0, 1e-6, 0.02], matches)
        middle = np.sort(rng.choice(values, matches))
        lows = np.sort(np.nextafter(middle - wide, -np.inf, dtype=np.float32))
        highs = np.sort(np.nextafter(middle + wide, np.inf, dtype=np.float32))
        own = np.flatnonzero(rng.random(images) < 0.1)
        parts.append((values, lows, highs, own))
    values, lows, highs, _ = (np.concatenate(column) for column in zip(*parts, strict=True))
    counts = np.array([len(part[0]) for part in parts])
    matches = np.array([len(part[1]) for part in parts])
    own = np.concatenate([part[3] for part in parts]) + np.repeat(
        counts.cumsum() - counts, [len(part[3]) for part in parts]
    )
    doubtful, closer = screening._doubtful(values, counts, own, lows, highs, matches)
    assert doubtful[own].all()
    ends, last = counts.cumsum(), matches.cumsum()
    for (some, froms, tos, mine), end, stop in zip(parts, ends, last, strict=True):
        found = doubtful[end - len(some) : end]
        inside = ((some[:, None] >= froms) & (some[:, None] <= tos)).any(1)
        assert (found | ~inside).all()
        # What is in doubt without need is near a bound: within a step of the row's values.
        step = (tos[-1] - froms[0]) / screening._STEPS * 1.01 + 1e-4 * abs(least)
        close = ((some[:, None] >= froms - step) & (some[:, None] <= tos + step)).any(1)
        assert (close | ~found | np.isin(np.arange(len(some)), mine)).all()
        expected = (some[~found][:, None] > tos).sum(0)[::-1]
        assert closer[stop - len(tos) : stop].tolist() == expected.tolist()


def test_a_row_full_of_doubt_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(0.499, 0.501, 64).astype(np.float32)
    settled, _ = settled_row(values, [3], monkeypatch, limit=0.25)
    assert len(settled.doubts.asked.places) == len(settled.ranks()) == 0
    settled, _ = settled_row(values, [3], monkeypatch)
    assert settled.doubts.places.tolist() == list(range(64))
    assert settled.similarities == pytest.approx(values, abs=1e-6)


def test_a_crowded_row_waits_beside_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "_CROWDED", 0.25)
    monkeypatch.setattr(screening, "_DOUBTFUL", 1.0)
    gallery = np.array([[3, 1], [2, 1], [1, 2], [1, 3], [-1, 3], [-2, 3], [-3, 3], [-3, 1]])
    search = Screening(np.eye(2, dtype=np.float32), gallery.astype(np.float32), COSINE)
    codes = np.empty((2, 8), np.int16)
    search.fill(0, codes)
    # The first query's match is the second of all, the other's the last but two.
    matches = [(np.array([one]), np.zeros(1, np.bool_)) for one in (1, 1)]
    (settled,) = search.settle([search.doubts(0, codes, Asked.of([0, 1], matches))])
    assert settled.doubts.asked.places.tolist() == [0]
    assert [ranks.tolist() for ranks, _ in settled.ranks()] == [[2]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    rows=st.integers(1, 6),
    values=st.sampled_from([3, 9, 2000]),
    signs=st.sampled_from([(1, 2), (-1, 1), (-2, -1)]),
)
def test_many_short_rows_rank_as_each_alone(
    seed: int, rows: int, values: int, signs: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    expected: list[tuple[list[int], bool]] = []
    flat: list[Any] = []
    own: list[Any] = []
    ignored: list[Any] = []
    closer: list[Any] = []
    counts: list[int] = []
    own_counts: list[int] = []
    for _ in range(rows):
        count = int(rng.integers(1, 30))
        row = (rng.integers(0, values + 1, count) / values).astype(np.float32)
        row = signs[0] + (signs[1] - signs[0]) * row
        row[rng.random(count) < 0.1] = -0.0
        mine = np.flatnonzero(rng.random(count) < 0.4)
        mine = mine if len(mine) else np.array([count - 1])
        junk = rng.random(len(mine)) < 0.4
        junk[rng.integers(len(mine))] = False
        others = np.sort(rng.integers(0, 9, int((~junk).sum())))
        ranks, tied = positive_ranks(row, mine, junk)
        expected.append(((ranks + others).tolist(), tied))
        own.append(mine + sum(counts))
        flat.append(row)
        counts.append(count)
        own_counts.append(len(mine))
        ignored.append(junk)
        closer.append(others)
    found = ranks_of_many(
        np.concatenate(flat).astype(np.float32),
        np.array(counts),
        np.concatenate(own),
        np.array(own_counts),
        np.concatenate(ignored),
        np.concatenate(closer),
    )
    assert [(ranks.tolist(), tied) for ranks, tied in found] == expected


@pytest.mark.parametrize("distance", sorted(METRICS))
def test_the_margin_holds_for_every_pair(distance: str) -> None:
    rng = np.random.default_rng(8)
    features = rng.standard_normal((60, 40), np.float32) * rng.uniform(0.01, 9, (60, 1))
    features = features.astype(np.float32)
    search = Screening(features[:20], features[20:], metric_of(distance))
    codes, exact = np.empty((20, 40), np.int16), np.empty((20, 40), np.float32)
    search.fill(0, codes)
    search.fill_exactly(np.arange(20), exact)
    screened = np.stack([search.row(row, None) for row in codes])
    error = np.abs(screened - exact) - search._share * np.abs(screened)
    assert (error <= search._margins[:, None]).all()
    # And it is not idle: bfloat16 does lose something.
    assert np.abs(screened - exact).max() > 1e-4


def rounded_images(size: float, loss: float, width: int = 3) -> Images:
    features = np.zeros((1, width), np.float32)
    rounded = Rounded(torch.zeros(1, width).bfloat16(), np.array([size]), np.array([loss]))
    return Images(features, np.ones(1, np.float32), rounded)


def test_the_margin_by_hand() -> None:
    # |q'| |g - g'| + |q - q'| |g|, and D + 16 units of float32 for the sums.
    sums = (3 + 16) * 2.0**-23
    found = margins(rounded_images(2, 0), rounded_images(5, 0.25), COSINE)
    assert found == pytest.approx([2 * 0.25 + sums * 2 * 5.25], rel=1e-6)
    found = margins(rounded_images(2, 0.5), rounded_images(5, 0), COSINE)
    assert found == pytest.approx([0.5 * 5 + sums * 2.5 * 5], rel=1e-6)
    found = margins(rounded_images(2, 0), rounded_images(5, 0), metric_of("euclidean"))
    assert found == pytest.approx([sums * 10 + 10 / 256 + 2.0**-22 * (10 + 25)], rel=1e-6)


def test_numbers_lose_at_most_a_256th_in_bfloat16() -> None:
    numbers = torch.linspace(1, 2, 2**12 + 1)
    rounded = numbers.bfloat16().float()
    assert float(((numbers - rounded).abs() / rounded).max()) == BFLOAT16


def test_wrong_products_are_noticed_and_everything_is_compared_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, offered = sides(whole, 20, 90, 1)
    expected = evaluate(asked, offered, distance="euclidean", per_query=True, precision="fp32")

    def wrong(queries: Any, gallery: Any, out: torch.Tensor) -> None:
        emulated(queries, gallery, out)
        out[:, ::3] += 30

    monkeypatch.setattr(screening, "multiply_rounded", wrong)
    search = Screening(asked.features, offered.features, metric_of("euclidean"))
    codes = np.empty((20, 90), np.int16)
    search.fill(0, codes)
    with pytest.raises(MarginExceededError):
        search.doubts(0, codes, Asked.of([0], [(np.array([0, 3]), np.zeros(2, np.bool_))]))
    # In the second chunk: what the first one has found is forgotten, too.
    calls: list[int] = []

    def wrong_later(queries: Any, gallery: Any, out: torch.Tensor) -> None:
        calls.append(len(out))
        (wrong if len(calls) > 1 else emulated)(queries, gallery, out)

    monkeypatch.setattr(screening, "multiply_rounded", wrong_later)
    monkeypatch.setattr(screening, "_DOUBTFUL", 1.0)
    monkeypatch.setattr(screening, "_CROWDED", 1.0)
    found = evaluate(
        *(asked, offered), distance="euclidean", per_query=True, precision="bf16", chunk=8
    )
    assert calls == [8, 8]
    assert as_data((found,)) == as_data((expected,))


def test_products_that_are_not_finite_are_compared_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, offered = sides(whole, 20, 90, 1)

    def infinite(queries: Any, gallery: Any, out: torch.Tensor) -> None:
        out.fill_(np.inf)

    monkeypatch.setattr(screening, "multiply_rounded", infinite)
    results = [evaluate(asked, offered, per_query=True, precision=how) for how in ("fp32", "bf16")]
    assert as_data((results[0],)) == as_data((results[1],))


@pytest.mark.parametrize(
    ("distance", "queries", "image"),
    [("euclidean", 1, 3e19), ("cosine", 1, -3e38), ("cosine", 1e-41, 1)],
)
@pytest.mark.parametrize("how", ["fp32", "bf16"])
def test_what_float32_cannot_compare_is_refused_though_nobody_is_close_to_it(
    how: precision.Precision, distance: str, queries: float, image: float
) -> None:
    asked, offered = sides(whole, 20, 90, 1)
    # Neither the image nor the query has a match, so that none of theirs is looked at.
    offered.features[7], offered.labels.pids[7] = image * np.eye(1, 6), 99
    asked.features[3] *= queries
    asked.labels.pids[3] = 98
    refused = f"{distance} similarities of .* are not finite|features is 7.9e-41: .*; scale them"
    with pytest.raises(DataError, match=refused):
        evaluate(asked, offered, distance=distance, precision=how)


def test_screening_does_not_depend_on_the_defaults_of_torch() -> None:
    asked, offered = sides(whole, 20, 90, 1)
    results = [evaluate(asked, offered, per_query=True, precision=how) for how in ("fp32", "bf16")]
    torch.set_default_dtype(torch.float64)
    try:
        results.append(evaluate(asked, offered, per_query=True, precision="bf16"))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        results.append(evaluate(asked, offered, per_query=True, precision="bf16"))
        assert precision.bfloat16_seconds(1) > 0
    assert all(as_data((one,)) == as_data((results[0],)) for one in results)


def test_screening_ends_where_most_queries_are_compared_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screening, "_DOUBTFUL", 0.0)
    chunks: list[int] = []
    fill = Screening.fill

    def counted(self: Screening, start: int, out: Any) -> None:
        chunks.append(start)
        fill(self, start, out)

    monkeypatch.setattr(Screening, "fill", counted)
    asked, offered = sides(near, 30, 90, 2)
    results = [
        evaluate(asked, offered, distance="euclidean", per_query=True, precision=how, chunk=10)
        for how in ("fp32", "bf16")
    ]
    assert chunks == [0]
    assert as_data((results[0],)) == as_data((results[1],))


def test_rows_that_wait_share_one_product_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "_DOUBTFUL", 1.0)
    monkeypatch.setattr(screening, "_CROWDED", 1.0)
    asked, offered = sides(spread, 40, 200, 5)
    doubts = Screening.doubts
    exact: list[list[int]] = []
    fill = Screening.fill_exactly

    def sometimes(self: Screening, start: int, block: Any, some: Asked, *rest: Any) -> Doubts:
        return doubts(self, start, block, some.take(some.places % 8 != 1), *rest)

    def counted(self: Screening, rows: Any, out: FloatArray) -> None:
        exact.append(rows.tolist())
        fill(self, rows, out)

    monkeypatch.setattr(Screening, "doubts", sometimes)
    monkeypatch.setattr(Screening, "fill_exactly", counted)
    for chunk, shared in ((None, [[1, 9, 17, 25, 33]]), (10, [[1, 9, 17], [25, 33]])):
        exact.clear()
        options: Any = {"per_query": True, "chunk": chunk}
        expected = evaluate_all(asked, offered, PROTOCOLS[:4], precision="fp32", **options)
        found = evaluate_all(asked, offered, PROTOCOLS[:4], precision="bf16", **options)
        assert as_data(found) == as_data(expected)
        # Of a protocol with fewer queries the numbers are its own, the rows those of the pass.
        assert exact == shared


def test_the_least_close_image_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_retrieval.neighbours.GALLERY_AT_ONCE", 37)
    rng = np.random.default_rng(6)
    for features in (whole(rng, 120), near(rng, 120), spread(rng, 120)):
        for distance in METRICS:
            plain, screened = (
                nearest(features, features, 4, distance=distance, lowest=True, precision=how)
                for how in ("fp32", "bf16")
            )
            assert screened.lowest == pytest.approx(plain.lowest, rel=1e-5, abs=1e-5)
            assert screened.lowest is not None
            assert plain.lowest is not None
            if features.dtype == np.float32 and distance == "euclidean" and features[0, 0] > 5:
                assert np.array_equal(screened.lowest, plain.lowest)


# Where it is switched on --------------------------------------------------------------------------


def told(**flags: bool) -> Callable[[], dict[str, bool]]:
    return lambda: flags


@pytest.fixture
def _tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16 in 1 ms, and float32 in 2."""
    precision._pays.cache_clear()
    monkeypatch.delenv("REID_PRODUCTS", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", told(avx512_bf16=True), raising=False)
    found = {"numpy": Trial(0, 3e-3), "torch": Trial(0, 2e-3), "onednn": Trial(1, 1e-9, "wrong")}
    monkeypatch.setattr(precision, "trials", lambda: found)
    monkeypatch.setattr(precision, "bfloat16_seconds", lambda: 1e-3)
    yield
    precision._pays.cache_clear()


@pytest.mark.usefixtures("_tried")
def test_screening_is_on_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert screens("auto")
    assert not screens("auto", host=False)
    assert not screens("fp32")
    assert screens("auto", queries=512)
    assert not screens("auto", queries=511)
    assert screens("bf16", queries=1)
    precision._pays.cache_clear()
    monkeypatch.setattr(precision, "bfloat16_seconds", lambda: 1.4e-3)
    assert not screens("auto")
    assert screens("bf16")


@pytest.mark.usefixtures("_tried")
def test_scores_are_screened_where_searches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    features: Any = SimpleNamespace(rows=np.eye(2, dtype=np.float32))

    def screened(how: precision.Precision, *protocols: Protocol, queries: int = 512) -> bool:
        labels = Labels(np.arange(queries), np.zeros(queries, np.int64))
        searches = [Search(one, labels, labels) for one in protocols]
        return _screened(how, searches, features, features, passes.ALONE)

    assert screened("auto", STANDARD, NO_CAMERA)
    assert not screened("auto", STANDARD, NO_CAMERA, queries=511)
    # Rows that are scored one by one were not shown to gain.
    for protocol in (
        PROTOCOLS[2],
        single_shot_variant(STANDARD, 3),
        every_gallery_variant(STANDARD),
    ):
        assert not screened("auto", STANDARD, protocol)
        assert screened("bf16", STANDARD, protocol)
    precision._pays.cache_clear()
    monkeypatch.setattr(precision, "bfloat16_seconds", lambda: 1.4e-3)
    assert not screened("auto", STANDARD)
    assert screened("bf16", STANDARD, queries=1)


@pytest.mark.usefixtures("_tried")
def test_a_search_is_screened_for_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noted(how: str, host: bool = True, queries: int | None = None) -> bool:
        asked.append(-1 if queries is None else queries)
        return False

    monkeypatch.setattr("reid_retrieval.neighbours.screens", noted)
    features = np.eye(3, dtype=np.float32)
    nearest(features[:2], features, 1, precision="auto")
    Gallery(features, precision="auto")
    assert (asked[0], asked[-1]) == (2, -1)


@pytest.mark.usefixtures("_tried")
def test_without_the_instructions_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", told(avx2=True), raising=False)
    monkeypatch.setattr(precision, "bfloat16_seconds", lambda: pytest.fail("it was tried"))
    assert not precision.multiplies_bfloat16()
    assert not screens("auto")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not screens("auto")
    assert not compare(COSINE, np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)).screening


def test_amx_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", told(amx_bf16=True), raising=False)
    assert precision.multiplies_bfloat16()


def test_bfloat16_can_be_timed_anywhere() -> None:
    assert 0 < precision.bfloat16_seconds(1) < 60


def test_an_unknown_precision() -> None:
    with pytest.raises(ConfigError, match="unknown precision 'bf61'; did you mean 'bf16'"):
        screens("bf61")  # type: ignore[arg-type]


def test_processes_do_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, offered = sides(whole, 20, 90, 1)
    seen: list[bool] = []
    make = passes.maker_of

    def noted(distance: Any, screened: bool) -> Any:
        seen.append(screened)
        return make(distance, screened)

    monkeypatch.setattr(passes, "maker_of", noted)

    def gather(part: Any) -> list[Any]:
        return [True, part] if isinstance(part, bool) else [part, part]

    share = replace(passes.ALONE, ranks=2, gather=gather)
    evaluate(asked, offered, precision="fp32", share=share)
    assert seen == [True]
