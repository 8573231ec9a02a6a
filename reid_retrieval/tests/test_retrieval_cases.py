"""The worked cases in ``protocol_cases``: every expected value, as exact fractions where given."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from reid_retrieval.errors import DataError
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
from reid_retrieval.retrieval import evaluate, evaluate_distances, ranked_rows
from reid_retrieval.similarities import Block, Similarities

CASES = {p.stem: json.loads(p.read_text()) for p in Path(__file__).parent.glob("protocol_cases/*")}
OTHER_VIEW = Protocol("other-view", junk=JunkRule(apart=("camid",)))
TRACKLET = Protocol("tracklet", junk=JunkRule(same=("tracklet",)))

PROTOCOLS = {
    "standard": STANDARD,
    "standard+rerank": STANDARD,
    "partial": STANDARD,
    "no_camera": NO_CAMERA,
    "tracklet_as_camera": TRACKLET,
    "ltcc_standard": STANDARD,
    "ltcc_cloth_changing": CROSS_CLOTHES,
    "ltcc_same_clothes": SAME_CLOTHES,
    "vcclothes_all": STANDARD,
    "vcclothes_cc": STANDARD,
    "vcclothes_sc": STANDARD,
    "prcc_multi_shot": replace(NO_CAMERA, gallery=Subset(cameras=(0,))),
    "prcc_single_shot": replace(NO_CAMERA, gallery=Subset(cameras=(0,))),
    "cuhk03_single_gallery_shot": OTHER_VIEW,
}


def protocol_of(case: dict[str, Any]) -> Protocol:
    """Return the protocol of a case, its restrictions of cameras and identities included."""
    protocol = PROTOCOLS[case["protocol"]]
    if case.get("camera_subset"):
        both = Subset(cameras=tuple(case["camera_subset"]))
        protocol = replace(protocol, query=both, gallery=both)
    if case.get("id_subset"):
        both = Subset(pids=tuple(case["id_subset"]))
        protocol = replace(protocol, query=both, gallery=both)
    return protocol


def labels_of(case: dict[str, Any], side: str, cameras: Sequence[int] | None = None) -> Labels:
    clothes = [-1 if c is None else c for c in case[f"{side}_clothes"]]
    camids = case[f"{side}_camids"]
    # DeepChange's case writes the tracklet where the camera stands.
    extra = {"tracklet": camids} if "true_camids" in case else None
    return Labels(case[f"{side}_pids"], cameras or camids, clothes, extra=extra)


def run(
    case: dict[str, Any],
    protocol: Protocol,
    *,
    max_rank: int,
    distances: ArrayLike | None = None,
    cameras: dict[str, Any] | None = None,
    draws: Sequence[Sequence[int]] | None = None,
) -> RetrievalResult:
    cameras = cameras or {}
    if draws is not None:
        protocol = replace(protocol, single_shot=SingleShot(trials=len(draws)))
    return evaluate_distances(
        case["distances"] if distances is None else distances,
        labels_of(case, "q", cameras.get("q")),
        labels_of(case, "g", cameras.get("g")),
        replace(protocol, ranks=(1,), max_rank=max_rank),
        draws=draws,
        per_query=True,
    )


def one_image_per_identity(pids: Sequence[int], cameras: Sequence[int]) -> list[list[int]]:
    """Return every gallery of one image per identity and camera: all draws there can be."""
    keys = sorted(set(zip(pids, cameras, strict=True)))
    rows = [
        [i for i, found in enumerate(zip(pids, cameras, strict=True)) if found == k] for k in keys
    ]
    return [list(draw) for draw in itertools.product(*rows)]


def assert_scores(result: RetrievalResult, expected: dict[str, Any]) -> None:
    cmc = [float(Fraction(v)) for v in expected.get("cmc_exact", expected["cmc"])]
    assert result.cmc == pytest.approx(cmc, abs=1e-9)
    for key, value in (
        ("mAP", result.mean_ap),
        ("mAP_trapezoid", result.mean_ap_trapezoid),
        ("mINP", result.mean_inp),
    ):
        if key in expected:
            assert value == pytest.approx(expected[key], abs=1e-9), key
        if f"{key}_exact" in expected:
            assert value == pytest.approx(float(Fraction(expected[f"{key}_exact"])), abs=1e-9), key
    assert result.valid_queries == expected.get("valid_queries", result.valid_queries)


MULTI_SHOT = sorted(n for n, c in CASES.items() if "single_" not in c["protocol"])
SINGLE_SHOT = sorted(n for n, c in CASES.items() if c["protocol"] == "prcc_single_shot")


def test_every_case_is_run() -> None:
    cuhk03 = {"cuhk03_classic_single_gallery_shot", "cuhk03_classic_pooled_views"}
    assert {*MULTI_SHOT, *SINGLE_SHOT, *cuhk03} == set(CASES)
    assert len(CASES) == 27


@pytest.mark.parametrize("name", MULTI_SHOT)
def test_scores_of_case(name: str) -> None:
    case = CASES[name]
    expected = case["expected"]
    after = expected.get("final_distances")  # the re-ranking case scores its own output
    cameras = case.get("true_camids")
    max_rank = len(expected["cmc"])
    result = run(case, protocol_of(case), max_rank=max_rank, distances=after, cameras=cameras)
    assert_scores(result, expected)


@pytest.mark.parametrize("name", sorted(n for n in MULTI_SHOT if "per_query" in CASES[n]))
def test_single_queries_of_case(name: str) -> None:
    case = CASES[name]
    distances = case["expected"].get("final_distances", case["distances"])
    cameras = case.get("true_camids")
    protocol = protocol_of(case)
    result = run(case, protocol, max_rank=5, distances=distances, cameras=cameras)
    scores = result.per_query
    assert scores is not None
    valid = [one for one in case["per_query"] if one["valid"]]
    assert scores.rows.tolist() == [one["query"] for one in valid]
    assert scores.first_hit.tolist() == [one["first_hit_rank"] for one in valid]
    for key, values in (
        ("AP_exact", scores.average_precision),
        ("AP_trapezoid_exact", scores.average_precision_trapezoid),
        ("INP_exact", scores.inverse_negative_penalty),
    ):
        exact = [float(Fraction(one[key])) for one in valid]
        assert values.tolist() == pytest.approx(exact, abs=1e-9), key

    # The same distances as inner products: unit vectors against the columns of the matrix.
    queries = FeatureSet(np.eye(len(distances)), labels_of(case, "q"))
    gallery = FeatureSet(-np.array(distances).T, labels_of(case, "g"))
    rows = [one["query"] for one in case["per_query"]]
    lists = ranked_rows(queries, gallery, rows, protocol, top=99, distance=inner_product)
    for one, line in zip(case["per_query"], lists, strict=True):
        assert line.query == one["query"]
        assert line.gallery.tolist() == one["ranked_gallery"]
        matches = [g in one["positives"] for g in one["ranked_gallery"]]
        assert line.matches.tolist() == matches


def inner_product(queries: FloatArray, gallery: FloatArray) -> Similarities:
    def fill(start: int, stop: int, out: Block) -> None:
        out[:] = queries[start:stop] @ gallery.T

    return Similarities((len(queries), len(gallery)), fill, "inner product")


@pytest.mark.parametrize("name", SINGLE_SHOT)
def test_listed_draws_of_case(name: str) -> None:
    case = CASES[name]
    expected, draws = case["expected"], case["gallery_draws"]
    result = run(case, protocol_of(case), max_rank=3, draws=draws)
    assert_scores(result, expected)
    assert result.trials == 10
    assert result.spread is not None
    assert result.spread.cmc[0] == pytest.approx(
        expected["rank1_std_over_draws_population"], abs=1e-9
    )
    assert result.ap_name == "MRR"
    for one in case["per_draw"]:
        single = run(case, protocol_of(case), max_rank=3, draws=[one["draw"]])
        assert single.cmc[0] == pytest.approx(float(Fraction(one["rank1_exact"])), abs=1e-9)
        assert single.mean_ap == pytest.approx(float(Fraction(one["mAP_exact"])), abs=1e-9)


@pytest.mark.parametrize("name", SINGLE_SHOT)
def test_mean_over_all_galleries_of_case(name: str) -> None:
    case = CASES[name]
    draws = one_image_per_identity(case["g_pids"], case["g_camids"])
    assert len(draws) == 27
    result = run(case, protocol_of(case), max_rank=3, draws=draws)
    assert_scores(result, case["alternates"]["expectation_over_all_27_galleries"])
    whole = case["alternates"]["multi_shot_same_distances"]
    multi = run(case, protocol_of(case), max_rank=3)
    assert (multi.mean_ap, multi.cmc[0]) == pytest.approx((whole["mAP"], whole["rank1"]), abs=1e-9)


def test_cuhk03_classic_is_the_mean_over_all_draws() -> None:
    case = CASES["cuhk03_classic_single_gallery_shot"]
    expected = case["expected"]
    draws = one_image_per_identity(case["g_pids"], case["g_camids"])
    result = run(case, OTHER_VIEW, max_rank=4, draws=draws)
    assert result.cmc == pytest.approx(
        [float(Fraction(v)) for v in expected["cmc_exact"]], abs=1e-9
    )
    assert result.mean_ap == pytest.approx(
        float(Fraction(expected["single_shot_mAP_exact"])), abs=1e-9
    )
    assert result.per_query is not None
    for one, reciprocal in zip(
        case["per_query"], result.per_query.average_precision.tolist(), strict=True
    ):
        assert reciprocal == pytest.approx(float(Fraction(one["mrr_exact"])), abs=1e-9)
        assert one["num_combinations"] == len(draws)
    multi = run(case, OTHER_VIEW, max_rank=4)
    assert multi.mean_ap == pytest.approx(float(Fraction(expected["mAP_exact"])), abs=1e-9)


def test_cuhk03_searches_in_the_other_view_only() -> None:
    case = CASES["cuhk03_classic_pooled_views"]
    # One image per identity and view: whatever is drawn, it is the same.
    shots = replace(OTHER_VIEW, single_shot=SingleShot(trials=3, seed=5))
    result = run(case, shots, max_rank=3)
    assert result.cmc == (1.0, 1.0, 1.0)
    assert result.mean_ap == 1.0
    multi = run(case, OTHER_VIEW, max_rank=3)
    assert multi.mean_ap == 1.0
    # torchreid pools the views: any order within an identity is as likely as any other.
    pairs = [[0, 1], [2, 3], [4, 5]]
    orders = itertools.product(*(itertools.permutations(pair) for pair in pairs))
    draws = [list(itertools.chain(*order)) for order in orders]
    pooled = run(case, STANDARD, max_rank=3, draws=draws)
    assert_scores(pooled, case["alternates"]["torchreid_no_view_separation"])


def test_pooled_views_print_the_multi_shot_ap_of_both_views() -> None:
    case = CASES["cuhk03_classic_pooled_views"]
    # The case prints the AP of the unsampled list with both views in it, as torchreid does.
    result = run(case, STANDARD, max_rank=3)
    assert result.mean_ap == pytest.approx(case["expected"]["mAP"], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "variant", "protocol"),
    [
        ("standard_market", "no_camera_filter", NO_CAMERA),
        ("occluded_duke_duplicates", "no_camera_filter", NO_CAMERA),
        ("standard_no_valid_gallery", "divide_by_all_queries", None),
        (
            "ltcc_cloth_changing",
            "clothes_only_filter",
            Protocol("clothes", junk=JunkRule(("clothes",))),
        ),
        ("ltcc_cloth_changing_idfilter", "all_identities_in_gallery", CROSS_CLOTHES),
        ("vcclothes_all", "cc_union_on_all_cameras", CROSS_CLOTHES),
        ("vcclothes_all", "sc_union_on_all_cameras", SAME_CLOTHES),
        ("celeb_reid", "single_digit_regex", STANDARD),
        ("partial_reid", "fastreid_image_index_as_camera", STANDARD),
        ("deepchange", "real_camera_filter", STANDARD),
    ],
)
def test_variants_of_other_codebases(name: str, variant: str, protocol: Protocol | None) -> None:
    case = CASES[name]
    expected = dict(case["alternates"][variant])
    cameras = {"q": expected.get("q_camids"), "g": expected.get("g_camids")}
    if "true_camids" in case:
        cameras = case["true_camids"]
    if protocol is None:
        protocol = replace(STANDARD, denominator="all")
        del expected["valid_queries"]  # they count the query that has no match as valid
    max_rank = len(expected["cmc"])
    assert_scores(run(case, protocol, max_rank=max_rank, cameras=cameras), expected)


def test_partial_reid_single_shot_expectation() -> None:
    case = CASES["partial_reid"]
    expected = case["alternates"]["single_shot_expectation"]
    draws = one_image_per_identity(case["g_pids"], case["g_camids"])
    result = run(case, STANDARD, max_rank=3, draws=draws)
    assert result.cmc == pytest.approx(
        [float(Fraction(v)) for v in expected["cmc_exact"]], abs=1e-9
    )
    assert result.mean_ap == pytest.approx(expected["single_shot_mAP"], abs=1e-9)


def test_reranking_case_before_reranking() -> None:
    case = CASES["rerank_k_reciprocal"]
    assert_scores(run(case, STANDARD, max_rank=8), case["before_rerank"])


def test_one_camera_for_all_leaves_no_valid_query() -> None:
    case = CASES["partial_ilids"]
    assert case["alternates"]["same_camera_id_for_all"]["valid_queries"] == 0
    cameras = {"q": [0] * 5, "g": [0] * 5}
    with pytest.raises(DataError, match=r"5 have only junk .* of one camera"):
        run(case, STANDARD, max_rank=5, cameras=cameras)


@pytest.mark.parametrize(
    ("variant", "distance"),
    [
        (None, "cosine"),
        ("raw_euclidean_squared (torchreid default)", "euclidean"),
        ("l2norm_euclidean_squared", "euclidean"),
        ("cosine (fast-reid default, no flip)", "cosine"),
        ("flip_normalise_each_then_sum_cosine", "cosine"),
    ],
)
def test_feature_level_options(variant: str | None, distance: str) -> None:
    case = CASES["feature_level_options"]
    expected = case["alternates"][variant] if variant else case["expected"]
    sides: dict[str, FeatureSet] = {}
    for side in ("q", "g"):
        plain = np.array(case[f"{side}_feats"])
        flipped = np.array(case[f"{side}_feats_flipped"])
        if variant is None:
            features = plain + flipped
        elif variant.startswith("flip"):
            features = unit(plain) + unit(flipped)
        else:
            features = unit(plain) if variant.startswith("l2norm") else plain
        sides[side] = FeatureSet(features, labels_of(case, side))
    protocol = replace(STANDARD, ranks=(1,), max_rank=6)
    queries, gallery = sides["q"], sides["g"]
    assert_scores(evaluate(queries, gallery, protocol, distance=distance), expected)

    lines = ranked_rows(queries, gallery, [0, 1], protocol, top=6, distance=distance)
    listed = expected.get("distances", case["distances"])
    for line, row in zip(lines, listed, strict=True):
        squared = float((queries.features[line.query] ** 2).sum())
        found = 1 - line.similarities if distance == "cosine" else squared - 2 * line.similarities
        assert found.tolist() == pytest.approx([row[g] for g in line.gallery], abs=1e-5)


def unit(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / lengths)
