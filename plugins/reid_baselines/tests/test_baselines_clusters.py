"""Cluster Contrast and SpCL: conformance, memories and clusters by independent code, settings."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reid_baselines.cluster_contrast import ClusterContrastSettings
from reid_baselines.cluster_memory import ClusterMemory, HybridMemory, info_nce
from reid_baselines.clusters import ClusterSettings, find_clusters
from reid_baselines.spcl import Spcl, SpclSettings, independence_threshold, overlaps, reliable
from reid_core import ConfigError, DataError, Embedded, Embedding
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_retrieval.clustering import with_singletons

# 48 images have few neighbours.
FEW = {"k1": 6, "k2": 2, "min_samples": 2}
CONTRAST: dict[str, dict[str, Any]] = {"plugins": {"cluster_contrast": FEW}}
SPCL: dict[str, dict[str, Any]] = {"plugins": {"spcl": FEW}}

test_cluster_contrast_conforms = conformance_suite("cluster_contrast", CONTRAST)
test_spcl_conforms = conformance_suite("spcl", SPCL)


def vectors(rows: int, seed: int = 0, dim: int = 5) -> torch.Tensor:
    made = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dim)))
    return F.normalize(made.float(), dim=1)


def shown(unit: torch.Tensor) -> Embedded:
    return Embedded(unit, unit, unit)


def test_the_contrast_is_the_log_share_of_ones_own_cluster() -> None:
    cosines = torch.tensor([[0.9, 0.1, -0.2], [0.3, 0.4, 0.0], [1.0, 0.0, 0.0]])
    loss = info_nce(cosines, torch.tensor([0, 2, -1]), 0.5)
    rows = [
        -math.log(math.exp(1.8) / (math.exp(1.8) + math.exp(0.2) + math.exp(-0.4))),
        -math.log(1 / (math.exp(0.6) + math.exp(0.8) + 1)),
    ]
    assert loss.item() == pytest.approx(sum(rows) / 2, rel=1e-6)
    assert info_nce(cosines, torch.tensor([-1, -1, -1]), 0.5).item() == 0


@pytest.mark.parametrize("hard", [False, True])
def test_a_memory_of_clusters_is_the_papers(hard: bool) -> None:
    settings = ClusterContrastSettings(hard=hard, momentum=0.3, temperature=0.1)
    memory = ClusterMemory(Embedding("x/y", "x/z"), 5, settings)
    features, labels = vectors(9), np.array([0, 1, 2, 0, 1, 2, 0, -1, 2])
    memory.begin(labels, features.numpy)
    centres = []
    for cluster in range(3):
        mean = (
            sum(features[i] for i in range(9) if labels[i] == cluster) / (labels == cluster).sum()
        )
        centres.append(mean / mean.norm())
    torch.testing.assert_close(memory.memory, torch.stack(centres))
    seen, batch = vectors(6, 1), torch.tensor([1, 0, 1, -1, 1, 0])
    found = memory(shown(seen), batch)
    expected = [
        -math.log(
            math.exp(float(seen[i] @ centres[c]) / 0.1)
            / sum(math.exp(float(seen[i] @ centre) / 0.1) for centre in centres)
        )
        for i, c in enumerate(batch.tolist())
        if c >= 0
    ]
    assert found.terms["contrast"].item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert torch.equal(found.logits, memory.logits(shown(seen)))
    memory.update(shown(seen), batch)
    before = list(centres)
    for cluster in (0, 1):
        own = [i for i in range(6) if batch[i] == cluster]
        if hard:
            own = [min(own, key=lambda i: float(seen[i] @ before[cluster]))]
        for i in own:
            moved = 0.3 * centres[cluster] + 0.7 * seen[i]
            centres[cluster] = moved / moved.norm()
    torch.testing.assert_close(memory.memory, torch.stack(centres))


def test_a_hybrid_memory_is_the_papers() -> None:
    settings = SpclSettings(momentum=0.4, temperature=0.2)
    memory = HybridMemory(Embedding("x/y", "x/z"), 5, 6, settings)
    features, labels = vectors(6), np.array([0, 0, 1, 2, 1, -1])
    memory.begin(labels, features.numpy)
    centres = torch.stack(
        [(features[0] + features[1]) / 2, (features[2] + features[4]) / 2, features[3]]
    )
    torch.testing.assert_close(memory.clusters(), centres)
    seen, batch = vectors(4, 1), torch.tensor([0, 1, 0, -1])
    loss = memory(shown(seen), batch).terms["contrast"]
    shares = torch.softmax(seen @ centres.T / 0.2, 1)
    expected = -(shares[0, 0].log() + shares[1, 1].log() + shares[2, 0].log()) / 3
    torch.testing.assert_close(loss, expected)
    memory.rows = torch.tensor([1, 4, 1, 5])
    memory.update(shown(seen), batch)
    kept = features.clone()
    kept[1] = F.normalize(0.4 * features[1] + 0.6 * (seen[0] + seen[2]) / 2, dim=0)
    kept[4] = F.normalize(0.4 * features[4] + 0.6 * seen[1], dim=0)
    torch.testing.assert_close(memory.memory, kept)
    memory.begin(np.array([0, 1, 1, 0, 0, 1]), lambda: pytest.fail("it is filled once"))
    torch.testing.assert_close(memory.clusters()[0], (kept[0] + kept[3] + kept[4]) / 3)


def test_an_image_that_is_alone_counts_once_however_often_it_is_shown() -> None:
    memory = HybridMemory(Embedding("x/y", "x/z"), 5, 5, SpclSettings(temperature=0.2))
    features = vectors(5)
    memory.begin(np.array([0, 0, 1, 2, 2]), features.numpy)
    seen = vectors(3, 1)
    once = memory(shown(seen), torch.tensor([0, 1, 2])).terms["contrast"]
    rows, places = [0, 1, 1, 1, 2], torch.tensor([0, 1, 1, 1, 2])
    often = memory(shown(seen[rows]), places).terms["contrast"]
    torch.testing.assert_close(often, once)
    several = memory(shown(seen[[0, 0, 1, 2]]), torch.tensor([0, 0, 1, 2])).terms["contrast"]
    assert not torch.isclose(several, once), "images of a cluster are all counted"


def test_reliable_clusters_are_the_papers() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    loose = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])  # 0 and 1 would be one
    tight = np.array([0, 0, 1, 2, 2, 3, 3, 3, 4])  # the third image would leave

    def by_hand(others: np.ndarray) -> list[float]:
        def mates(of: np.ndarray, image: int) -> set[int]:
            return {other for other in range(9) if of[other] == of[image]}

        members = [(mates(labels, image), mates(others, image)) for image in range(9)]
        return [len(a & b) / len(a | b) for a, b in members]

    independence, compactness = overlaps(labels, loose), overlaps(labels, tight)
    assert independence.tolist() == pytest.approx(by_hand(loose))
    assert compactness.tolist() == pytest.approx(by_hand(tight))
    assert independence_threshold(labels, independence, 0.5) == pytest.approx(2 / 5)
    assert independence_threshold(labels, independence, 0.3) == pytest.approx(3 / 5)
    # Cluster 1 is not independent enough, image 2 not compact enough.
    found = reliable(labels, independence, compactness, threshold=0.5)
    assert found.tolist() == [0, 0, 3, 4, 5, 1, 1, 1, 2]


def test_outliers_become_clusters_of_their_own() -> None:
    assert with_singletons(np.array([0, -1, 1, -1])).tolist() == [0, 2, 1, 3]


def features_of_people(people: int, images: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, 16)).repeat(images, 0)
    made = centres + spread * rng.normal(size=centres.shape)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def test_people_are_found_and_another_eps_is_taken_where_it_must() -> None:
    said: list[str] = []
    settings = ClusterSettings(k1=8, k2=2, min_samples=4)
    features = features_of_people(6, 8, 0.05)
    labels = find_clusters(features, settings, 6, said.append, "x")
    assert said == []
    assert all(len(set(labels[8 * n : 8 * n + 8])) == 1 for n in range(6))
    assert len(set(labels)) == 6
    strict = ClusterSettings(k1=8, k2=2, min_samples=4, eps=0.01)
    labels = find_clusters(features_of_people(6, 8, 0.2), strict, 6, said.append, "x")
    assert len(set(labels) - {-1}) >= 6
    assert re.search(r"^x: clustering at eps = 0\.01 .*; taking eps = 0\.05, with 6$", said[0])
    with pytest.raises(DataError, match=r"a batch needs 7 .*lower -s x\.min_samples"):
        find_clusters(features, settings, 7, said.append, "x")


def test_one_cluster_of_everything_fills_no_batch_and_spcl_says_so() -> None:
    alike = np.ones((12, 4), np.float32) / 2 + np.random.default_rng(0).normal(0, 1e-3, (12, 4))
    data = SimpleNamespace(batch_size=8, instances=4)
    labels = SimpleNamespace(
        features=lambda: alike.astype(np.float32),
        run=SimpleNamespace(config=SimpleNamespace(data=data), say=print),
    )
    plugin = Spcl("spcl")
    plugin.settings = SpclSettings(k1=6, k2=2, min_samples=2, eps=0.99)
    with pytest.raises(
        DataError,
        match=r"fewer identities than the 2 .* single images: 1 in all; lower -s spcl\.eps",
    ):
        plugin._cluster(labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cluster_contrast", "spcl"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sampler": "random"}, "data.sampler = 'random'"),
        ({"instances": 8}, "batch of one cluster"),
    ],
)
def test_batches_that_cannot_be_contrasted_are_refused(
    name: str, data: dict[str, Any], words: str, reid_cache: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_assembly((name,), {"plugins": {name: FEW}}, {"data": data}, cache=reid_cache)


def test_the_memory_of_images_and_the_threshold_outlive_a_run_that_stops(
    reid_cache: Path, tmp_path: Path
) -> None:
    def trainer() -> Recorder:
        return Recorder(tiny_assembly(("spcl",), SPCL, cache=reid_cache), tmp_path / "run.pt")

    first = trainer()
    first.train_epoch()
    first.save()
    second = trainer()
    second.resume()
    ours, theirs = (t.assembly.ctx.criterion("core/global") for t in (first, second))
    assert torch.equal(ours.memory, theirs.memory)
    assert bool(theirs.filled)
    spcl = [t.assembly.plugins["spcl"] for t in (first, second)]
    assert spcl[0].threshold == spcl[1].threshold is not None
