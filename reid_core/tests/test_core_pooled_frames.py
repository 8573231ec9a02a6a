"""Protocols that pool: frames of tracklets as single images, images of a camera as one entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from reid_core import DataRequest, DataSet, Sample
from reid_core.config import EvaluationSection
from reid_core.errors import ConfigError, DataError
from reid_core.evaluation import evaluating
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.extraction import extract
from reid_core.evaluation.frames import Side
from reid_core.evaluation.records import stored_results
from reid_core.model.embedder import Embedder
from reid_core.plugins.providers import Providers
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly
from reid_core.testing.toy.making import load_toy_tracklets
from reid_retrieval import evaluate
from reid_retrieval.protocols import CAMERA_POOLS, STANDARD, TRACKLET_POOLS
from reid_retrieval.retrieval import RankedQuery

Floats = npt.NDArray[np.float32]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(reid_cache: Path) -> DataSet:
    return load_toy_tracklets(DataRequest("toy", "tracklets", "tiny", None, reid_cache))


@pytest.fixture(scope="module")
def embedder(reid_cache: Path) -> Embedder:
    """Return an embedder of single images."""
    return tiny_assembly((), cache=reid_cache).embedder().eval()


def by_hand(embedder: Embedder, samples: tuple[Sample, ...]) -> np.ndarray:
    """Return the mean of the unit features of every tracklet's frames."""
    found = []
    for sample in samples:
        images = [Sample(path, sample.pid, sample.camid) for path in sample.images]
        rows = extract(embedder, images, CPU)
        found.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0))
    return np.stack(found)


def test_frames_are_embedded_as_images_and_pooled_by_the_protocol(
    dataset: DataSet, embedder: Embedder, tmp_path: Path
) -> None:
    protocols = (TRACKLET_POOLS, STANDARD, CAMERA_POOLS, replace(TRACKLET_POOLS, pool=()))
    settings = EvaluationSection(ranked_list=2)
    evaluator = Evaluator(dataset, protocols, settings, CPU)
    evaluator.check()
    told: list[int] = []
    found = evaluator.evaluate(embedder, told.append, heads=3)
    assert sum(told) == len(dataset.query) + len(dataset.gallery)
    query, gallery = (by_hand(embedder, samples) for samples in (dataset.query, dataset.gallery))
    # Both sides are those of the first protocol, a row per tracklet.
    np.testing.assert_allclose(found.query.features, query, atol=1e-5)
    np.testing.assert_allclose(found.gallery.features, gallery, atol=1e-5)
    labels = [
        {"pid": [s.pid for s in side], "camid": [s.camid for s in side]}
        for side in (dataset.query, dataset.gallery)
    ]
    pooled, whole, cameras, one_side = found.results
    expected = evaluate(query, gallery, *labels, "standard")
    assert pooled.mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
    assert pooled.protocol_text == TRACKLET_POOLS.text
    assert (pooled.total_queries, pooled.gallery_images) == (len(query), len(gallery))
    alone = Evaluator(dataset, (STANDARD,), settings, CPU).evaluate(embedder)
    assert whole.mean_ap == alone.results[0].mean_ap
    asked = alone.query.features
    expected = evaluate(asked, alone.gallery.features, *labels, CAMERA_POOLS)
    assert cameras.mean_ap == expected.mean_ap
    expected = evaluate(asked, gallery, *labels, "standard")
    assert one_side.mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
    # Queries and ranked images are named by their tracklets.
    record = stored_results(found, dataset)[0]["queries"]
    assert len(record) == pooled.valid_queries
    names = [sample.path.name for sample in dataset.query]
    assert [Path(one["file"]).name for one in record] == names
    closest = int(np.argmax((query[0] / np.linalg.norm(query[0])) @ _shown(dataset, gallery).T))
    assert Path(record[0]["first"][0]).name == dataset.gallery[closest].path.name
    assert evaluator.picture(found, tmp_path / "lists.png", "pooled") is not None


@pytest.mark.parametrize("sides", [("pool", "gallery_pool"), ("pool",), ("gallery_pool",)])
def test_the_picture_shows_the_ranking_that_is_scored(
    dataset: DataSet,
    embedder: Embedder,
    sides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def extracted(embedder: Embedder, samples: Sequence[Sample], *_: Any, **__: Any) -> Floats:
        return np.random.default_rng(len(samples)).standard_normal((len(samples), 3), np.float32)

    def draw(query: object, gallery: object, ranked: list[RankedQuery], *_: Any, **__: Any) -> None:
        drawn.extend(ranked)

    drawn: list[RankedQuery] = []
    monkeypatch.setattr(evaluating, "extract", extracted)
    monkeypatch.setattr(evaluating, "ranked_list_picture", draw)
    # By the Euclidean distance the length of a mean counts, which a second pooling would undo.
    emptied: dict[str, Any] = dict.fromkeys({"pool", "gallery_pool"} - {*sides}, ())
    protocol = replace(TRACKLET_POOLS, **emptied)
    settings = EvaluationSection(distance="euclidean", ranked_list=len(dataset.query))
    evaluator = Evaluator(dataset, (protocol,), settings, CPU)
    found = evaluator.evaluate(embedder, heads=10)
    evaluator.picture(found, tmp_path / "lists.png", "")
    scores = found.results[0].per_query
    assert scores is not None
    heads = dict(zip(scores.rows.tolist(), scores.heads, strict=True))
    assert {one.query for one in drawn} == {*heads}
    for one in drawn:
        np.testing.assert_array_equal(one.gallery, heads[one.query].gallery)


def _shown(dataset: DataSet, gallery: np.ndarray) -> np.ndarray:
    """Return unit features in which the junk of the first query is far from everybody."""
    units = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    first = dataset.query[0]
    junk = [s.pid == first.pid and s.camid == first.camid for s in dataset.gallery]
    units[np.array(junk)] *= -1
    return np.asarray(units)


def test_progress_counts_tracklets(dataset: DataSet) -> None:
    side = Side.of(dataset.query, {}, True)
    told: list[int] = []
    tell = side.told(told.append)
    assert tell is not None
    for _ in side.samples:
        tell(1)
    assert sum(told) == len(dataset.query)
    assert set(told) == {0, 1}


def test_images_without_tracklets_are_refused_before_training(toy_tiny: DataSet) -> None:
    evaluator = Evaluator(toy_tiny, (TRACKLET_POOLS,), EvaluationSection(), CPU)
    with pytest.raises(DataError, match="needs the label 'tracklet' of every query image"):
        evaluator.check()


def test_a_file_of_rules_is_a_protocol_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('gallery_pool = ["pid", "camid"]\n', "utf-8")
    providers = Providers(resolve().calls)
    assert providers.protocol(str(file)).gallery_pool == ("pid", "camid")
    file.write_text('gallery_pools = ["pid"]\n', "utf-8")
    with pytest.raises(ConfigError, match=r"mine.toml: .* did you mean 'gallery_pool'\?"):
        providers.protocol(str(file))
