"""Each camera's own statistics of batch normalisation at test: values, what stays, refusals."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_core import (
    ConfigError,
    DataError,
    DataRequest,
    DataSet,
    Encoder,
    Plugin,
    Sample,
    Tap,
    hookimpl,
)
from reid_core.config import EvaluationSection
from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_core.evaluation import evaluating
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.extraction import extract
from reid_core.evaluation.records import stored_results
from reid_core.evaluation.statistics import LEAST, images_by_camera, norms_of, of_cameras
from reid_core.images import read_image, resize_image
from reid_core.model.embedder import Embedder
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_core.testing.toy.making import load_toy_tracklets
from reid_retrieval.protocols import STANDARD, TRACKLET_POOLS

CPU = torch.device("cpu")
CAMERA = EvaluationSection(batch_norm="camera", ranked_list=0)


@pytest.fixture
def embedder(reid_cache: Path) -> Embedder:
    return tiny_assembly((), cache=reid_cache).embedder().eval()


def evaluator(dataset: DataSet, settings: EvaluationSection = CAMERA, **options: Any) -> Evaluator:
    return Evaluator(dataset, (STANDARD,), settings, CPU, **options)


def by_hand(embedder: Embedder, samples: Sequence[Sample]) -> np.ndarray:
    """Return features of a camera's images, normalised by what torch finds in all of them."""
    model = copy.deepcopy(embedder)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.train().momentum = 1.0
    pixels = np.stack([resize_image(read_image(s.path), model.size) for s in samples])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        model.embed_normalised((images - mean) / std)  # now they are the running statistics
        return model.eval().embed_normalised((images - mean) / std).numpy()


def state_of(embedder: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in embedder.state_dict().items()}


def test_features_are_normalised_by_all_images_of_their_camera(
    embedder: Embedder, toy_tiny: DataSet
) -> None:
    before, told = state_of(embedder), list[int]()
    found = evaluator(toy_tiny).evaluate(embedder, told.append)
    rows = np.concatenate([found.query.features, found.gallery.features])
    samples = (*toy_tiny.query, *toy_tiny.gallery)
    assert sum(told) == len(samples)
    for camera in range(3):
        own = [row for row, sample in enumerate(samples) if sample.camid == camera]
        assert len(own) == LEAST
        expected = by_hand(embedder, [samples[row] for row in own])
        np.testing.assert_allclose(rows[own], expected, atol=2e-5)
    # What is exported, or evaluated next, is what it was.
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())
    assert {norm.momentum for norm in norms_of(embedder)} == {0.1}
    assert not any(part.training for part in embedder.modules())


def test_neither_order_nor_size_of_batches_nor_names_decide(
    embedder: Embedder, toy_tiny: DataSet
) -> None:
    found = evaluator(toy_tiny).evaluate(embedder).query.features
    turned = replace(toy_tiny, query=toy_tiny.query[::-1], gallery=toy_tiny.gallery[::-1])
    small = CAMERA.model_copy(update={"batch_size": 5})
    again = evaluator(turned, small).evaluate(embedder).query.features[::-1]
    np.testing.assert_allclose(again, found, atol=2e-5)
    strangers = tuple(replace(sample, clothes=-1, pid=-1) for sample in toy_tiny.gallery[:4])
    other = replace(toy_tiny, gallery=(*strangers, *toy_tiny.gallery[4:]))
    np.testing.assert_array_equal(evaluator(other).evaluate(embedder).query.features, found)


class Shaded(Encoder):
    """Images, lighter from camera to camera, through one convolution and its normalisation."""

    taps = (Tap("encoder/map", 8, 16),)
    reads = ("camid",)
    defaults: ClassVar = {"camid": 2}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, 16)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, image: Tensor, camid: Tensor) -> dict[str, Tensor]:
        shade = 1 + camid.float()[:, None, None, None]
        return {"encoder/map": self.norm(self.conv(image * shade) + shade)}


class Shading(Plugin):
    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self) -> Encoder:
        return Shaded()


def test_what_is_unknown_is_unknown_to_the_statistics_too(
    toy_tiny: DataSet, reid_cache: Path
) -> None:
    assembly = tiny_assembly(("shading",), cache=reid_cache, classes={"shading": Shading})
    embedder = assembly.embedder().eval()
    found, unknown = (
        evaluator(toy_tiny, **options).evaluate(embedder).query.features
        for options in ({}, {"unknown": ("camid",)})
    )
    # The default stands for camera 2: of the others every image is shaded alike, and otherwise.
    cameras = np.array([sample.camid for sample in toy_tiny.query])
    np.testing.assert_array_equal(unknown[cameras == 2], found[cameras == 2])
    # A shade that all images of a camera share is taken out again by the camera's statistics.
    np.testing.assert_allclose(unknown, found, atol=1e-3)


class Parted(Shaded):
    """Images, lighter from one part's share to another's: no default stands for the parts."""

    reads = ("parts",)
    defaults: ClassVar = {}

    def forward(self, image: Tensor, parts: Tensor) -> dict[str, Tensor]:
        return super().forward(image, parts.float().mean((1, 2)))


class Walking(Encoder):
    """Clips of three frames through one convolution and its normalisation."""

    taps = (Tap("encoder/map", 8, 16),)
    clips = True
    frames: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (1, 16, 16), (1, 16, 16))
        self.norm = nn.BatchNorm3d(8)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.frames.add(image.shape[1])
        return {"encoder/map": self.norm(self.conv(image.transpose(1, 2))).mean(2)}

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": f"{__name__}:Walking", "kwargs": {}}


@pytest.mark.parametrize(
    ("encoder", "data"), [(Parted, "toy:tiny"), (Walking, "toy/tracklets:tiny")]
)
def test_statistics_are_of_what_the_encoder_reads(
    encoder: type[Encoder], data: str, reid_cache: Path
) -> None:
    class Reading(Shading):
        @hookimpl
        def reid_backbone(self) -> Encoder:
            return encoder()

    layer = {"data": {"name": data, "frames": 3}}
    assembly = tiny_assembly(("reading",), layer, cache=reid_cache, classes={"reading": Reading})
    dataset = assembly.ctx.dataset
    Walking.frames.clear()
    dataset = replace(dataset, gallery=dataset.gallery * 3)  # as many as statistics ask for
    found = evaluator(dataset).evaluate(assembly.embedder().eval())
    assert np.isfinite(found.query.features).all()
    assert Walking.frames == ({3} if encoder is Walking else set())


def test_results_say_so(embedder: Embedder, toy_tiny: DataSet) -> None:
    found = evaluator(toy_tiny).evaluate(embedder)
    said = "flip off, batch norm by each camera's test images, re-ranking none"
    assert said in found.results[0].text
    assert stored_results(found, toy_tiny)[0]["batch_norm"] == "camera"
    plain = evaluator(toy_tiny, EvaluationSection()).evaluate(embedder)
    assert "batch" not in json.dumps(plain.results[0].to_json())


def test_statistics_come_back_where_something_fails(
    embedder: Embedder, toy_tiny: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        assert not torch.equal(embedder.state_dict()[name], before[name])
        raise DataError("no image")

    before = state_of(embedder)
    name = next(name for name in before if name.endswith("running_mean"))
    monkeypatch.setattr(evaluating, "extract", broken)
    with pytest.raises(DataError, match="no image"):
        evaluator(toy_tiny).evaluate(embedder)
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())


def test_cameras_without_enough_images_are_named(embedder: Embedder, toy_tiny: DataSet) -> None:
    first = next(row for row, sample in enumerate(toy_tiny.gallery) if sample.camid == 2)
    gallery = (*toy_tiny.gallery[:first], *toy_tiny.gallery[first + 1 :])
    with pytest.raises(DataError, match=r"16 test images of each of several cameras, and .* has "
                       r"15 of camera 2; take 'running'"):  # fmt: skip
        evaluator(replace(toy_tiny, gallery=gallery)).check()
    alike = [tuple(replace(s, camid=0) for s in side) for side in (toy_tiny.query, gallery)]
    unknown = replace(toy_tiny, query=alike[0], gallery=alike[1])
    with pytest.raises(DataError, match="has 47 of camera 0, where all are; take 'running'"):
        evaluator(unknown).check()


def test_without_batch_normalisation_there_is_nothing_to_do(
    embedder: Embedder, toy_tiny: DataSet
) -> None:
    for part in list(embedder.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(part, name, nn.Identity())
    with pytest.raises(ConfigError, match="would change nothing: this embedder has no batch"):
        evaluator(toy_tiny).evaluate(embedder)


def test_tracklets_are_of_their_camera_whole_and_by_frames(
    embedder: Embedder, reid_cache: Path
) -> None:
    found = load_toy_tracklets(DataRequest("toy", "tracklets", "tiny", None, reid_cache))
    dataset = replace(found, gallery=found.gallery * 3)
    told: list[int] = []
    both = Evaluator(dataset, (TRACKLET_POOLS, STANDARD), CAMERA, CPU)
    both.check()
    pooled, whole = both.evaluate(embedder, told.append).results
    assert sum(told) == len(dataset.query) + len(dataset.gallery)
    alone = evaluator(dataset).evaluate(embedder)
    assert whole.metrics() == alone.results[0].metrics()
    assert "camera's test images" in pooled.text
    # The statistics are of the frames that a clip shows, the features of all frames.
    rows = np.concatenate([alone.query.features, alone.gallery.features])
    samples = (*dataset.query, *dataset.gallery)
    for camera in of_cameras(embedder, images_by_camera(samples, "tracklets")):
        own = [row for row, sample in enumerate(samples) if sample.camid == camera]
        expected = extract(embedder, [samples[row] for row in own], CPU)
        np.testing.assert_allclose(rows[own], expected, atol=1e-6)


def test_a_run_is_evaluated_so_and_exports_its_own_statistics(
    reid_cache: Path, tmp_path: Path, run_reid: RunReid
) -> None:
    said = {"camera": "camera", "running": "no"}
    for chosen, told in said.items():
        layer = {"evaluation": {"batch_norm": chosen, "every": 1}}
        flags = tiny_flags((), layer)
        out = tmp_path / chosen
        run(resolved=resolve(flags), out=out, cache=reid_cache, say=lambda line: None)
        (result,) = json.loads((out / "results.json").read_text("utf-8"))["results"]
        assert result.get("batch_norm", "no") == told
    stored = [load_file(tmp_path / chosen / "embedder.safetensors") for chosen in said]
    assert all(torch.equal(value, stored[1][name]) for name, value in stored[0].items())
    written = tmp_path / "eval.json"
    code, shown, _ = run_reid(
        "eval", tmp_path / "running", "-d", "toy:tiny", "--batch-norm", "camera", "--json", written,
        "--precision", "fp32",
    )  # fmt: skip
    assert code == 0
    assert "batch norm by each camera's test images" in shown
    (again,) = json.loads(written.read_text("utf-8"))
    (result,) = json.loads((tmp_path / "camera/results.json").read_text("utf-8"))["results"]
    assert again == result
    code, _, err = run_reid("eval", tmp_path / "running", "--cost", "--batch-norm", "camera")
    assert code == 2
    assert "--batch-norm is about a data set" in err
