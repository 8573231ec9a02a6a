"""Temporal average and attention: golden values, whatever embedding, recipes, a whole run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import _registry

from reid_baselines.temporal_attention import TemporalAttention
from reid_core import DataError, load_embedder
from reid_core.loop.step import train_step
from reid_core.model.exporting import export_file
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags

TRACKLETS = {"data": {"name": "toy/tracklets:tiny", "frames": 3}}
ATTENTION = {
    "model": {"frame_pooling": "temporal_attention"},
    "plugins": {"tracklets": {"width": 8}},
}

test_conforms = conformance_suite("tracklets", {**TRACKLETS, "model": ATTENTION["model"]})


def test_attention_is_that_of_the_report() -> None:
    torch.manual_seed(0)
    pool = TemporalAttention(5, 4)
    vectors = torch.randn(2, 6, 5)
    with torch.no_grad():
        found, weights = pool(vectors).numpy(), pool.weights(vectors).numpy()
    reduce, bias = pool.reduce.weight.detach().numpy(), pool.reduce.bias.detach().numpy()
    taps = pool.score.weight.detach().numpy()[0]
    for row in range(2):
        frames = vectors[row].numpy()
        hidden = np.maximum(frames @ reduce.T + bias, 0)
        padded = np.vstack([np.zeros(4), hidden, np.zeros(4)])
        scores = [
            sum(padded[t + k] @ taps[:, k] for k in range(3)) + pool.score.bias.item()
            for t in range(6)
        ]
        raised = np.exp(np.maximum(scores, 0))
        expected = raised / raised.sum()
        np.testing.assert_allclose(weights[row], expected, rtol=1e-5)
        np.testing.assert_allclose(found[row], expected @ frames, rtol=1e-4, atol=1e-6)


def test_equal_scores_are_the_mean() -> None:
    pool = TemporalAttention(5, 4)
    torch.nn.init.zeros_(pool.score.weight)
    vectors = torch.randn(3, 4, 5)
    torch.testing.assert_close(pool(vectors), vectors.mean(1))
    torch.testing.assert_close(pool(vectors[:, :1]), vectors[:, 0])


def test_every_stripe_has_an_attention_of_its_own(reid_cache: Path) -> None:
    tall = {"data": {**TRACKLETS["data"], "height": 96, "width": 32}}
    assembly = tiny_assembly(("pcb", "tracklets"), tall, ATTENTION, cache=reid_cache)
    recorder = Recorder(assembly)
    recorder.train_epoch()
    pools = [head.pool for head in assembly.model.heads.values()]
    assert len({id(pool) for pool in pools}) == 6
    assert {type(pool).__name__ for pool in pools} == {"TemporalAttention"}
    assert all(pool.score.weight.grad is not None for pool in pools)
    assert "main:pcb/stripe6/ce" in recorder.trace[0]


def test_a_run_evaluates_and_stores_it(reid_cache: Path, tmp_path: Path) -> None:
    resolved = resolve(tiny_flags(("tracklets",), TRACKLETS, ATTENTION))
    out = tmp_path / "run"
    summary = run(resolved=resolved, out=out, cache=reid_cache, say=lambda line: None)
    assert 0 < summary.results[0].mean_ap <= 1
    embedder = load_embedder(out)
    (stored,) = embedder.describe()["embeddings"]
    assert stored["pool"]["kwargs"] == {"channels": 96, "width": 8}
    assert embedder(torch.rand(2, 5, 3, 64, 32)).shape == (2, 96)


def test_single_images_are_refused_with_the_sets_to_choose(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"plugin 'tracklets' needs tracklets.*synthpeople/track"):
        tiny_assembly(("tracklets",), cache=reid_cache)


def test_recipes_have_the_published_settings() -> None:
    mars = resolve({}, recipe="tracklets/mars").config
    assert (mars.data.name, mars.data.size, mars.data.frames) == ("mars", (224, 112), 4)
    assert (mars.data.batch_size, mars.data.instances, mars.data.epoch_by) == (32, 4, "identities")
    assert (mars.data.frame_sampling, mars.augment.frames) == ("consecutive", "apart")
    assert (mars.augment.enlarge, mars.augment.enlarge_p) == (1.125, 0.5)
    assert (mars.optim.lr, mars.schedule.epochs, mars.schedule.milestones) == (
        3e-4,
        800,
        (200, 400, 600),
    )
    assert (mars.identity.label_smoothing, mars.model.neck) == (0.1, "none")
    ccvid = resolve({}, recipe="tracklets/ccvid").config
    assert (ccvid.data.frames, ccvid.data.frame_stride, ccvid.data.size) == (8, 4, (256, 128))
    assert (ccvid.optim.lr, ccvid.schedule.epochs, ccvid.schedule.milestones) == (
        3.5e-4,
        150,
        (40, 80, 120),
    )
    assert (ccvid.identity.triplet_weight, ccvid.model.last_stride) == (0, 1)
    assert (ccvid.model.pooling, ccvid.model.frame_pooling) == ("max", "mean")
    assert ccvid.identity.classifier_bias
    quick = resolve({}, recipe="tracklets/quick").config
    assert quick.data.name == "synthpeople/tracklets:quick"
    for config in (mars, ccvid, quick):
        assert config.run.plugins == ("tracklets",)


CLUSTERS = {"min_samples": 2, "eps": 0.5, "k1": 6}
WITH: dict[str, dict[str, Any]] = {
    "cal": {"plugins": {"cal": {"begin": 0}}},
    "clipreid": {"plugins": {"clipreid": {"prompt_epochs": 1}}},
    "cluster_contrast": {"plugins": {"cluster_contrast": CLUSTERS}},
    "mgn": {"data": {"height": 96}, "model": {"backbone": "test_resnet"}},
    "spcl": {"data": {"batch_size": 6}, "plugins": {"spcl": CLUSTERS}},
    "transreid": {
        "model": {"backbone": "test_vit"},
        "plugins": {"transreid": {"groups": 2, "shift": 1}},
    },
}


METHODS = ("agw", "bot", "cal", "clipreid", "cluster_contrast", "meanteacher", "mgn", "spcl")


@pytest.mark.parametrize("name", [*METHODS, "metric", "transreid"])
def test_every_method_takes_tracklets(reid_cache: Path, name: str) -> None:
    if name == "metric":
        pytest.importorskip("pytorch_metric_learning", reason="the extra `metric` brings it")
    assembly = tiny_assembly((name,), TRACKLETS, WITH.get(name, {}), cache=reid_cache)
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    streams = trainer.streams(8)
    for _ in range(2):
        reports = train_step(assembly.parts, trainer.batches(streams), 0.0)
    terms = [term for report in reports.values() for term in report.terms.values()]
    assert terms


def test_clips_and_their_cameras_are_exported(
    reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an export takes grows with the blocks, of which there are six.
    two_blocks = partial(_registry.model_entrypoint("test_vit"), depth=2)
    monkeypatch.setitem(_registry._model_entrypoints, "test_vit", two_blocks)
    assembly = tiny_assembly(("transreid",), TRACKLETS, WITH["transreid"], cache=reid_cache)
    embedder = assembly.embedder().eval()
    assert (embedder.fields, embedder.clip) == (("camid",), 3)
    assert export_file(embedder, tmp_path / "clip.onnx").difference < 1e-4
