"""Enough clusters for a batch: which eps is taken, what is said, and what helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_retrieval import cluster, pseudo_identities
from reid_retrieval.pseudo_identities import advice, cluster_at_least


def people(count: int, spread: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(count, 32)).repeat(6, axis=0)
    return centres + spread * rng.normal(size=centres.shape)


def test_enough_clusters_are_those_of_cluster() -> None:
    features = people(8, 1.2)
    found = cluster_at_least(features, 2, 0.5, k1=8, k2=2)
    assert found.labels.tolist() == cluster(features, 0.5, k1=8, k2=2).tolist()
    assert found.labels.tolist() != cluster(features, 0.5, 2, k1=8, k2=2).tolist()
    assert found.labels.tolist() != cluster(features, 0.5, k1=8, k2=1).tolist()
    assert (found.count, found.eps, found.trouble) == (found.labels.max() + 1, 0.5, "")
    assert found.enough


def test_the_nearest_eps_that_gives_enough_is_taken_and_said() -> None:
    features = people(8, 0.8)
    wanted = 0.05
    sizes: dict[str, Any] = {"k1": 8, "k2": 2}
    counts = {step: int(cluster(features, step / 20, **sizes).max()) + 1 for step in range(1, 20)}
    least = max(counts.values())
    assert counts[1] < least
    first = min(step for step, count in counts.items() if count >= least)
    found = cluster_at_least(features, least, wanted, **sizes)
    assert found.eps == pytest.approx(first / 20)
    assert found.enough
    assert found.trouble.endswith(f"; taking eps = {first / 20:.2f}, with {least}")
    left = cluster_at_least(features, least, wanted, **sizes, adapt=False)
    assert (left.enough, left.eps, left.count) == (False, wanted, counts[1])
    more = cluster_at_least(features, least + 1, wanted, **sizes)
    assert more.trouble.endswith(", nor does any other eps give enough")
    assert (more.enough, more.eps) == (False, wanted)


@pytest.mark.parametrize("wanted", [0.4, 0.5, 0.55, 0.65])
def test_of_two_eps_as_near_the_smaller_is_tried_first(
    wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def nothing(distances: object, eps: float, min_samples: int) -> NDArray[np.int64]:
        tried.append(eps)
        return np.full(6, -1)

    monkeypatch.setattr(pseudo_identities, "dbscan", nothing)
    assert not cluster_at_least(people(1, 0.5), 2, wanted, k1=3, k2=1).enough
    steps = (0, -1, 1, -2, 2, -3, 3)
    assert tried[:7] == pytest.approx([wanted + 0.05 * step for step in steps])


def test_a_single_cluster_is_never_enough() -> None:
    everything = cluster_at_least(np.ones((6, 4)), 1, 0.5)
    assert not everything.enough, "there is nothing to contrast"
    assert "puts 6 of 6 images into a single cluster" in everything.trouble


def test_advice_goes_by_what_is_wrong() -> None:
    assert advice(np.array([0, 0, 0, -1])).startswith("lower eps")
    assert advice(np.array([0, 0, -1, -1, -1]), "-s x.").startswith("raise -s x.eps")
    assert advice(np.full(3, -1)).startswith("raise eps")
    plain, told = advice(np.full(3, -1)), advice(np.full(3, -1), batch="-p", start="--start")
    assert plain.endswith(" identities per batch, or start from better features")
    assert told == plain.replace(" batch,", " batch (-p),") + " (--start)"
