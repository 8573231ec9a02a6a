"""DBSCAN on sparse distances: hand-made cases, and scikit-learn as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import coo_array, csr_array, csr_matrix
from sklearn.cluster import DBSCAN
from sklearn.neighbors import sort_graph_by_row_values

from reid_retrieval.clustering import TOLERANCE, dbscan
from reid_retrieval.errors import ConfigError, DataError


def sparse(pairs: dict[tuple[int, int], float], count: int) -> csr_array:
    """Return symmetric distances with exactly the entries that are named, zeros included."""
    entries = {**pairs, **{(j, i): value for (i, j), value in pairs.items()}}
    rows, columns = zip(*entries, strict=True) if entries else ((), ())
    values = np.array(list(entries.values()), float)
    return csr_array(coo_array((values, (rows, columns)), shape=(count, count)))


def line(*places: float, reach: float = 2.0) -> csr_array:
    """Return the distances of points on a line, as far as they are within reach."""
    pairs = {
        (i, j): abs(a - b)
        for i, a in enumerate(places)
        for j, b in enumerate(places)
        if i <= j and abs(a - b) <= reach
    }
    return sparse(pairs, len(places))


def test_two_clusters_and_an_outlier() -> None:
    distances = line(5.0, 5.1, 5.2, 0.0, 0.1, 0.2, 9.0)
    # Numbered by their first image, not by place.
    assert dbscan(distances, 0.15, 2).tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert dbscan(distances, 0.15, 3).tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert dbscan(distances, 0.15, 4).tolist() == [-1] * 7
    assert dbscan(distances, 0.05, 1).tolist() == list(range(7))
    assert dbscan(distances, 0.15, 2).dtype == np.int64


def test_a_border_image_joins_the_smallest_cluster_and_links_none() -> None:
    # 0.5 is within 0.4 of one core image on either side, and is no core image itself.
    places = (1.2, 0.9, 1.1, 1.0, 0.5, 0.1, 0.0, -0.1, -0.2)
    labels = dbscan(line(*places), 0.4, 4)
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    flipped = dbscan(line(*places[::-1]), 0.4, 4)
    assert flipped.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_stored_zeros_are_close_and_missing_pairs_are_far() -> None:
    pairs = {(i, j): 0.0 for i in range(4) for j in range(i, 4)}
    assert dbscan(sparse(pairs, 5), 0.4, 4).tolist() == [0, 0, 0, 0, -1]
    # Without its zeros the matrix says that all are far apart.
    assert dbscan(csr_array((5, 5)), 0.4, 4).tolist() == [-1] * 5


def test_the_diagonal_may_be_missing() -> None:
    pairs = {(0, 1): 0.1, (1, 2): 0.1}
    with_it = pairs | {(i, i): 0.0 for i in range(3)}
    assert dbscan(sparse(pairs, 3), 0.2, 3).tolist() == [0, 0, 0]
    assert dbscan(sparse(with_it, 3), 0.2, 3).tolist() == [0, 0, 0]


def test_distances_at_eps_are_within_it_up_to_the_tolerance() -> None:
    above = sparse({(0, 1): 0.5 + TOLERANCE / 2}, 2)
    assert dbscan(above, 0.5, 2).tolist() == [0, 0]
    assert dbscan(above, 0.5, 2, tolerance=0).tolist() == [-1, -1]
    assert dbscan(sparse({(0, 1): 0.5 + 3 * TOLERANCE}, 2), 0.5, 2).tolist() == [-1, -1]
    # A threshold that float32 rounds down keeps distances that are exactly it.
    assert dbscan(sparse({(0, 1): float(np.float32(0.6))}, 2), 0.6, 2).tolist() == [0, 0]


def test_no_images_are_no_clusters() -> None:
    assert dbscan(csr_array((0, 0)), 0.5, 1).tolist() == []


def test_other_forms_of_the_same_matrix() -> None:
    distances = line(0.0, 0.1, 0.2, 5.0, 5.1, 7.0)
    expected = dbscan(distances, 0.15, 2).tolist()
    assert expected == [0, 0, 0, 1, 1, -1]
    unsorted = distances[:, ::-1][:, ::-1]
    before = unsorted.indices.copy()
    for form in (csr_matrix(distances), distances.tocsc(), distances.tocoo(), unsorted):
        assert dbscan(form, 0.15, 2).tolist() == expected
    assert unsorted.indices.tolist() == before.tolist()


@st.composite
def graphs(draw: st.DrawFn) -> csr_array:
    count = draw(st.integers(1, 14))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    chosen = draw(st.lists(pairs.map(sorted).map(tuple), max_size=40, unique=True))
    values = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    pairs_off = {p: draw(values) for p in chosen if p[0] != p[1]}
    # scikit-learn reads the diagonal as zero whatever it holds.
    return sparse(pairs_off | {(i, i): 0.0 for i in range(count)}, count)


def scikit_learn_s(graph: csr_array, eps: float, min_samples: int) -> list[int]:
    oracle = DBSCAN(eps=eps + TOLERANCE, min_samples=min_samples, metric="precomputed")
    graph = sort_graph_by_row_values(graph, copy=True, warn_when_not_sorted=False)
    labels: list[int] = oracle.fit_predict(graph).tolist()
    return labels


@settings(max_examples=200, deadline=None)
@given(graphs(), st.sampled_from([0.1, 0.2, 0.3, 0.45]), st.integers(1, 5))
def test_labels_are_those_of_scikit_learn(graph: csr_array, eps: float, min_samples: int) -> None:
    assert dbscan(graph, eps, min_samples).tolist() == scikit_learn_s(graph, eps, min_samples)


def test_labels_of_many_points_are_those_of_scikit_learn() -> None:
    points = np.random.default_rng(0).random((800, 2))
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    rows, columns = np.nonzero(squared < 0.01)
    values = np.sqrt(squared[rows, columns])
    distances = csr_array(coo_array((values, (rows, columns)), shape=(800, 800)))
    for eps, min_samples in ((0.02, 3), (0.03, 4), (0.05, 6), (0.1, 30)):
        labels = dbscan(distances, eps, min_samples)
        assert labels.tolist() == scikit_learn_s(distances, eps, min_samples)
        assert -1 in labels
        assert labels.max() > 0


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.zeros((3, 3)), "needs a sparse matrix of distances, not ndarray; distances of zero"),
        (csr_array((2, 3)), r"shape \(2, 3\) are not square"),
        (sparse({(0, 1): -0.1, (1, 2): 0.1}, 3), "2 of 4 distances are negative or NaN"),
        (sparse({(0, 1): np.nan}, 2), "2 of 2 distances are negative or NaN"),
        (csr_array(([0.1], ([0], [1])), shape=(2, 2)), "not symmetric: .* pass the larger"),
        (csr_array(([0.1, 0.9], ([0, 1], [1, 0])), shape=(2, 2)), "not symmetric"),
    ],
)
def test_what_is_no_matrix_of_distances(distances: csr_array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dbscan(distances, 0.5, 2)


@pytest.mark.parametrize("eps", [-0.1, float("nan")])
def test_settings_out_of_range(eps: float) -> None:
    with pytest.raises(ConfigError, match=f"eps of at least 0, not {eps}"):
        dbscan(line(0.0, 1.0), eps)
    with pytest.raises(ConfigError, match="min_samples of at least 1, not 0"):
        dbscan(line(0.0, 1.0), 0.5, 0)
