"""k-reciprocal re-ranking: the worked case, and the dense reference in float64."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_reranking import dense_final, dense_squared
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels
from reid_retrieval.reciprocal import Variant
from reid_retrieval.reranking import k_reciprocal, rerank_distances
from reid_retrieval.retrieval import evaluate, evaluate_distances

CASE = json.loads(
    (Path(__file__).parent / "protocol_cases" / "rerank_k_reciprocal.json").read_text()
)
VARIANTS: tuple[Variant, ...] = ("zhong", "cluster_contrast")


def people(count: int, seed: int = 0, width: int = 16) -> NDArray[np.float32]:
    """Return features of identities with six images each, the identities in turn."""
    rng = np.random.default_rng(seed)
    centres = np.tile(rng.normal(size=(-(-count // 6), width)), (6, 1))[:count]
    return (centres + 0.5 * rng.normal(size=(count, width))).astype(np.float32)


def final_distances(
    features: NDArray[Any], queries: int, block: int = 16, **settings: Any
) -> NDArray[np.float64]:
    """Return what the evaluation is given for the first rows against the others, in blocks."""
    rows = features.astype(np.float32)
    similarities = k_reciprocal(**settings)(rows[:queries], rows[queries:])
    out = np.empty(similarities.shape, np.float32)
    for start in range(0, queries, block):
        stop = min(start + block, queries)
        similarities.fill(start, stop, out[start:stop])
    return -out.astype(np.float64)


def case_matrices() -> tuple[list[Any], list[Any], list[Any]]:
    return CASE["distances"], CASE["q_q_dist"], CASE["g_g_dist"]


def test_final_distances_of_the_worked_case() -> None:
    final = rerank_distances(*case_matrices(), k1=CASE["k1"], k2=CASE["k2"])
    expected = np.array(CASE["expected"]["final_distances"])
    assert np.abs(final - expected).max() < 1e-12
    assert CASE["lambda_value"] == 0.3

    queries = Labels(CASE["q_pids"], CASE["q_camids"])
    gallery = Labels(CASE["g_pids"], CASE["g_camids"])
    result = evaluate_distances(final, queries, gallery)
    assert result.mean_ap == pytest.approx(float(Fraction(CASE["expected"]["mAP_exact"])))
    assert result.cmc[:8] == pytest.approx(CASE["expected"]["cmc"])


def test_squared_distances_give_the_numbers_of_code_that_squares_twice() -> None:
    squared = [np.square(matrix) for matrix in case_matrices()]
    final = rerank_distances(*squared, k1=4, k2=2)
    twice = CASE["alternates"]["fed_with_squared_distances"]["final_distances"]
    assert np.abs(final - np.array(twice)).max() < 1e-12
    assert np.abs(final - np.array(CASE["expected"]["final_distances"])).max() > 0.07


def test_the_other_variant_reads_the_worked_case_otherwise() -> None:
    across, asked, offered = (np.array(part) for part in case_matrices())
    final = rerank_distances(across, asked, offered, variant="cluster_contrast", k1=4, k2=2)
    squared = np.square(np.block([[asked, across], [across.T, offered]]))
    expected = dense_final(squared, 4, 2, 0.3, "cluster_contrast")[:2, 2:]
    assert np.abs(final - expected).max() < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("count", "queries", "k1", "k2", "weight"),
    [
        (300, 50, 20, 6, 0.3),
        (90, 30, 7, 3, 0.0),
        (90, 30, 7, 1, 1.0),
        (42, 20, 60, 70, 0.3),  # more neighbours than images
        (24, 23, 6, 2, 0.5),  # a gallery of one image
        (24, 1, 6, 2, 0.5),  # one query
        (2, 1, 20, 6, 0.3),
    ],
)
def test_final_distances_are_those_of_the_dense_reference(
    variant: Variant, distance: str, count: int, queries: int, k1: int, k2: int, weight: float
) -> None:
    features = people(count)
    found = final_distances(
        features, queries, variant=variant, k1=k1, k2=k2, weight=weight, distance=distance
    )
    squared = dense_squared(features, distance)
    expected = dense_final(squared, k1, k2, weight, variant)[:queries, queries:]
    # Distances that are not divided by their row's maximum have rounding of their own size.
    assert np.abs(found - expected).max() < 1e-6 * max(1.0, expected.max())


@st.composite
def lattices(draw: st.DrawFn) -> NDArray[np.float32]:
    """Points with whole coordinates: many are equally far, and many are the same."""
    count = draw(st.integers(2, 20))
    coordinates = st.integers(0, 2)
    rows = st.tuples(coordinates, coordinates, coordinates)
    return np.array(draw(st.lists(rows, min_size=count, max_size=count)), np.float32)


@settings(max_examples=100, deadline=None)
@given(lattices(), st.integers(1, 10), st.integers(1, 5), st.sampled_from(VARIANTS))
def test_ties_and_copies_go_by_index(
    features: NDArray[np.float32], k1: int, k2: int, variant: Variant
) -> None:
    queries = len(features) // 2
    expected = dense_final(dense_squared(features, "euclidean"), k1, k2, 0.3, variant)
    found = final_distances(features, queries, variant=variant, k1=k1, k2=k2, distance="euclidean")
    assert np.abs(found - expected[:queries, queries:]).max() < 5e-6
    plain = np.sqrt(dense_squared(features, "euclidean"))
    blocks = plain[:queries, queries:], plain[:queries, :queries], plain[queries:, queries:]
    ready = rerank_distances(*blocks, variant=variant, k1=k1, k2=k2)
    assert np.abs(ready - expected[:queries, queries:]).max() < 1e-9


def sets(count: int, queries: int, features: NDArray[Any]) -> tuple[FeatureSet, FeatureSet]:
    identities = -(-count // 6)
    pids = np.arange(count) % identities
    asked = Labels(pids[:queries], np.zeros(queries, int))
    offered = Labels(pids[queries:], np.ones(count - queries, int))
    return FeatureSet(features[:queries], asked), FeatureSet(features[queries:], offered)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_those_of_the_dense_reference(variant: Variant) -> None:
    features = people(240, width=6)
    queries, gallery = sets(240, 60, features)
    plain = evaluate(queries, gallery)
    found = evaluate(queries, gallery, distance=k_reciprocal(variant), chunk=17)
    final = dense_final(dense_squared(features), 20, 6, 0.3, variant)[:60, 60:]
    expected = evaluate_distances(final, queries.labels, gallery.labels)
    assert found.metrics() == pytest.approx(expected.metrics(), abs=1e-9)
    assert found.mean_ap > plain.mean_ap + 0.01
    assert found.distance == "cosine"
    assert found.reranking == f"k-reciprocal {variant} k1=20 k2=6 lambda=0.3"
    assert f"re-ranking {found.reranking};" in found.text
    assert plain.reranking == "none"


def test_weight_one_keeps_the_ranking() -> None:
    features = np.sign(people(96)) * 4  # of equal norm, exact in float32
    queries, gallery = sets(96, 24, features)
    plain = evaluate(queries, gallery)
    same = evaluate(queries, gallery, distance=k_reciprocal("cluster_contrast", weight=1.0))
    assert same.metrics() == plain.metrics()
    assert same.tied_queries == plain.tied_queries > 0


def test_results_do_not_depend_on_the_block() -> None:
    features = np.random.default_rng(0).integers(-3, 4, size=(120, 8)).astype(np.float32)
    options: dict[str, Any] = {"k1": 8, "k2": 3, "distance": "euclidean"}
    whole = final_distances(features, 40, block=40, **options)
    for block in (1, 7, 39):
        assert (final_distances(features, 40, block=block, **options) == whole).all()


def test_a_feature_of_norm_zero_has_finite_distances() -> None:
    features = people(30)
    features[[2, 20]] = 0
    for variant in VARIANTS:
        final = final_distances(features, 10, variant=variant, k1=4, k2=1)
        assert np.isfinite(final).all()
        # It shares no neighbour with anything, and its cosine is 0.
        assert final[2].tolist() == pytest.approx([1.0 if variant == "zhong" else 1.3] * 20)


def test_images_that_are_all_alike() -> None:
    features = np.random.default_rng(0).normal(size=(1, 64)).repeat(9, axis=0)
    for variant in VARIANTS:
        for distance in ("cosine", "euclidean"):
            final = final_distances(features, 3, variant=variant, distance=distance)
            assert np.abs(final).max() < 1e-4


def test_neither_all_pairs_nor_all_queries_by_gallery() -> None:
    features = people(4000, width=8)
    queries, gallery = features[:1500], features[1500:]
    make = k_reciprocal(k1=10, k2=3)
    make(queries[:5], gallery[:50])  # imports and code are not part of it
    tracemalloc.start()
    try:
        similarities = make(queries, gallery)
        block = np.empty((15, 2500), np.float32)
        for start in range(0, 1500, 15):
            similarities.fill(start, start + 15, block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1500 * 2500 * 4, "bytes of queries x gallery in float32"
    assert peak < 4000**2, "bytes: a quarter of all pairs in float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1 of at least 1, not 0"),
        ({"k2": -1}, "k2 of at least 1, not -1"),
        ({"weight": 1.5}, r"weight \(lambda\) .* in 0 .. 1, not 1.5"),
        ({"weight": float("nan")}, r"in 0 .. 1, not nan"),
        ({"variant": "contrast"}, "did you mean 'cluster_contrast'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        k_reciprocal(**settings)
    with pytest.raises(ConfigError, match=message):
        rerank_distances(*case_matrices(), **settings)


def test_an_unknown_distance() -> None:
    with pytest.raises(ConfigError, match="unknown distance 'cosin'; did you mean 'cosine'"):
        k_reciprocal(distance="cosin")  # type: ignore[arg-type]


def test_matrices_that_are_no_distances() -> None:
    across, asked, offered = (np.array(part) for part in case_matrices())
    with pytest.raises(DataError, match=r"among gallery have shape \(2, 2\), but \(2, 8\)"):
        rerank_distances(across, asked, asked)
    with pytest.raises(DataError, match=r"among queries have shape \(8, 8\)"):
        rerank_distances(across, offered, offered)
    with pytest.raises(DataError, match=r"must be Q x G, not \(0,\)"):
        rerank_distances([], asked, offered)
    with pytest.raises(DataError, match="2 of 100 distances are negative, NaN or infinite"):
        rerank_distances(np.where(across == across.max(), np.nan, across), asked, offered)
    with pytest.raises(DataError, match="an image has a distance to itself"):
        rerank_distances(across, 1 - asked / 9, 1 - offered / 9)
    with pytest.raises(DataError, match="among queries or gallery are not symmetric"):
        rerank_distances(across, asked, np.triu(offered))


def test_re_ranking_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys\n"
        "from reid_retrieval import clustering, distances, reranking\n"
        "assert not {'scipy', 'sklearn', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
