"""What the library promises, by its public names alone: this file imports nothing else of it.

It also runs where neither torch nor the rest of this repository is installed.
"""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reid_retrieval
from reid_retrieval import (
    ConfigError,
    DataError,
    Gallery,
    JunkRule,
    Labels,
    Protocol,
    RetrievalResult,
    SingleShot,
    Subset,
    cluster,
    evaluate,
    evaluate_distances,
    find_protocol,
    jaccard,
    rerank,
    rerank_distances,
    search,
)

FOLDER = Path(__file__).with_name("protocol_cases")
CASES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}

RULES: dict[str, dict[str, Any]] = {
    "standard": {"junk": JunkRule(same=("camid",))},
    "ltcc_cloth_changing": {"junk": JunkRule(same=("camid", "clothes"))},
    "ltcc_same_clothes": {"junk": JunkRule(same=("camid",), different=("clothes",))},
    "no_camera": {},
    "tracklet_as_camera": {"junk": JunkRule(same=("tracklet",))},
    "prcc_multi_shot": {"gallery": Subset(cameras=(0,))},
    "prcc_single_shot": {"gallery": Subset(cameras=(0,))},
    "cuhk03_single_gallery_shot": {"junk": JunkRule(apart=("camid",))},
}
for _same in ("standard+rerank", "partial", "ltcc_standard", "all", "cc", "sc"):
    RULES[f"vcclothes_{_same}" if len(_same) < 4 else _same] = RULES["standard"]


def side(case: dict[str, Any], name: str) -> dict[str, Any]:
    clothes = [-1 if outfit is None else outfit for outfit in case[f"{name}_clothes"]]
    camids = case[f"{name}_camids"]
    found = {"pid": case[f"{name}_pids"], "camid": camids, "clothes": clothes}
    if "true_camids" in case:  # DeepChange's case writes the tracklet where the camera stands
        found |= {"tracklet": camids, "camid": case["true_camids"][name]}
    return found


def score(case: dict[str, Any], distances: Any = None, draws: Any = None) -> RetrievalResult:
    rule = dict(RULES[case["protocol"]])
    for key, field in (("camera_subset", "cameras"), ("id_subset", "pids")):
        if case.get(key):
            both = Subset(**{field: tuple(case[key])})
            rule |= {"query": both, "gallery": both}
    if draws is not None:
        rule["single_shot"] = SingleShot(len(draws))
    longest = len(case["expected"].get("cmc") or case["expected"]["cmc_exact"])
    protocol = Protocol("case", ranks=(1,), max_rank=longest, **rule)
    found = case["expected"].get("final_distances", case["distances"])
    distances = found if distances is None else distances
    return evaluate_distances(distances, side(case, "q"), side(case, "g"), protocol, draws=draws)


def every_draw(case: dict[str, Any]) -> list[list[int]]:
    seen = list(zip(case["g_pids"], case["g_camids"], strict=True))
    rows = [[i for i, other in enumerate(seen) if other == one] for one in sorted(set(seen))]
    return [list(draw) for draw in itertools.product(*rows)]


@pytest.mark.parametrize("name", CASES)
def test_a_worked_case(name: str) -> None:
    case = CASES[name]
    expected = case["expected"]
    draws = case.get("gallery_draws")
    if name == "cuhk03_classic_single_gallery_shot":
        draws = every_draw(case)
    if name == "cuhk03_classic_pooled_views":
        # One image per person and view: the query's own view hidden, nothing is left to draw.
        assert score(case, draws=every_draw(case)).cmc == (1.0, 1.0, 1.0)
        return
    result = score(case, draws=draws)
    curve = [float(Fraction(value)) for value in expected.get("cmc_exact", expected["cmc"])]
    assert result.cmc == pytest.approx(curve, abs=1e-9)
    average = expected.get("single_shot_mAP_exact") or expected.get("mAP_exact") or expected["mAP"]
    if not (draws and "single_shot_mAP_exact" not in expected and "cuhk03" in name):
        assert result.mean_ap == pytest.approx(float(Fraction(average)), abs=1e-9)
    if "mINP" in expected and not draws:
        assert result.mean_inp == pytest.approx(expected["mINP"], abs=1e-9)
    if "mAP_trapezoid" in expected and not draws:
        assert result.mean_ap_trapezoid == pytest.approx(expected["mAP_trapezoid"], abs=1e-9)
    assert result.valid_queries == expected.get("valid_queries", result.valid_queries)
    valid = [one for one in case.get("per_query", ()) if one.get("valid")]
    if valid and not draws:
        assert result.per_query is not None
        assert result.per_query.rows.tolist() == [one["query"] for one in valid]
        averages = [float(Fraction(one["AP_exact"])) for one in valid]
        assert result.per_query.average_precision == pytest.approx(averages, abs=1e-9)


def test_there_are_27_worked_cases() -> None:
    assert len(CASES) == 27


def test_the_worked_case_of_re_ranking() -> None:
    case = CASES["rerank_k_reciprocal"]
    final = rerank_distances(
        *(case["distances"], case["q_q_dist"], case["g_g_dist"]),
        k1=case["k1"],
        k2=case["k2"],
        weight=case["lambda_value"],
    )
    assert final == pytest.approx(np.array(case["expected"]["final_distances"]), abs=1e-12)


# Random cases -------------------------------------------------------------------------------------


def plain_loop(
    similarities: Any, query: dict[str, Any], gallery: dict[str, Any], junk: JunkRule
) -> tuple[list[float], list[int]]:
    """Return APs and first hits of the valid queries, by sorting everything for each."""
    averages, firsts = [], []
    for asked, row in enumerate(similarities):
        order = sorted(range(len(row)), key=lambda image: (-row[image], image))
        hits = []
        for image in order:
            own = gallery["pid"][image] == query["pid"][asked]
            same = any(gallery[key][image] == query[key][asked] for key in junk.same)
            other = any(gallery[key][image] != query[key][asked] for key in junk.different)
            apart = any(gallery[key][image] == query[key][asked] for key in junk.apart)
            if gallery["pid"][image] == -1 or apart or (own and (same or other)):
                continue
            hits.append(own)
        ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
        if ranks:
            averages.append(sum(n / rank for n, rank in enumerate(ranks, 1)) / len(ranks))
            firsts.append(ranks[0])
    return averages, firsts


def random_sides(seed: int) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    query, gallery = rng.integers(-3, 4, (12, 5)), rng.integers(-3, 4, (70, 5))
    labels = [
        {
            "pid": rng.integers(-1 if rows == 70 else 0, 5, rows),
            "camid": rng.integers(0, 3, rows),
            "clothes": rng.integers(0, 4, rows),
        }
        for rows in (12, 70)
    ]
    return query, gallery, labels[0], labels[1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "junk",
    [
        JunkRule(),
        JunkRule(same=("camid",)),
        JunkRule(same=("camid", "clothes")),
        JunkRule(same=("camid",), different=("clothes",)),
        JunkRule(apart=("camid",)),
    ],
    ids=lambda rule: rule.text,
)
def test_random_cases_equal_the_plain_loop(seed: int, junk: JunkRule) -> None:
    query, gallery, asked, offered = random_sides(seed)
    protocol = Protocol("random", junk=junk)
    squared = ((query[:, None] - gallery[None]) ** 2).sum(axis=2)
    averages, firsts = plain_loop(-squared, asked, offered, junk)
    curve = [sum(first <= rank for first in firsts) / len(firsts) for rank in range(1, 51)]
    by_features = evaluate(query, gallery, asked, offered, protocol, distance="euclidean")
    by_distances = evaluate_distances(squared, asked, offered, protocol)
    for result in (by_features, by_distances):
        assert result.mean_ap == pytest.approx(float(np.mean(averages)), abs=1e-12)
        assert result.cmc == pytest.approx(curve, abs=1e-12)
        assert result.per_query is not None
        assert result.per_query.average_precision == pytest.approx(averages, abs=1e-12)
        assert result.per_query.first_hit.tolist() == firsts


# The functions ------------------------------------------------------------------------------------


def people(count: int = 60, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, 6, count)
    return rng.standard_normal((6, 16))[pids] * 2 + rng.standard_normal((count, 16)), pids


def test_protocols_go_by_name_by_object_and_several_at_once() -> None:
    query, gallery, asked, offered = random_sides(3)
    one = evaluate(query, gallery, asked, offered)
    assert one.protocol == "standard"
    several = evaluate(query, gallery, asked, offered, ["standard", find_protocol("no-camera")])
    assert [result.protocol for result in several] == ["standard", "no-camera"]
    assert several[0].to_json() == one.to_json()
    assert several[1].mean_ap != one.mean_ap
    assert evaluate(query, gallery, asked, offered, ()) == ()


def test_identities_alone_do_where_nothing_else_is_compared() -> None:
    query, gallery, asked, offered = random_sides(3)
    alone = evaluate(query, gallery, asked["pid"], offered["pid"], "no-camera")
    assert alone.mean_ap == evaluate(query, gallery, asked, offered, "no-camera").mean_ap
    with pytest.raises(DataError, match="needs the label 'camid' of every query image"):
        evaluate(query, gallery, asked["pid"], offered["pid"])
    with pytest.raises(DataError, match="no query has a match"):
        evaluate(query, gallery, [9] * 12, offered["pid"], "no-camera")


def test_all_junk_by_another_label_than_the_camera() -> None:
    rule = Protocol("views", junk=JunkRule(same=("view",)))
    labels = {"pid": [1], "view": ["front"]}
    with pytest.raises(DataError, match=r"1 have only junk \(same pid & same view\)$"):
        evaluate(np.eye(1), np.eye(1), labels, labels, rule)


def test_labels_without_identities() -> None:
    with pytest.raises(DataError, match="labels need the identities, 'pid'; these are camid"):
        Labels.of({"camid": [1]})
    with pytest.raises(DataError, match="these are empty"):
        Labels.of({})


def test_draws_reach_the_protocol_and_several_have_none() -> None:
    query, gallery, asked, offered = random_sides(3)
    shots = Protocol("shots", single_shot=SingleShot(1))
    everything = [np.flatnonzero(offered["pid"] != -1)]
    found = evaluate(query, gallery, asked, offered, shots, draws=everything)
    assert found.drawn == "given"
    with pytest.raises(ConfigError, match="draws are of one single-shot protocol"):
        evaluate(query, gallery, asked, offered, [shots], draws=everything)  # type: ignore[call-overload]


def test_re_ranking_has_settings_by_name() -> None:
    features, pids = people()
    plain, published, own = (
        evaluate(features[:20], features[20:], pids[:20], pids[20:], "no-camera", rerank=how)
        for how in (False, True, {"k1": 5, "k2": 2, "weight": 0.1, "variant": "cluster_contrast"})
    )
    assert plain.reranking == "none"
    assert published.reranking == "k-reciprocal zhong k1=20 k2=6 lambda=0.3"
    assert own.reranking == "k-reciprocal cluster_contrast k1=5 k2=2 lambda=0.1"
    with pytest.raises(ConfigError, match="no setting 'k3'; known: variant, k1, k2, weight"):
        evaluate(features, features, pids, pids, "no-camera", rerank={"k3": 1})
    with pytest.raises(ConfigError, match="re-ranking needs a distance by name"):
        evaluate(features, features, pids, pids, distance=lambda *_: None, rerank=True)


def test_final_distances_are_those_that_are_evaluated(tmp_path: Path) -> None:
    features, pids = people()
    query, gallery = features[:20], features[20:]
    final = rerank(query, gallery, k1=6, k2=3, weight=0.2)
    assert final.dtype == np.float32
    settings = {"k1": 6, "k2": 3, "weight": 0.2}
    scored = evaluate(query, gallery, pids[:20], pids[20:], "no-camera", rerank=settings)
    ready = evaluate_distances(final, pids[:20], pids[20:], "no-camera")
    assert ready.mean_ap == scored.mean_ap
    # Against matrices of all distances between unit features.
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    far = np.sqrt(np.maximum(2 - 2 * unit @ unit.T, 0))
    np.fill_diagonal(far, 0)
    dense = rerank_distances(far[:20, 20:], far[:20, :20], far[20:, 20:], **settings)
    assert final == pytest.approx(dense, abs=1e-5)
    file = np.lib.format.open_memmap(tmp_path / "final.npy", "w+", np.float32, (20, 40))
    assert rerank(query, gallery, **settings, out=file) is file
    assert np.array_equal(np.load(tmp_path / "final.npy"), final)


def test_what_cannot_be_re_ranked() -> None:
    features, _ = people()
    with pytest.raises(DataError, match="16 dimensions, gallery features 3"):
        rerank(features, features[:, :3])
    with pytest.raises(DataError, match="nothing to re-rank: 0 queries, 60 images"):
        rerank(features[:0], features)
    with pytest.raises(DataError, match=r"out must be float32 of shape \(60, 60\), not float64"):
        rerank(features, features, out=np.empty((60, 60)))  # type: ignore[arg-type]
    broken = features.copy()
    broken[4, 2] = np.nan
    with pytest.raises(DataError, match=r"gallery features are not finite: 1 of 60 .* row 4"):
        rerank(features, broken)
    with pytest.raises(DataError, match="query features are not finite"):
        rerank(broken, features)


def test_search_in_features_and_in_a_prepared_gallery(tmp_path: Path) -> None:
    features, _ = people()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.argsort(-(unit[:5] @ unit.T), axis=1, kind="stable")[:, :4]
    assert np.array_equal(search(features[:5], features, 4).indices, expected)
    assert search(features[:5], features).indices.shape == (5, 10)
    np.save(tmp_path / "gallery.npy", features.astype(np.float32))
    stored = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    assert np.array_equal(search(features[:5], stored, 4).indices, expected)
    prepared = Gallery(features)
    assert np.array_equal(search(features[:5], prepared, 4).indices, expected)
    alone = search(features, prepared, 1, exclude_self=True).indices[:, 0]
    assert not (alone == np.arange(60)).any()
    for options in ({"distance": "cosine"}, {"precision": "fp32"}):
        with pytest.raises(ConfigError, match="a prepared gallery has its own"):
            search(features, prepared, 1, **options)  # type: ignore[arg-type]
    shifted = search(features[:5], features, 4, distance="euclidean").indices
    squared = ((features[:5, None] - features[None]) ** 2).sum(axis=2)
    assert np.array_equal(shifted, np.argsort(squared, axis=1, kind="stable")[:, :4])


def test_clusters_of_features_and_of_their_distances() -> None:
    features, pids = people(90)
    labels = cluster(features, 0.5, 3, k1=10, k2=3)
    found = labels >= 0
    assert found.sum() > 60
    pairs = {(int(a), int(b)) for a, b in zip(labels[found], pids[found], strict=True)}
    assert len(pairs) == len({a for a, _ in pairs})  # no cluster of two people
    distances = jaccard(features, 10, 3)
    assert cluster(distances, 0.5, 3).tolist() == labels.tolist()
    near = jaccard(features, 10, 3, at_most=0.5)
    assert near.nnz < distances.nnz
    # Beyond 1 there is nothing to leave out.
    assert cluster(features, 1.5, 3, k1=10, k2=3).max() == cluster(distances, 1.5, 3).max()
    with pytest.raises(ConfigError, match="eps of at least 0, not -1"):
        cluster(features, -1)


def test_every_public_name_is_there() -> None:
    for name in reid_retrieval.__all__:
        assert getattr(reid_retrieval, name).__doc__, name
    assert {"evaluate", "search", "rerank", "jaccard", "cluster"} <= set(dir(reid_retrieval))
    with pytest.raises(AttributeError, match="has no attribute 'evaluat'"):
        _ = reid_retrieval.evaluat
