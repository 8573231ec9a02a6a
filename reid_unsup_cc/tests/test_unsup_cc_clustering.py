"""Pseudo-identities: worked clusters, what guards against too few, and their quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_core import DataError
from reid_retrieval.clustering import dbscan, with_singletons
from reid_retrieval.distances import jaccard_distances
from reid_retrieval.pseudo_identities import PseudoIdentities
from reid_unsup_cc.clustering import find_clusters, whitened
from reid_unsup_cc.quality import Truth, agreement, describe, recall
from reid_unsup_cc.settings import ClusteringSettings

DEGREES = (0, 4, 9, 15, 90, 95, 101, 108, 200, 203, 207, 212, 300)
BLOCKS = [0] * 4 + [1] * 4 + [2] * 4
GRID = [round(0.05 * k, 2) for k in range(1, 20)]
"""Values of eps that are tried where the wanted one gives too few clusters."""


def circle() -> NDArray[np.float32]:
    angles = np.deg2rad(DEGREES)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def found(
    features: NDArray[np.float32], least: int = 2, said: list[str] | None = None, **settings: Any
) -> PseudoIdentities:
    wanted = ClusteringSettings(**{"k1": 4, "k2": 2, **settings})
    return find_clusters(features, wanted, least, (said if said is not None else []).append)[1]


@pytest.mark.parametrize("eps", [0.2, 0.3, 0.4, 0.5, 0.6])
def test_worked_clusters(eps: float) -> None:
    said: list[str] = []
    clusters = found(circle(), said=said, eps=eps)
    assert clusters.labels.tolist() == [*BLOCKS, -1]
    assert (clusters.eps, said) == (eps, [])


def test_at_two_thirds_the_last_one_joins() -> None:
    assert found(circle(), eps=0.7).labels.tolist() == [*BLOCKS, 0]


def test_outliers_can_be_clusters_of_their_own() -> None:
    settings = ClusteringSettings(k1=4, k2=2, outliers="singletons")
    identities, clusters = find_clusters(circle(), settings, 2)
    assert identities.tolist() == [*BLOCKS, 3]
    assert clusters.labels.tolist() == [*BLOCKS, -1]
    assert describe(clusters, 0, None).clusters == 3, "reports are of what was found"
    assert with_singletons(np.array([-1, 0, -1, 0])).tolist() == [1, 0, 2, 0]


def dense_jaccard(unit: NDArray[np.float64], k1: int, k2: int, columns: int) -> NDArray[np.float64]:
    """The baseline's recipe with so many columns of nearest images, the image itself included."""
    cosines = unit @ unit.T
    ranked = np.argsort(-cosines, axis=1, kind="stable")

    def mutual(length: int) -> list[set[int]]:
        near = [set(row[:length].tolist()) for row in ranked]
        return [{j for j in near[i] if i in near[j]} for i in range(len(near))]

    whole, half = mutual(columns), mutual(round(k1 / 2) + 1)
    weights = np.zeros_like(cosines)
    for i, own in enumerate(whole):
        expanded = set(own)
        for j in own:
            if len(half[j] & own) > 2 / 3 * len(half[j]):
                expanded |= half[j]
        members = sorted(expanded)
        share = np.exp(-(2 - 2 * cosines[i, members]))
        weights[i, members] = share / share.sum()
    weights = weights[ranked[:, :k2]].mean(1)
    shared = np.minimum(weights[:, None], weights[None]).sum(2)
    return np.clip(1 - shared / (2 - shared), 0, None)


def test_neighbours_are_k1_columns_with_the_image_itself() -> None:
    unit = np.random.default_rng(0).normal(size=(300, 64))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    ours = jaccard_distances(unit, 30, 6)
    dense = np.ones(ours.shape)
    dense[np.repeat(np.arange(300), np.diff(ours.indptr)), ours.indices] = ours.data
    columns, one_more = (dense_jaccard(unit, 30, 6, length) for length in (30, 31))
    assert np.abs(dense - columns).max() < 1e-5
    # A column more hardly matters, but it is another distance.
    assert 0.005 < np.abs(columns - one_more).max() < 0.04
    assert dbscan(ours, 0.4, 4).max() == -1


def people(count: int, images: int = 6, width: int = 32) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(count, width)).repeat(images, axis=0)
    rows = centres + 0.05 * rng.normal(size=centres.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scattered(count: int) -> NDArray[np.float32]:
    """Return directions without two of them alike."""
    rows = np.random.default_rng(0).normal(size=(count, count))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_fewer_clusters_than_a_batch_needs() -> None:
    features = people(5)
    words = (
        r"finds 5 clusters, and a batch needs 8 identities; raise -s unsup_cc.clustering.eps, lower"
        r" -s unsup_cc.clustering.min_samples, bring -s unsup_cc.clustering.k1 nearer to the images"
    )
    with pytest.raises(DataError, match=words):
        found(features, 8, k1=6, stuck="stop")
    with pytest.raises(DataError, match=r"needs 8 identities, nor does any other eps give enough"):
        found(features, 8, k1=6)


def test_all_outliers() -> None:
    with pytest.raises(DataError, match=r"leaves out all 40 images: no cluster; raise -s"):
        found(scattered(40), eps=0.05, k1=8, stuck="stop")
    said: list[str] = []
    clusters = found(scattered(40), said=said, eps=0.05, k1=8, min_samples=3)
    assert clusters.labels.max() >= 1
    distances = jaccard_distances(scattered(40), 8, 2)
    assert clusters.eps == next(e for e in GRID[1:] if dbscan(distances, e, 3).max() >= 1)
    assert "leaves out all 40 images" in said[0]
    assert f"taking eps = {clusters.eps:.2f}" in said[0]


def test_a_single_cluster() -> None:
    features = people(4)
    close = {"eps": 1.0, "k1": 23, "min_samples": 2}
    with pytest.raises(DataError, match=r"puts 24 of 24 images into a single cluster; lower -s"):
        found(features, **close, stuck="stop")
    said: list[str] = []
    clusters = found(features, said=said, **close)
    assert clusters.labels.max() >= 1
    distances = jaccard_distances(features, 23, 2)
    nearest = next(e for e in GRID[::-1] if dbscan(distances, e, 2).max() >= 1)
    assert clusters.eps == nearest
    assert found(features, 1, **close).eps == nearest, "whatever a batch needs, one is too few"
    assert "into a single cluster; taking eps" in said[0]


def test_the_message_names_the_plugin_s_own_section() -> None:
    settings = ClusteringSettings(k1=6, stuck="stop")
    with pytest.raises(DataError, match=r"-s other\.clustering\.eps"):
        find_clusters(people(5), settings, 8, section="other.clustering")


def test_quality_worked_by_hand() -> None:
    labels, truth = np.array([0, 0, 0, 1, 1, -1]), np.array([5, 5, 6, 6, 6, 6])
    found = agreement(labels, truth)
    assert found.purity == pytest.approx(4 / 5)
    # Two of ten pairs agree, four are of one person, four in one cluster.
    assert found.ari == pytest.approx((2 - 1.6) / (4 - 1.6))
    # With the outlier alone: two of fifteen; seven, four.
    assert found.ari_all == pytest.approx((2 - 28 / 15) / (5.5 - 28 / 15))
    each = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    both = -(0.8 * np.log(0.4) + 0.2 * np.log(0.2))
    assert found.nmi == pytest.approx((2 * each - both) / each)
    perfect = agreement(np.array([1, 1, 0, 0]), np.array([0, 0, 7, 7]))
    assert (perfect.nmi, perfect.ari, perfect.ari_all, perfect.purity) == (1, 1, 1, 1)
    one = agreement(np.zeros(3, np.int64), np.zeros(3, np.int64))
    assert (one.nmi, one.ari) == (1, 1)


def columns(*values: list[int]) -> Truth:
    return Truth(*(np.array(column) for column in values))


def test_pairs_found_worked_by_hand() -> None:
    people = [5, 5, 5, 5, 5, 6, 6]
    cameras = [0, 0, 1, 1, 2, 0, 1]
    clothes = [1, 1, 1, 1, 2, 3, 3]
    # Person 5 has 4 pairs in the same clothes at two cameras and 4 in other clothes, person 6 one.
    labels = np.array([0, 0, 0, -1, 0, 1, 1])
    found = recall(labels, columns(people, cameras, clothes))
    assert found.same_clothes == pytest.approx((2 + 1) / 5)
    assert found.other_clothes == pytest.approx(3 / 4)
    assert found.cameras == pytest.approx((3 + 2) / 2)
    alone = recall(np.array([0, 0, 1, 1, 2, 3, 4]), columns(people, cameras, clothes))
    assert (alone.cameras, alone.same_clothes, alone.other_clothes) == (1, 0, 0)
    # Images in no cluster are together with nobody, not with each other.
    some = recall(np.array([0, 0, -1, -1, -1, 1, 1]), columns(people, cameras, clothes))
    assert (some.same_clothes, some.other_clothes) == (pytest.approx(1 / 5), 0)
    # One cluster of everybody holds all pairs.
    every = recall(np.zeros(7, np.int64), columns(people, cameras, clothes))
    assert (every.cameras, every.same_clothes, every.other_clothes) == (3, 1, 1)


def test_pairs_are_counted_where_clothes_are_known() -> None:
    labels = np.array([0, 0, 1, 1])
    unknown = recall(labels, columns([5, 5, 6, 6], [0, 1, 0, 1], [-1, -1, -1, -1]))
    assert (unknown.same_clothes, unknown.other_clothes) == (None, None)
    one = recall(labels, columns([5, 5, 6, 6], [0, 0, 1, 1], [1, 2, 3, 3]))
    assert (one.cameras, one.same_clothes, one.other_clothes) == (1, None, 1)


def test_features_are_whitened_at_each_camera() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    cameras = np.arange(60) % 3
    features[cameras == 1] = 4 * features[cameras == 1] + 7
    made = whitened(features, cameras)
    assert np.linalg.norm(made, axis=1) == pytest.approx(np.ones(60), abs=1e-6)
    for camera in range(3):
        own = features[cameras == camera]
        wanted = (own - own.mean(0)) / own.std(0)
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        assert made[cameras == camera] == pytest.approx(wanted, abs=1e-5)
    # A constant feature says nothing, and neither does a camera's only image.
    alone = whitened(np.ones((3, 2), np.float32), np.array([0, 0, 4]))
    assert (alone == 0).all()


def test_whitened_features_find_people_across_cameras() -> None:
    rng = np.random.default_rng(0)
    people, cameras = np.repeat(np.arange(6), 12), np.tile(np.arange(2), 36)
    who, where = 0.4 * rng.normal(size=(6, 32)), rng.normal(size=(2, 32))
    rows = who[people] + 2 * where[cameras] + 0.2 * rng.normal(size=(72, 32))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    truth = Truth(people, cameras, people)
    plain, white = (
        recall(found(f, k1=12, k2=3).labels, truth) for f in (features, whitened(features, cameras))
    )
    assert (plain.cameras, plain.same_clothes) == (1, 0)
    assert (white.cameras, white.same_clothes) == (2, 1)


def test_an_epoch_in_one_line() -> None:
    labels = np.array([0, 0, 0, 1, 1, -1])
    clusters = PseudoIdentities(labels, 0.4, 2)
    report = describe(clusters, 2, None)
    assert report.line() == (
        "epoch 3: 2 clusters of 2 to 3 images (median 2.5), 1 of 6 images in none"
    )
    known = describe(
        clusters, 2, columns([5, 5, 6, 6, 6, 6], [0, 1, 1, 0, 1, 1], [1, 1, 2, 2, 3, 3])
    )
    assert known.line().endswith(
        "purity 0.800; 2.00 cameras per cluster; of a person's pairs it holds 50.0 % in the same "
        "clothes at two cameras and 25.0 % in other clothes"
    )
    assert known.agreement.purity == pytest.approx(0.8)
    assert known.recall.same_clothes == 0.5
    unknown = describe(clusters, 2, columns([5, 5, 6, 6, 6, 6], [0] * 6, [-1] * 6))
    assert unknown.line().endswith("purity 0.800; 1.00 cameras per cluster")
