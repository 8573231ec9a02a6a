"""Sparse Jaccard distances: worked values, and the dense reference in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from dense_reranking import dense_jaccard, dense_squared
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reid_retrieval import reciprocal
from reid_retrieval.clustering import dbscan
from reid_retrieval.distances import jaccard_distances
from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.reciprocal import Neighbourhood, Variant, own_first

VARIANTS: tuple[Variant, ...] = ("zhong", "cluster_contrast")
DEGREES = (0, 4, 9, 15, 90, 95, 101, 108, 200, 203, 207, 212, 300)


def directions(degrees: tuple[int, ...] = DEGREES) -> NDArray[np.float64]:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def people(count: int, seed: int = 0, width: int = 16) -> NDArray[np.float32]:
    """Return features of identities with six images each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(-(-count // 6), width)).repeat(6, axis=0)[:count]
    return (centres + 0.5 * rng.normal(size=(count, width))).astype(np.float32)


def filled(distances: csr_array) -> NDArray[np.float64]:
    """Return the dense matrix: 1 where there is no entry."""
    dense = np.ones(distances.shape)
    rows = np.repeat(np.arange(len(dense)), np.diff(distances.indptr))
    dense[rows, distances.indices] = distances.data
    return dense


def test_worked_distances_on_a_circle() -> None:
    found = filled(jaccard_distances(directions(), k1=4, k2=2))
    for pair, value in {
        (0, 1): 0.0,
        (0, 2): 0.0135,
        (0, 3): 0.0298,
        (2, 3): 0.0165,
        (4, 6): 0.0196,
        (4, 7): 0.0424,
        (8, 10): 0.0084,
        (8, 11): 0.0192,
    }.items():
        assert found[pair] == pytest.approx(value, abs=5e-5), pair
    assert found[12, :4].tolist() == pytest.approx([2 / 3] * 4, abs=1e-6)
    assert found[12, 4:12].tolist() == [1.0] * 8
    assert (found[:4, 4:12] == 1).all()
    assert (found[4:8, 8:12] == 1).all()
    assert (found == found.T).all()
    assert (found.diagonal() == 0).all()


def test_worked_clusters_on_a_circle() -> None:
    distances = jaccard_distances(directions(), k1=4, k2=2)
    blocks = [0] * 4 + [1] * 4 + [2] * 4
    for eps in (0.2, 0.3, 0.4, 0.5, 0.6):
        assert dbscan(distances, eps, 4).tolist() == [*blocks, -1]
    assert dbscan(distances, 0.7, 4).tolist() == [*blocks, 0]
    # 2/3 is a tie by structure: it counts as within, whatever rounding made of it.
    assert dbscan(distances, 2 / 3, 4).tolist() == [*blocks, 0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("count", "k1", "k2"),
    [
        (300, 20, 6),
        (120, 30, 6),
        (120, 7, 3),  # round(3.5) is even
        (60, 1, 1),
        (60, 2, 9),  # more averaged than mutual
        (42, 60, 70),  # more than there are
        (1, 4, 2),
    ],
)
def test_distances_are_those_of_the_dense_reference(
    variant: Variant, count: int, k1: int, k2: int
) -> None:
    features = people(count)
    found = jaccard_distances(features, k1, k2, variant)
    expected = dense_jaccard(dense_squared(features), k1, k2, variant)
    assert np.abs(filled(found) - expected).max() < 1e-6
    assert found.dtype == np.float32
    assert found.has_sorted_indices
    if count == 300:
        assert 0 < found.nnz < count**2


@pytest.mark.parametrize("variant", VARIANTS)
def test_raw_features_can_be_compared_as_they_are(variant: Variant) -> None:
    features = people(90) * np.random.default_rng(1).uniform(0.5, 2, size=(90, 1))
    found = jaccard_distances(features, 10, 4, variant, distance="euclidean")
    expected = dense_jaccard(dense_squared(np.float32(features), "euclidean"), 10, 4, variant)
    assert np.abs(filled(found) - expected).max() < 1e-6
    assert np.abs(filled(jaccard_distances(features, 10, 4, variant)) - expected).max() > 0.01


@st.composite
def lattices(draw: st.DrawFn) -> NDArray[np.float32]:
    """Points with whole coordinates: many are equally far, and many are the same."""
    count = draw(st.integers(1, 24))
    coordinates = st.integers(0, 2)
    rows = st.tuples(coordinates, coordinates, coordinates)
    return np.array(draw(st.lists(rows, min_size=count, max_size=count)), np.float32)


@settings(max_examples=100, deadline=None)
@given(lattices(), st.integers(1, 12), st.integers(1, 6), st.sampled_from(VARIANTS))
def test_ties_and_copies_go_by_index(
    features: NDArray[np.float32], k1: int, k2: int, variant: Variant
) -> None:
    found = jaccard_distances(features, k1, k2, variant, distance="euclidean")
    expected = dense_jaccard(dense_squared(features, "euclidean"), k1, k2, variant)
    assert np.abs(filled(found) - expected).max() < 1e-6


def test_copies_are_at_distance_zero_and_cluster() -> None:
    features = np.repeat(directions((0, 90, 180, 270)), 4, axis=0)
    for variant in VARIANTS:
        distances = jaccard_distances(features, k1=4, k2=2, variant=variant)
        same = np.arange(16)[:, None] // 4 == np.arange(16) // 4
        dense = filled(distances)
        assert np.abs(dense[same]).max() < 1e-6
        stored = csr_array((np.ones(distances.nnz), distances.indices, distances.indptr))
        assert stored.toarray()[same].all()
        expected = np.repeat(np.arange(4), 4).tolist()
        assert dbscan(distances, 0.1, 4).tolist() == expected


def test_more_copies_than_neighbours() -> None:
    # Every copy's list is full of others; the image itself must be in it all the same.
    features = np.concatenate([np.ones((12, 3)), -np.eye(3)])
    for variant in VARIANTS:
        found = filled(jaccard_distances(features, 3, 2, variant))
        assert np.isfinite(found).all()
        assert (found.diagonal() == 0).all()
        # Rounding aside, an image without a place in any other list has itself alone.
        assert found[13, :12].tolist() == [1.0] * 12


def test_images_that_are_all_alike() -> None:
    features = np.random.default_rng(0).normal(size=(1, 64)).repeat(7, axis=0)
    for variant in VARIANTS:
        for distance in ("cosine", "euclidean"):
            found = filled(jaccard_distances(features, 10, 2, variant, distance=distance))  # type: ignore[arg-type]
            assert np.abs(found).max() < 1e-6


def test_a_feature_of_norm_zero_is_far_from_all() -> None:
    features = directions()
    features[12] = 0
    found = filled(jaccard_distances(features, k1=4, k2=1))
    assert found[12].tolist() == [1.0] * 12 + [0.0]
    assert np.abs(found - filled(jaccard_distances(features, 4, 1)).T).max() == 0


def test_a_limit_leaves_out_what_is_beyond_it() -> None:
    features = people(240)
    everything = jaccard_distances(features)
    dense = filled(everything)
    for limit in (0.0, 0.4, 0.6):
        near = jaccard_distances(features, at_most=limit)
        expected = np.where(dense <= limit + 1e-6, dense, 1)
        assert filled(near).tolist() == expected.tolist()
        assert near.nnz < everything.nnz
        for eps in (limit / 2, limit):
            assert dbscan(near, eps, 4).tolist() == dbscan(everything, eps, 4).tolist()


@pytest.mark.parametrize("variant", ["cluster_contrast", "zhong"])
def test_screening_in_bfloat16_finds_the_same(variant: Variant) -> None:
    features = people(200)
    plain = jaccard_distances(features, variant=variant)
    screened = jaccard_distances(features, variant=variant, precision="bf16")
    assert screened.indices.tolist() == plain.indices.tolist()
    # The least similarity of a row is another product of the same pair.
    assert screened.data == pytest.approx(plain.data, abs=1e-6)
    if variant == "cluster_contrast":
        assert screened.data.tolist() == plain.data.tolist()


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    features = people(150)
    whole = jaccard_distances(features, 12, 4, "zhong")
    monkeypatch.setattr(reciprocal, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(reciprocal, "_CELLS_AT_ONCE", 1000)
    monkeypatch.setattr(reciprocal, "_TERMS_AT_ONCE", 50)
    pieces = jaccard_distances(features, 12, 4, "zhong")
    assert pieces.data.tolist() == whole.data.tolist()
    assert pieces.indices.tolist() == whole.indices.tolist()
    assert pieces.indptr.tolist() == whole.indptr.tolist()


def test_features_are_left_alone_and_may_come_in_any_form() -> None:
    features = people(60)
    before = features.copy()
    expected = jaccard_distances(features, 8, 3)
    assert (features == before).all()
    for form in (features.astype(np.float64), np.asfortranarray(features), features[::-1][::-1]):
        found = jaccard_distances(form, 8, 3)
        assert found.data.tolist() == expected.data.tolist()


def test_memory_grows_with_images_times_neighbours() -> None:
    features = people(4000, width=8)
    jaccard_distances(features[:50])  # imports and code are not part of it
    tracemalloc.start()
    try:
        found = jaccard_distances(features, k1=10, k2=3, at_most=0.6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4000**2, "bytes: a quarter of one float32 matrix of all pairs"
    assert found.nnz < 40 * 4000


@pytest.mark.parametrize("place", range(6))
def test_the_image_itself_comes_first(place: int) -> None:
    lists = np.array([[3, 4, 5, 6, 7], [0, 1, 2, 3, 4]])
    if place < 5:
        lists[0, place] = 0
    expected = [0, *(j for j in lists[0].tolist() if j)][:5]
    assert own_first(lists).tolist() == [expected, [1, 0, 2, 3, 4]]


def test_neighbourhoods_of_the_variants() -> None:
    zhong, contrast = Neighbourhood("zhong", 20, 6), Neighbourhood("cluster_contrast", 30, 6)
    assert (zhong.full, zhong.half, zhong.wanted) == (21, 11, 21)
    assert (contrast.full, contrast.half, contrast.wanted) == (30, 16, 30)
    assert Neighbourhood("zhong", 3, 9).wanted == 9
    assert Neighbourhood("cluster_contrast", 3, 9).wanted == 3
    assert Neighbourhood("cluster_contrast", 1, 1).half == 1
    assert zhong.text == "zhong k1=20 k2=6"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1 of at least 1, not 0"),
        ({"k2": 2.5}, r"a whole k2, not 2\.5"),
        ({"k2": 0}, "k2 of at least 1, not 0"),
        ({"variant": "zong"}, "unknown variant 'zong' .* did you mean 'zhong'"),
        ({"at_most": 1.5}, "at_most cannot be 1.5"),
        ({"at_most": float("nan")}, "at_most cannot be nan"),
        ({"distance": "cosin"}, "unknown distance 'cosin'; did you mean 'cosine'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        jaccard_distances(people(12), **settings)  # type: ignore[arg-type]


def test_features_that_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="there are no features to compare"):
        jaccard_distances(np.ones((0, 4)))
    with pytest.raises(DataError, match=r"N x D, not float64 of shape \(3,\)"):
        jaccard_distances(np.ones(3))
    broken = people(12)
    broken[5, 0] = np.nan
    with pytest.raises(DataError, match=r"image features are not finite: 1 of 12 .* row 5"):
        jaccard_distances(broken)
