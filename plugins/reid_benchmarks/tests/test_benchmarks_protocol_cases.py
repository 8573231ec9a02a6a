"""The worked cases beside the core's tests, through the named protocols as a run uses them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_benchmarks.protocols import PROTOCOLS
from reid_core.evaluation.extraction import merge_mirrored
from reid_retrieval.errors import DataError
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels
from reid_retrieval.results import RetrievalResult
from reid_retrieval.retrieval import evaluate, evaluate_distances

FOLDER = Path(__file__).parents[3] / "reid_retrieval" / "tests" / "protocol_cases"
CASES: dict[str, dict[str, Any]] = {p.stem: json.loads(p.read_text()) for p in FOLDER.glob("*")}
NAMED = {protocol.name: protocol for protocol in PROTOCOLS}

MULTI_SHOT = {
    "celeb_reid": ("celeb-reid", "celeb-reid-light"),
    "cuhk03_np": ("cuhk03/np",),
    "deepchange": ("deepchange/tracklet",),
    "last": ("last",),
    "ltcc_cloth_changing": ("ltcc/cc",),
    "ltcc_cloth_changing_idfilter": ("ltcc/cc/identity-filter",),
    "ltcc_same_clothes": ("ltcc/sc",),
    "ltcc_standard": ("ltcc/general",),
    "occluded_duke_duplicates": ("occluded-duke",),
    "partial_ilids": ("partial-ilids",),
    "partial_reid": ("partial-reid/multi-shot", "occluded-reid/multi-shot"),
    "prcc_cc_multishot": ("prcc/cc/multi-shot",),
    "prcc_sc_multishot": ("prcc/sc/multi-shot",),
    "rerank_k_reciprocal": ("market1501",),
    "standard_market": ("market1501", "duke", "msmt17"),
    "standard_market_junk_pid": ("market1501",),
    "standard_no_valid_gallery": ("market1501",),
    "standard_short_gallery": ("market1501",),
    "standard_ties": ("market1501",),
    "vcclothes_all": ("vcclothes/all",),
    "vcclothes_cc": ("vcclothes/cc",),
    "vcclothes_sc": ("vcclothes/sc",),
}
SINGLE_SHOT = {"prcc_cc_single_shot": "prcc/cc", "prcc_sc_single_shot": "prcc/sc"}
OTHERS = {
    "cuhk03_classic_pooled_views",
    "cuhk03_classic_single_gallery_shot",
    "feature_level_options",
}


def labels_of(case: dict[str, Any], side: str) -> Labels:
    """Return a side's labels as a loader makes them."""
    pids, camids = case[f"{side}_pids"], case[f"{side}_camids"]
    clothes = [-1 if c is None else c for c in case[f"{side}_clothes"]]
    extra: dict[str, list[object]] = {}
    if case["protocol"].startswith("vcclothes"):
        # These cases have the cameras as the files number them.
        extra["camera"] = camids
        camids = [camera - 1 for camera in camids]
    if case["protocol"].startswith("prcc"):
        extra["camera"] = ["ABC"[camera] for camera in camids]
    if case["protocol"].startswith("cuhk03"):
        # These have the views as cameras, all of one pair.
        extra["view"] = [camera + 1 for camera in camids]
    if "id_subset" in case:
        extra["cloth_changing"] = [int(pid in case["id_subset"]) for pid in pids]
    if "true_camids" in case:
        # DeepChange's case writes the tracklet where the camera stands.
        extra["tracklet"], camids = camids, case["true_camids"][side]
    splits = ["query" if side == "q" else "gallery"] * len(pids)
    return Labels(pids, camids, clothes, splits, extra)


def run(name: str, protocol: str, draws: list[list[int]] | None = None) -> RetrievalResult:
    case = CASES[name]
    distances = case["expected"].get("final_distances", case["distances"])
    sides = labels_of(case, "q"), labels_of(case, "g")
    return evaluate_distances(distances, *sides, NAMED[protocol], draws=draws)


def assert_scores(result: RetrievalResult, expected: dict[str, Any]) -> None:
    """Compare everything that a case expects to 1e-9."""
    cmc = [float(Fraction(value)) for value in expected.get("cmc_exact", expected["cmc"])]
    assert result.cmc[: len(cmc)] == pytest.approx(cmc, abs=1e-9)
    assert result.cmc[len(cmc) :] == pytest.approx([cmc[-1]] * (50 - len(cmc)), abs=1e-9)
    found = {
        "mAP": result.mean_ap,
        "mAP_trapezoid": result.mean_ap_trapezoid,
        "mINP": result.mean_inp,
        "valid_queries": result.valid_queries,
    }
    for key, value in found.items():
        wanted = expected.get(f"{key}_exact", expected.get(key))
        if wanted is not None:
            assert value == pytest.approx(float(Fraction(wanted)), abs=1e-9), key


def test_every_case_is_run() -> None:
    assert {*MULTI_SHOT, *SINGLE_SHOT, *OTHERS} == set(CASES)
    assert len(CASES) == 27


@pytest.mark.parametrize(
    ("case", "protocol"), [(case, name) for case, names in MULTI_SHOT.items() for name in names]
)
def test_case_on_the_whole_gallery(case: str, protocol: str) -> None:
    result = run(case, protocol)
    assert_scores(result, CASES[case]["expected"])
    assert result.ap_name == "mAP"


@pytest.mark.parametrize(("name", "setting"), SINGLE_SHOT.items())
def test_prcc_on_single_images(name: str, setting: str) -> None:
    case = CASES[name]
    drawn = run(name, f"{setting}/single-shot@10", case["gallery_draws"])
    assert_scores(drawn, case["expected"])
    assert drawn.ap_name == "MRR"
    assert drawn.spread is not None
    deviation = case["expected"]["rank1_std_over_draws_population"]
    assert drawn.spread.cmc[0] == pytest.approx(deviation, abs=1e-9)
    every = run(name, f"{setting}/single-shot@all")
    assert_scores(every, case["alternates"]["expectation_over_all_27_galleries"])
    assert every.ap_name == "MRR"


def test_partial_reid_on_single_images() -> None:
    expected = dict(CASES["partial_reid"]["alternates"]["single_shot_expectation"])
    expected["mAP"] = expected["single_shot_mAP"]
    for name in ("partial-reid", "occluded-reid"):
        assert_scores(run("partial_reid", f"{name}/single-shot@all"), expected)


def test_cuhk03_classic_searches_in_the_other_view() -> None:
    name = "cuhk03_classic_single_gallery_shot"
    expected = dict(CASES[name]["expected"])
    multi = run(name, "cuhk03/classic/multi-shot")
    assert multi.mean_ap == pytest.approx(float(Fraction(expected["mAP_exact"])), abs=1e-9)
    expected |= {"mAP_exact": expected["single_shot_mAP_exact"]}
    assert_scores(run(name, "cuhk03/classic/single-shot@all"), expected)


def test_cuhk03_classic_with_pooled_views() -> None:
    name = "cuhk03_classic_pooled_views"
    expected = CASES[name]["expected"]
    own = dict(expected, mAP_exact=expected["single_shot_mAP_exact"])
    for galleries in ("@all", "@10"):
        # One image per person and view: whatever is drawn, it is the same.
        assert_scores(run(name, f"cuhk03/classic/single-shot{galleries}"), own)
    pooled = CASES[name]["alternates"]["torchreid_no_view_separation"]
    assert_scores(run(name, "cuhk03/classic/pooled-views/single-shot@all"), pooled)
    # The AP that torchreid prints beside it is of the unsampled list with both views in it.
    multi = run(name, "cuhk03/classic/pooled-views/multi-shot")
    assert multi.mean_ap == pytest.approx(expected["mAP"], abs=1e-9)


@pytest.mark.parametrize("galleries", [10, 4000])
def test_seeded_draws_come_to_the_exact_mean(galleries: int) -> None:
    case = CASES["cuhk03_classic_single_gallery_shot"]
    seeded = NAMED["cuhk03/classic/single-shot@10"]
    assert seeded.single_shot is not None
    protocol = replace(seeded, single_shot=replace(seeded.single_shot, trials=galleries))  # type: ignore[arg-type]
    result = evaluate_distances(
        case["distances"], labels_of(case, "q"), labels_of(case, "g"), protocol
    )
    exact = [float(Fraction(value)) for value in case["expected"]["cmc_exact"]]
    # A mean over n draws of shares in 0 .. 1 strays by at most 0.5 / sqrt(n) in a deviation.
    assert result.cmc[:4] == pytest.approx(exact, abs=4 * 0.5 / galleries**0.5)
    assert galleries < 100 or result.cmc[0] != pytest.approx(exact[0], abs=1e-9)


@pytest.mark.parametrize(
    ("case", "variant", "protocol"),
    [
        ("deepchange", "real_camera_filter", "deepchange/camera"),
        ("ltcc_cloth_changing_idfilter", "all_identities_in_gallery", "ltcc/cc"),
    ],
)
def test_other_protocols_on_the_same_case(case: str, variant: str, protocol: str) -> None:
    assert_scores(run(case, protocol), CASES[case]["alternates"][variant])


@pytest.mark.parametrize(
    ("variant", "flip", "distance"),
    [
        (None, "sum", "cosine"),
        ("flip_normalise_each_then_sum_cosine", "unit-sum", "cosine"),
        ("raw_euclidean_squared (torchreid default)", "off", "euclidean"),
        ("l2norm_euclidean_squared", "off", "cosine"),
        ("cosine (fast-reid default, no flip)", "off", "cosine"),
    ],
)
def test_feature_level_options(variant: str | None, flip: str, distance: str) -> None:
    case = CASES["feature_level_options"]
    sides = []
    for side in ("q", "g"):
        features = torch.tensor(case[f"{side}_feats"], dtype=torch.float64)
        if flip != "off":
            mirrored = torch.tensor(case[f"{side}_feats_flipped"], dtype=torch.float64)
            features = merge_mirrored(features, mirrored, flip)
        sides.append(FeatureSet(features, labels_of(case, side)))
    result = evaluate(*sides, NAMED["market1501"], distance=distance)
    assert_scores(result, case["alternates"][variant] if variant else case["expected"])


def test_multi_query_averages_the_images_of_a_person_and_camera() -> None:
    # Two images at (4, 0) and (0, 2) are asked for as (2, 1): the match at (2, 1) is at rank 1,
    # where each of them alone prefers another person.
    gallery = FeatureSet(np.array([[2, 1], [4, 0], [0, 2]]), Labels([1, 2, 3], [1, 1, 1]))
    splits = ["query", "multi-query", "multi-query"]
    queries = FeatureSet(
        np.array([[9, 0], [4, 0], [0, 2]]), Labels([1, 1, 1], [0, 0, 0], splits=splits)
    )
    single = evaluate(queries, gallery, NAMED["market1501"], distance="euclidean")
    assert (single.total_queries, single.cmc[0]) == (1, 0.0)
    multi = evaluate(queries, gallery, NAMED["market1501/multi-query"], distance="euclidean")
    assert (multi.total_queries, multi.cmc[0]) == (1, 1.0)
    with pytest.raises(DataError, match="pools features of several images, which ready distances"):
        evaluate_distances(
            np.zeros((3, 3)), queries.labels, gallery.labels, NAMED["market1501/multi-query"]
        )


def test_a_set_without_the_labels_of_a_protocol_is_refused() -> None:
    with pytest.raises(DataError, match=r"'prcc/cc/multi-shot' needs the label 'camera'"):
        run("standard_market", "prcc/cc/multi-shot")
    with pytest.raises(DataError, match=r"'ltcc/cc' compares outfits, but 3 of 3 query images"):
        run("standard_market", "ltcc/cc")
