"""Retrieval against a plain loop, its invariances, its memory, and what it refuses."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FeatureSet, FloatArray
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import (
    CROSS_CLOTHES,
    NO_CAMERA,
    SAME_CLOTHES,
    STANDARD,
    JunkRule,
    Protocol,
    SingleShot,
    Subset,
)
from reid_retrieval.results import RetrievalResult
from reid_retrieval.retrieval import evaluate, evaluate_all, evaluate_distances, ranked_rows
from reid_retrieval.similarities import Block, Similarities

APART = Protocol("apart", junk=JunkRule(apart=("camid",)))
EVERY_RULE = (
    STANDARD,
    CROSS_CLOTHES,
    SAME_CLOTHES,
    NO_CAMERA,
    APART,
    replace(STANDARD, name="few cameras", gallery=Subset(cameras=(0, 1)), query=Subset(pids=(1,))),
    replace(CROSS_CLOTHES, name="cross/apart", junk=JunkRule(("clothes",), (), ("camid",))),
)

Row = tuple[int, int, int]
"""pid, camid and clothes of one image."""


def is_junk(rule: JunkRule, q: Row, g: Row) -> bool:
    place = {"camid": 1, "clothes": 2}
    same = any(q[place[key]] == g[place[key]] for key in rule.same)
    other = any(q[place[key]] != g[place[key]] for key in rule.different)
    apart = any(q[place[key]] == g[place[key]] for key in rule.apart)
    return apart or (q[0] == g[0] and (same or other))


def takes_part(subset: Subset, row: Row) -> bool:
    camera = subset.cameras is None or row[1] in subset.cameras
    return camera and (subset.pids is None or row[0] in subset.pids)


def plain_loop(
    distances: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    queries: list[Row],
    gallery: list[Row],
    protocol: Protocol,
) -> tuple[int, list[float], list[float], list[float], list[int]]:
    """Return the valid queries' number, AP, trapezoid AP, INP, first hit; one query at a time."""
    average, trapezoid, penalty, first = [], [], [], []
    shown = [i for i, g in enumerate(gallery) if g[0] != -1 and takes_part(protocol.gallery, g)]
    for row, query in zip(distances, queries, strict=True):
        if not takes_part(protocol.query, query):
            continue
        order = np.argsort(row, kind="stable")
        kept = [i for i in order if i in shown and not is_junk(protocol.junk, query, gallery[i])]
        ranks = [rank for rank, i in enumerate(kept, 1) if gallery[i][0] == query[0]]
        if not ranks:
            continue
        after = [n / rank for n, rank in enumerate(ranks, 1)]
        before = [1 if rank == 1 else (n - 1) / (rank - 1) for n, rank in enumerate(ranks, 1)]
        average.append(sum(after) / len(ranks))
        trapezoid.append(sum(a + b for a, b in zip(after, before, strict=True)) / 2 / len(ranks))
        penalty.append(len(ranks) / ranks[-1])
        first.append(ranks[0])
    return len(first), average, trapezoid, penalty, first


def labels(rows: list[Row]) -> Labels:
    pids, camids, clothes = zip(*rows, strict=True)
    return Labels(pids, camids, clothes)


ROWS = st.lists(st.tuples(*(st.integers(0, 2),) * 3), min_size=1, max_size=6)
GALLERY = st.lists(
    st.tuples(st.integers(-1, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25
)


@settings(max_examples=300, deadline=None)
@given(
    queries=ROWS, gallery=GALLERY, protocol=st.sampled_from(EVERY_RULE), seed=st.integers(0, 9999)
)
def test_equals_the_plain_loop(
    queries: list[Row], gallery: list[Row], protocol: Protocol, seed: int
) -> None:
    # Few different distances, so that most of them are ties.
    distances = np.random.default_rng(seed).integers(0, 5, (len(queries), len(gallery))) / 7
    valid, average, trapezoid, penalty, first = plain_loop(distances, queries, gallery, protocol)
    protocol = replace(protocol, ranks=(1,), max_rank=4)
    sides = labels(queries), labels(gallery)
    if not valid:
        with pytest.raises(DataError, match=r"no query has a match|is empty|there is no query"):
            evaluate_distances(distances, *sides, protocol)
        return
    result = evaluate_distances(distances, *sides, protocol, per_query=True)
    assert result.valid_queries == valid
    assert result.mean_ap == pytest.approx(np.mean(average), abs=1e-12)
    assert result.mean_ap_trapezoid == pytest.approx(np.mean(trapezoid), abs=1e-12)
    assert result.mean_inp == pytest.approx(np.mean(penalty), abs=1e-12)
    cmc = [sum(f <= k for f in first) / valid for k in (1, 2, 3, 4)]
    assert result.cmc == pytest.approx(cmc, abs=1e-12)
    assert result.per_query is not None
    assert result.per_query.first_hit.tolist() == first


@settings(max_examples=150, deadline=None)
@given(
    queries=ROWS,
    gallery=GALLERY,
    protocol=st.sampled_from((STANDARD, CROSS_CLOTHES, NO_CAMERA, APART)),
    seed=st.integers(0, 99),
)
def test_single_shot_equals_the_plain_loop(
    queries: list[Row], gallery: list[Row], protocol: Protocol, seed: int
) -> None:
    distances = np.random.default_rng(seed).integers(0, 5, (len(queries), len(gallery))) / 7
    if not plain_loop(distances, queries, gallery, protocol)[0]:
        return
    numbered = [i for i, g in enumerate(gallery) if g[0] != -1]
    per_trial = []
    for trial in range(3):
        stream = random.Random(seed + trial)
        key = {i: stream.random() for i in numbered}
        reciprocal = []
        for row, query in zip(distances, queries, strict=True):
            best: dict[int, int] = {}
            for i in sorted(numbered, key=lambda image: key[image]):
                if not is_junk(protocol.junk, query, gallery[i]):
                    best.setdefault(gallery[i][0], i)
            if query[0] in best:
                ranked = sorted(best.values(), key=lambda image: (row[image], image))
                reciprocal.append(1 / (1 + ranked.index(best[query[0]])))
        per_trial.append(np.mean(reciprocal))
    shots = replace(protocol, single_shot=SingleShot(trials=3, seed=seed))
    result = evaluate_distances(distances, labels(queries), labels(gallery), shots)
    assert result.mean_ap == pytest.approx(np.mean(per_trial), abs=1e-12)
    assert result.spread is not None
    assert result.spread.mean_ap == pytest.approx(np.std(per_trial), abs=1e-12)


def integer_sets(
    queries: int = 60, gallery: int = 200, identities: int = 12
) -> tuple[FeatureSet, FeatureSet]:
    """Return sets of small integer features, whose inner products are exact in float32."""
    rng = np.random.default_rng(3)

    def one_side(count: int) -> FeatureSet:
        found = Labels(*rng.integers(0, (identities, 3, 2), (count, 3)).T)
        return FeatureSet(rng.integers(-3, 4, (count, 8)), found)

    return one_side(queries), one_side(gallery)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("protocol", EVERY_RULE, ids=lambda p: p.name)
def test_chunk_size_changes_nothing(protocol: Protocol, distance: str) -> None:
    queries, gallery = integer_sets()
    results = [
        evaluate(queries, gallery, protocol, distance=distance, chunk=chunk)
        for chunk in (1, 7, 59, 60, 1000)
    ]
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("protocol", EVERY_RULE, ids=lambda p: p.name)
def test_features_equal_the_plain_loop(protocol: Protocol, distance: str) -> None:
    queries, gallery = integer_sets()
    # Lengths of 1, 2 and 4 keep the cosines exact too, so that equal ones are ties.
    for features in (queries.features, gallery.features):
        features[:] = np.sign(features) + (features == 0)
        features[:, 4:] = 0
        features[::3, 1:] = 0
        features[::4] *= 2
    asked, offered = queries.features.astype(float), gallery.features.astype(float)
    lengths = (offered**2).sum(axis=1)
    if distance == "cosine":
        exact = -asked @ offered.T / np.sqrt(lengths)
    else:
        exact = lengths - 2 * asked @ offered.T
    rows = [
        list(zip(*(s.labels.column(k).tolist() for k in ("pid", "camid", "clothes")), strict=True))
        for s in (queries, gallery)
    ]
    valid, average, *_ = plain_loop(exact, rows[0], rows[1], protocol)
    result = evaluate(queries, gallery, protocol, distance=distance)
    assert result.valid_queries == valid > 0
    assert result.mean_ap == pytest.approx(np.mean(average), abs=1e-12)


def test_cosine_ignores_lengths_and_euclidean_does_not() -> None:
    queries = FeatureSet(np.array([[1.0, 0.0]]), Labels([1], [0]))
    gallery = FeatureSet(np.array([[9.0, 1.0], [1.0, 0.5]]), Labels([1, 2], [1, 1]))
    assert evaluate(queries, gallery).cmc[0] == 1.0
    assert evaluate(queries, gallery, distance="euclidean").cmc[0] == 0.0


@pytest.mark.filterwarnings("ignore:.* are zeros")
def test_a_zero_feature_has_cosine_zero() -> None:
    queries = FeatureSet(np.array([[1.0, 0.0]]), Labels([1], [0]))
    features = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    gallery = FeatureSet(features, Labels([2, 1, 3], [1, 1, 1]))
    (line,) = ranked_rows(queries, gallery, [0])
    assert line.gallery.tolist() == [2, 1, 0]
    assert line.similarities.tolist() == pytest.approx([0.5**0.5, 0, -1], abs=1e-6)


@pytest.mark.parametrize("torch_s", [False, True])
def test_zero_features_are_told_where_directions_are_compared(torch_s: bool) -> None:
    """By cosine they stand before everything at an obtuse angle; to Euclid they are a point."""
    rows = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    if torch_s:
        rows = pytest.importorskip("torch").from_numpy(rows)
    zeros = FeatureSet(rows, Labels([1, 2, 3], [0, 0, 0]))
    gallery = FeatureSet(np.ones((3, 2)), Labels([1, 2, 3], [1, 1, 1]))
    told = r"^2 of 3 {} features, the first in row 1, are zeros: .* cosine with everything counts"
    with pytest.warns(UserWarning, match=told.format("query")) as said:
        evaluate(zeros, gallery)
    assert len(said) == 1
    with pytest.warns(UserWarning, match=told.format("gallery")):
        evaluate_all(gallery, zeros, [STANDARD])
    evaluate(zeros, gallery, distance="euclidean")


@pytest.mark.parametrize(("place", "rank"), [(0, 1), (7, 8), (39, 40)])
def test_equal_features_rank_by_gallery_index(place: int, rank: int) -> None:
    queries = FeatureSet(np.ones((1, 16)), Labels([1], [0]))
    pids = np.full(40, 2)
    pids[place] = 1
    gallery = FeatureSet(np.ones((40, 16)), Labels(pids, np.ones(40, int)))
    result = evaluate(queries, gallery, per_query=True)
    assert result.per_query is not None
    assert result.per_query.first_hit.tolist() == [rank]
    assert result.tied_queries == 1
    (line,) = ranked_rows(queries, gallery, [0], top=40)
    assert line.gallery.tolist() == list(range(40))


def test_several_equal_matches_and_junk_between_them() -> None:
    distances = [[0.5, 0.5, 0.5, 0.5, 0.5, 0.1]]
    gallery = Labels([2, 1, 1, 3, 1, 4], [1, 1, 0, 1, 1, 1])  # row 2 is junk
    result = evaluate_distances(distances, Labels([1], [0]), gallery, per_query=True)
    # Order: 5, 0, 1, (2), 3, 4, so the matches are at ranks 3 and 5.
    assert result.mean_ap == pytest.approx((1 / 3 + 2 / 5) / 2, abs=1e-12)
    assert result.mean_inp == pytest.approx(2 / 5, abs=1e-12)


def test_distinct_distances_report_no_tie() -> None:
    result = evaluate_distances([[0.1, 0.2]], Labels([1], [0]), Labels([2, 1], [1, 1]))
    assert result.tied_queries == 0


def test_gallery_of_one_image() -> None:
    result = evaluate_distances([[0.3]], Labels([1], [0]), Labels([1], [1]))
    assert (result.mean_ap, result.mean_ap_trapezoid, result.mean_inp) == (1.0, 1.0, 1.0)
    assert result.cmc == (1.0,) * 50


def test_ranking_shorter_than_the_curve_keeps_its_last_value() -> None:
    queries, gallery = Labels([1, 2], [0, 0]), Labels([2, 1], [1, 1])
    result = evaluate_distances([[0.1, 0.2], [0.1, 0.2]], queries, gallery)
    assert result.cmc == (0.5, *(1.0,) * 49)


def test_ranked_rows_leave_junk_out_and_keep_the_callers_numbers() -> None:
    queries = FeatureSet(np.array([[0.0, 1.0], [1.0, 0.0]]), Labels([5, 1], [0, 0]))
    features = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [0, 1]])
    # Row 0 has no identity, row 1 is the query's own camera, row 3 is outside the protocol.
    gallery = FeatureSet(features, Labels([-1, 1, 1, 2, 3], [1, 0, 1, 7, 1]))
    protocol = replace(STANDARD, gallery=Subset(cameras=(0, 1)), query=Subset(pids=(1,)))
    (line,) = ranked_rows(queries, gallery, [1], protocol)
    assert line.query == 1
    assert line.gallery.tolist() == [2, 4]
    assert line.matches.tolist() == [True, False]
    with pytest.raises(DataError, match="query row 0 does not take part"):
        ranked_rows(queries, gallery, [0], protocol)


def test_ranked_rows_of_a_single_shot_protocol_show_the_first_gallery() -> None:
    queries, gallery = integer_sets()
    protocol = replace(STANDARD, single_shot=SingleShot(trials=1, seed=2))
    result = evaluate(queries, gallery, protocol, per_query=True)
    assert result.per_query is not None
    rows = result.per_query.rows
    for line, first in zip(
        ranked_rows(queries, gallery, rows, protocol, top=99),
        result.per_query.first_hit.tolist(),
        strict=True,
    ):
        pids = gallery.labels.pids[line.gallery]
        assert sorted(set(pids.tolist())) == sorted(pids.tolist())
        assert np.flatnonzero(line.matches).tolist() == [first - 1]


def test_ranked_rows_of_a_query_without_a_match() -> None:
    queries = FeatureSet(np.eye(2)[:1], Labels([9], [0]))
    gallery = FeatureSet(np.eye(2), Labels([1, 2], [1, 1]))
    for protocol in (STANDARD, replace(STANDARD, single_shot=SingleShot(trials=1))):
        (line,) = ranked_rows(queries, gallery, [0], protocol)
        assert line.gallery.tolist() == [0, 1]
        assert line.matches.tolist() == [False, False]


def test_ranked_rows_hide_the_own_view() -> None:
    queries, gallery = integer_sets()
    (line,) = ranked_rows(queries, gallery, [4], APART, top=999)
    own = queries.labels.column("camid")[4]
    assert np.array_equal(
        np.sort(line.gallery), np.flatnonzero(gallery.labels.column("camid") != own)
    )


def as_given(features: FloatArray) -> dict[str, object]:
    """Return the same features in every form that callers have them in."""
    tensor = torch.from_numpy(features)
    wide = torch.zeros(len(features), 2 * features.shape[1])
    wide[:, ::2] = tensor
    return {
        "float64": features.astype(np.float64),
        "float16": features.astype(np.float16),
        "integers": features.astype(np.int32),
        "fortran order": np.asfortranarray(features),
        "strided": np.repeat(features, 2, axis=0)[::2],
        "tensor": tensor,
        "tensor with gradient": tensor.clone().requires_grad_(),
        "bfloat16": tensor.bfloat16(),
        "half": tensor.half(),
        "strided tensor": wide[:, ::2],
        "transposed tensor": tensor.t().contiguous().t(),
    }


def test_every_kind_of_array_gives_the_same_result() -> None:
    queries, gallery = integer_sets()
    expected = evaluate(queries, gallery)
    asked, offered = as_given(queries.features), as_given(gallery.features)
    for form in asked:
        sets = FeatureSet(asked[form], queries.labels), FeatureSet(offered[form], gallery.labels)  # type: ignore[arg-type]
        assert evaluate(*sets) == expected, form


def test_float32_arrays_are_not_copied() -> None:
    array = np.ones((3, 2), np.float32)
    assert FeatureSet(array, Labels([1, 2, 3], [0, 0, 0])).features is array


def test_parts_add_up_to_the_weighted_sum_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(4, 3)), 100 * rng.normal(size=(4, 5))]
    joined = FeatureSet.of_parts(parts, Labels([1, 2, 3, 4], [0, 1, 2, 3]), [3, 0.5])
    assert joined.features.shape == (4, 8)
    cosines = [(p / np.linalg.norm(p, axis=1, keepdims=True)) for p in parts]
    expected = 3 * cosines[0] @ cosines[0].T + 0.5 * cosines[1] @ cosines[1].T
    assert (joined.features @ joined.features.T).tolist() == [
        pytest.approx(row, abs=1e-5) for row in expected.tolist()
    ]
    with pytest.raises(DataError, match=r"2 parts cannot be joined with weights \[1\]"):
        FeatureSet.of_parts(parts, joined.labels, [1])
    with pytest.raises(DataError, match="part 1 has 3 rows, but labels of 4"):
        FeatureSet.of_parts([parts[0], parts[1][:3]], joined.labels)


def peak_of(queries: FeatureSet, gallery: FeatureSet, chunk: int) -> tuple[int, RetrievalResult]:
    evaluate(queries, gallery, chunk=chunk)  # a process times its products once, on arrays
    tracemalloc.start()
    try:
        result = evaluate(queries, gallery, chunk=chunk)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_no_array_of_all_queries_and_all_gallery_images() -> None:
    queries, gallery = integer_sets(600, 4000, identities=400)
    everything = 600 * 4000  # bytes of the smallest array of that shape
    peak, result = peak_of(queries, gallery, chunk=16)
    assert peak < everything / 2
    # One chunk of everything must show, or the measurement is blind.
    whole, same = peak_of(queries, gallery, chunk=600)
    assert whole > 4 * everything
    assert same == result


def test_one_buffer_serves_all_chunks() -> None:
    seen = []

    def constant(queries: FloatArray, gallery: FloatArray) -> Similarities:
        def fill(start: int, stop: int, out: Block) -> None:
            seen.append((start, stop, out.shape, out.ctypes.data))
            out[:] = 0

        shape = (len(queries), len(gallery))
        return Similarities(shape, fill, "constant", reranking="none of it")

    queries, gallery = integer_sets()
    result = evaluate(queries, gallery, distance=constant, chunk=25)
    assert [call[:3] for call in seen] == [
        (0, 25, (25, 200)),
        (25, 50, (25, 200)),
        (50, 60, (10, 200)),
    ]
    assert len({call[3] for call in seen}) == 1
    assert (result.distance, result.reranking) == ("constant", "none of it")


LABELS = Labels([1, 2, 3], [0, 0, 0])
OTHERS = Labels([1, 2, 3], [1, 1, 1])


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_features_that_are_not_finite(broken: float, distance: str) -> None:
    good = np.ones((3, 4))
    bad = good.copy()
    bad[1:, 2] = broken
    message = "{} features are not finite: 2 of 3 rows hold NaN or infinity, the first is row 1"
    with pytest.raises(DataError, match=message.format("query")):
        evaluate(FeatureSet(bad, LABELS), FeatureSet(good, OTHERS), distance=distance)
    with pytest.raises(DataError, match=message.format("gallery")):
        evaluate(FeatureSet(good, LABELS), FeatureSet(bad, OTHERS), distance=distance)


def test_a_bad_row_keeps_the_callers_number() -> None:
    bad = np.ones((4, 2))
    bad[3] = np.nan
    queries = FeatureSet(bad, Labels([1, 2, 3, 3], [0, 5, 0, 0]))
    gallery = FeatureSet(np.ones((3, 2)), OTHERS)
    protocol = replace(STANDARD, query=Subset(cameras=(0,)))
    with pytest.raises(DataError, match=r"query features .* the first is row 3"):
        evaluate(queries, gallery, protocol)


def test_features_too_large_for_float32() -> None:
    sets = FeatureSet(np.full((3, 2), 1e30), LABELS), FeatureSet(np.full((3, 2), 1e30), OTHERS)
    with pytest.raises(DataError, match="too large for float32"):
        evaluate(*sets)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e300, r"features of 1\.0e\+300 are too large for float32"),
        (-1e39, "too large for float32"),
    ],
)
def test_finite_numbers_that_float32_cannot_hold(value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FeatureSet(np.full((3, 2), value), LABELS)


def test_rows_that_become_zero_in_float32() -> None:
    features = np.ones((3, 2))
    features[1] = 1e-200
    with pytest.raises(DataError, match="1 of 3 features, the first in row 1, become zero"):
        FeatureSet(features, LABELS)
    features[1] = 0, 1e-30
    FeatureSet(features, LABELS)


def test_distances_that_are_not_finite() -> None:
    distances = [[0.0, 1.0, 2.0], [0.0, np.nan, 1.0], [0.0, 0.0, 0.0]]
    with pytest.raises(DataError, match=r"1 of 3 query rows .* the first is row 1"):
        evaluate_distances(distances, LABELS, OTHERS)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(3), r"N x D, not float64 of shape \(3,\)"),
        (np.ones((3, 0)), r"N x D, not float64 of shape \(3, 0\)"),
        (np.full((3, 2), "a"), "must be numbers"),
        (np.ones((2, 4)), "2 rows of features, but labels of 3"),
    ],
)
def test_features_of_a_wrong_shape(features: FloatArray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FeatureSet(features, LABELS)


def test_sides_that_do_not_fit() -> None:
    queries, gallery = FeatureSet(np.ones((3, 4)), LABELS), FeatureSet(np.ones((3, 5)), OTHERS)
    with pytest.raises(DataError, match="query features have 4 dimensions, gallery features 5"):
        evaluate(queries, gallery)
    with pytest.raises(DataError, match=r"\(2, 3\) do not fit 3 queries and 3 gallery images"):
        evaluate_distances(np.ones((2, 3)), LABELS, OTHERS)
    with pytest.raises(ConfigError, match="unknown distance 'cosin'; did you mean 'cosine'"):
        evaluate(queries, queries, distance="cosin")


@pytest.mark.parametrize(
    ("protocol", "gallery", "message"),
    [
        (STANDARD, Labels([], []), r"the gallery is empty \(0 images"),
        (STANDARD, Labels([-1, -1], [1, 1]), "2 images, none of them fits 'all' with an identity"),
        (replace(STANDARD, gallery=Subset(cameras=(9,))), OTHERS, "none of them fits 'camid=9'"),
        (replace(STANDARD, query=Subset(pids=(9,))), OTHERS, "there is no query .* 'pid=9'"),
    ],
)
def test_nobody_takes_part(protocol: Protocol, gallery: Labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_distances(np.ones((3, len(gallery))), LABELS, gallery, protocol)


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        (Labels([7, 8, 9], [1, 1, 1]), "3 have no gallery image .* number their identities alike"),
        (Labels([1, 2, 9], [0, 0, 1]), r"1 have no .* 2 have only junk \(same pid & same camid\)"),
        (Labels([1, 2, 3], [0, 0, 0]), r"all images are of one camera \(0\): .*'no-camera'"),
    ],
)
def test_no_query_has_a_match(gallery: Labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_distances(np.ones((3, 3)), LABELS, gallery)


def test_one_camera_is_no_obstacle_without_cameras() -> None:
    result = evaluate_distances(1 - np.eye(3), LABELS, LABELS, NO_CAMERA)
    assert result.mean_ap == 1.0


@pytest.mark.parametrize("protocol", [CROSS_CLOTHES, SAME_CLOTHES])
def test_unknown_outfits_are_refused_where_they_matter(protocol: Protocol) -> None:
    queries, distances = Labels([1], [0], [4]), np.ones((1, 3))
    offered = Labels([1, 1, 2], [1, 1, 1], [5, -1, 6])
    with pytest.raises(DataError, match=r"1 of 2 gallery images have none \(clothes -1\)"):
        evaluate_distances(distances, queries, offered, protocol)
    with pytest.raises(DataError, match="compares outfits, but 1 of 1 query images have none"):
        evaluate_distances(distances, Labels([1], [0]), offered, protocol)
    distractor = Labels([1, 1, 2], [1, 1, 1], [5, 4, -1])
    result = evaluate_distances(distances, queries, distractor, protocol)
    assert result.valid_queries == 1


def test_draws_must_fit_the_protocol() -> None:
    shots = replace(NO_CAMERA, single_shot=SingleShot(trials=2))
    ones = np.ones((3, 3))
    with pytest.raises(DataError, match="searches in all images, but 1 draws"):
        evaluate_distances(ones, LABELS, OTHERS, draws=[[0, 1, 2]])
    with pytest.raises(DataError, match="searches in 2 galleries, but 1 draws"):
        evaluate_distances(ones, LABELS, OTHERS, shots, draws=[[0, 1, 2]])
    with pytest.raises(DataError, match="draw 1 shows row 3, which is not in the protocol's"):
        evaluate_distances(ones, LABELS, OTHERS, shots, draws=[[0, 1, 2], [0, 1, 3]])
    with pytest.raises(DataError, match=re.escape("draw 1 shows no match of query row 2 (pid 3)")):
        evaluate_distances(ones, LABELS, OTHERS, shots, draws=[[0, 1, 2], [0, 1]])


def test_arrays_are_evaluated_without_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from reid_retrieval.features import FeatureSet\n"
        "from reid_retrieval.labels import Labels\n"
        "from reid_retrieval.retrieval import evaluate\n"
        "sets = [FeatureSet(np.eye(2), Labels([1, 2], [c, c])) for c in (0, 1)]\n"
        "assert evaluate(*sets).mean_ap == 1.0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
