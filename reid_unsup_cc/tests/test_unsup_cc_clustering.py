"""Pseudo-identities: worked clusters, what guards against too few, and their quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from reid_core import DataError
from reid_retrieval.clustering import dbscan
from reid_retrieval.distances import jaccard_distances
from reid_unsup_cc.clustering import Clusters, find_clusters, with_singletons
from reid_unsup_cc.quality import agreement, describe
from reid_unsup_cc.settings import ClusteringSettings

DEGREES = (0, 4, 9, 15, 90, 95, 101, 108, 200, 203, 207, 212, 300)
BLOCKS = [0] * 4 + [1] * 4 + [2] * 4


def circle() -> NDArray[np.float32]:
    angles = np.deg2rad(DEGREES)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def found(
    features: NDArray[np.float32], least: int = 2, said: list[str] | None = None, **settings: Any
) -> Clusters:
    wanted = ClusteringSettings(**{"k1": 4, "k2": 2, **settings})
    return find_clusters(features, wanted, least, (said if said is not None else []).append)


@pytest.mark.parametrize("eps", [0.2, 0.3, 0.4, 0.5, 0.6])
def test_worked_clusters(eps: float) -> None:
    said: list[str] = []
    clusters = found(circle(), said=said, eps=eps)
    assert clusters.labels.tolist() == [*BLOCKS, -1]
    assert clusters.found.tolist() == [*BLOCKS, -1]
    assert (clusters.eps, said) == (eps, [])


def test_at_two_thirds_the_last_one_joins() -> None:
    assert found(circle(), eps=0.7).labels.tolist() == [*BLOCKS, 0]


def test_outliers_can_be_clusters_of_their_own() -> None:
    clusters = found(circle(), outliers="singletons")
    assert clusters.labels.tolist() == [*BLOCKS, 3]
    assert clusters.found.tolist() == [*BLOCKS, -1]
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
    with pytest.raises(DataError, match=r"finds 5 clusters, and a batch needs 8 identities;.*eps"):
        found(features, 8, k1=6, stuck="stop")
    with pytest.raises(DataError, match=r"needs 8 identities, nor does any other eps give more"):
        found(features, 8, k1=6)


def test_all_outliers() -> None:
    with pytest.raises(DataError, match=r"leaves out all 40 images: no cluster; raise -s"):
        found(scattered(40), eps=0.05, k1=8, stuck="stop")
    said: list[str] = []
    clusters = found(scattered(40), said=said, eps=0.05, k1=8, min_samples=3)
    assert clusters.labels.max() >= 1
    assert clusters.eps > 0.05
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
    assert clusters.eps < 1
    assert "into a single cluster; taking eps" in said[0]


def test_the_message_names_the_plugin_s_own_section() -> None:
    settings = ClusteringSettings(k1=6, stuck="stop")
    with pytest.raises(DataError, match=r"-s other\.clustering\.eps"):
        find_clusters(people(5), settings, 8, section="other.clustering")


def test_quality_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 12, 300), rng.integers(-1, 9, 300)
    labels[:150] = truth[:150] % 9
    kept = labels >= 0
    measured = agreement(labels, truth)
    assert measured.nmi == pytest.approx(
        metrics.normalized_mutual_info_score(truth[kept], labels[kept])
    )
    assert measured.ari == pytest.approx(metrics.adjusted_rand_score(truth[kept], labels[kept]))
    # Each outlier is a cluster of its own.
    alone = labels.copy()
    alone[~kept] = 100 + np.arange((~kept).sum())
    assert measured.ari_all == pytest.approx(metrics.adjusted_rand_score(truth, alone))


def test_quality_worked_by_hand() -> None:
    labels, truth = np.array([0, 0, 0, 1, 1, -1]), np.array([5, 5, 6, 6, 6, 6])
    assert agreement(labels, truth).purity == pytest.approx(4 / 5)
    perfect = agreement(np.array([1, 1, 0, 0]), np.array([0, 0, 7, 7]))
    assert (perfect.nmi, perfect.ari, perfect.ari_all, perfect.purity) == (1, 1, 1, 1)
    one = agreement(np.zeros(3, np.int64), np.zeros(3, np.int64))
    assert (one.nmi, one.ari) == (1, 1)


def test_an_epoch_in_one_line() -> None:
    labels = np.array([0, 0, 0, 1, 1, -1])
    clusters = Clusters(labels, labels, 0.4)
    report = describe(clusters, 2, None)
    assert report.line() == (
        "epoch 3: 2 clusters of 2 to 3 images (median 2.5), 1 of 6 images in none"
    )
    known = describe(clusters, 2, np.array([5, 5, 6, 6, 6, 6]))
    assert known.line().endswith("purity 0.800")
    assert known.to_json()["agreement"]["purity"] == pytest.approx(0.8)
