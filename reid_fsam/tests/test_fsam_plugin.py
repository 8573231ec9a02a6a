"""The plugin in a run: rows of the paper's tables, evaluation of S, pictures, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fsam_runs import ALL, TINY, fsam
from PIL import Image
from safetensors import safe_open

from reid_core import ConfigError, DataError, Tap, load_embedder
from reid_core.contract.events import RunBegan, RunEnded
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.data.decoding import read_field
from reid_core.evaluation.extraction import extract
from reid_core.model.encoder import TimmEncoder
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import Recorder, first_forward, tiny_assembly, tiny_flags
from reid_fsam.plugin import appearance_blocks

STREAMS = ("fsam/coarse", "fsam/extractor", "fsam/parser")


@pytest.mark.parametrize(
    ("settings", "branches", "missing"),
    [
        ({}, STREAMS, ()),
        ({"stream": "coarse"}, ("fsam/extractor", "fsam/parser"), ("fsam/keep",)),
        ({"stream": "image"}, ("fsam/extractor",), ("fsam/keep",)),
        ({"branches": "single", "mask": "palette"}, STREAMS, ()),
        ({"branches": "sum", "mask": "foreground", "erased": "appearance"}, STREAMS, ()),
        ({"mutual": "to_appearance", "mask": "parts", "mask_size": (32, 16)}, STREAMS, ()),
        ({"mask": "logits", "parser_size": (32, 16), "extractor": "resnet10t"}, STREAMS, ()),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_every_row_of_the_tables_trains(
    reid_cache: Path,
    settings: dict[str, Any],
    branches: tuple[str, ...],
    missing: tuple[str, ...],
) -> None:
    trainer = Recorder(fsam(reid_cache, settings=settings))
    trainer.train_epoch()
    found = tuple(n for n in sorted(trainer.assembly.model.declarations) if n != "core/pool")
    assert found == branches
    seen = {name.partition(":")[2] for name in trainer.trace[-1]}
    assert seen == set(ALL) - set(missing)


def test_the_appearance_stream_is_the_baseline_s(reid_cache: Path) -> None:
    weights = dict.fromkeys((name for name in ALL if name.startswith("fsam/")), 0.0)
    silent = Recorder(fsam(reid_cache, loss_weights=weights))
    baseline = Recorder(tiny_assembly((), cache=reid_cache))
    silent.fit()
    baseline.fit()
    for ours, theirs in zip(silent.trace, baseline.trace, strict=True):
        assert {name: ours[name] for name in theirs} == theirs


def test_only_the_appearance_stream_is_exported(reid_cache: Path, tmp_path: Path) -> None:
    assembly = fsam(reid_cache)
    Recorder(assembly).fit()
    images = torch.rand(2, 3, 64, 32)
    live = assembly.embedder().eval()
    path = tmp_path / "embedder.safetensors"
    live.save(path)
    with safe_open(path, "pt") as file:
        assert not [name for name in file.keys() if "fsam" in name]  # noqa: SIM118
    stored = load_embedder(path).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(live(images), stored(images))


def own_poses(cache: Path, *embed: str, **settings: Any) -> Any:
    evaluation = {"embed": embed}
    return fsam(cache, settings=settings, labels={"pose": "fsam"}, evaluation=evaluation)


def test_shape_and_both_are_evaluated_with_poses_made_for_the_test_images(
    reid_cache: Path,
) -> None:
    both = own_poses(reid_cache, "fsam/shape", "core/global")
    evaluation = Recorder(both).evaluate("final")
    assert evaluation is not None
    alone = own_poses(reid_cache, "fsam/shape")
    shape = Recorder(alone).evaluate("final")
    assert shape is not None
    assert alone.embedder().fields == ("pose",)
    width = shape.query.features.shape[1]
    assert both.embedder().dim == width + alone.model.heads["core/global"].dim
    assert np.allclose(evaluation.query.features[:, :width], shape.query.features, atol=1e-5)
    poses = [s.fields["pose"] for s in alone.evaluator.dataset.query]
    assert set(poses) <= {0, 1, 2}
    other = alone.evaluator.dataset.query_fields
    own = alone.config.evaluation.model_copy(update={"batch_norm": "camera"})
    before = {name: value.clone() for name, value in alone.model.state_dict().items()}
    by_camera = replace(alone.evaluator, settings=own).evaluate(alone.embedder())
    assert not np.allclose(by_camera.query.features, shape.query.features, atol=1e-2)
    assert all(torch.equal(v, before[name]) for name, v in alone.model.state_dict().items())
    turned = tuple(
        type(s)(s.path, s.pid, s.camid, fields={"pose": (int(s.fields["pose"]) + 1) % 3})
        for s in alone.evaluator.dataset.query
    )
    torch.manual_seed(0)
    for branch in alone.model.branches["fsam/extractor"].branches:
        for parameter in branch.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    device = torch.device("cpu")
    features = [
        extract(alone.embedder(), samples, device, specs=other)
        for samples in (alone.evaluator.dataset.query, turned)
    ]
    assert not np.allclose(*features, atol=1e-3), "the pose decides about the last block"


def test_a_shape_stream_of_the_image_alone_can_be_exported(
    reid_cache: Path, tmp_path: Path
) -> None:
    settings = {"branches": "single"}
    assembly = fsam(reid_cache, settings=settings, evaluation={"embed": ("fsam/shape",)})
    live = assembly.embedder().eval()
    live.save(tmp_path / "embedder.safetensors")
    stored = load_embedder(tmp_path).to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        assert torch.allclose(live(images), stored(images), atol=1e-6)


def test_pose_labels_are_those_of_the_training_set_s_clusters(reid_cache: Path) -> None:
    assembly = own_poses(reid_cache)
    samples = assembly.ctx.main.samples
    labels = [int(read_field(s.fields["pose"], SHARED_FIELDS["pose"])) for s in samples]
    assert set(labels) == {0, 1, 2}
    counts = np.bincount(labels)
    assert counts[0] == counts.max()


@pytest.mark.parametrize("name", ["pcb", "mgn", "osnet"])
def test_it_composes_with_the_baselines(reid_cache: Path, name: str) -> None:
    plugins = {"mgn": {"optimisation": "joint"}} if name == "mgn" else {}
    model = {"backbone": {"osnet": "osnet_x0_25"}.get(name, "resnet10t")}
    data = {"height": 96, "width": 48} if name == "mgn" else {"height": 96, "width": 32}
    settings = {"extractor": "test_resnet"}
    assembly = fsam(reid_cache, name, settings=settings, plugins=plugins, model=model, data=data)
    _, report = first_forward(assembly)
    assert {"fsam/similarity", "fsam/divergence", "fsam/shape/ce"} <= set(report.terms)
    blocks = appearance_blocks({tap.name: tap for tap in assembly.model.encoder.taps})
    behind = {
        "pcb": ("stage3", "stage4"),
        "mgn": ("shared", "map"),
        "osnet": ("stage3", "map"),
    }[name]
    assert blocks == tuple(f"encoder/{one}" for one in ("stage1", "stage2", *behind))


@pytest.mark.parametrize(
    ("maps", "blocks"),
    [
        ("stem stage1 stage2 map", "stage1 stage2 map"),
        ("stage1 stage2 stage3 stage4 stage5 map", "stage2 stage3 stage4 stage5"),
        ("stem a b c d map", "b c d map"),
        ("map", "map"),
    ],
)
def test_the_last_of_its_maps_are_compared(maps: str, blocks: str) -> None:
    taps = {f"encoder/{one}": Tap(f"encoder/{one}", 8, 4) for one in maps.split()}
    assert appearance_blocks(taps) == tuple(f"encoder/{one}" for one in blocks.split())


def test_beside_a_plugin_s_encoder_the_shape_stream_is_the_paper_s(reid_cache: Path) -> None:
    model = {"backbone": "osnet_x0_25"}
    assembly = fsam(reid_cache, settings={"branches": "single"}, model=model)
    extractor = assembly.model.branches["fsam/extractor"]
    assert extractor.deploy_spec()["kwargs"]["name"] == "resnet50.tv_in1k"


def test_a_file_of_weights_is_the_encoder_s_alone(reid_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    trunk = TimmEncoder("test_resnet", (64, 32)).trunk
    torch.save(trunk.state_dict(), path)
    flags = tiny_flags(
        ("fsam",),
        {"plugins": {"fsam": {**TINY, "extractor": "resnet10t"}}, "model": {"pretrained": path}},
    )
    lines: list[str] = []
    assembly = assemble(resolve(flags), cache=reid_cache, say=lines.append, stages=Stages())
    for name, value in trunk.state_dict().items():
        assert torch.equal(assembly.model.encoder.trunk.state_dict()[name], value)
    said = "fsam: model.pretrained is a file for test_resnet; the shape extractor, resnet10t, "
    assert f"{said}starts from random weights" in lines


def test_partaware_sits_on_the_appearance_stream(reid_cache: Path) -> None:
    assembly = fsam(reid_cache, "partaware")
    assert assembly.model.declarations["partaware/head"].reads == ("encoder/map",)
    trainer = Recorder(assembly)
    trainer.fit()
    assert {"main:partaware/parts", "main:fsam/divergence"} <= set(trainer.trace[-1])


def test_a_run_leaves_pictures_of_masks_and_poses(reid_cache: Path, tmp_path: Path) -> None:
    assembly = own_poses(reid_cache)
    assembly.ctx.folder = tmp_path
    plugin = assembly.plugins["fsam"]
    plugin.reid_observe(RunBegan(assembly.config, tmp_path, {}), assembly.ctx)
    plugin.reid_observe(RunEnded(tmp_path, "finished", {}), assembly.ctx)
    assert (tmp_path / "fsam" / "poses.json").is_file()
    for name in ("poses", "masks"):
        with Image.open(tmp_path / "fsam" / f"{name}.png") as picture:
            assert np.asarray(picture).std() > 10


def test_the_truth_has_no_centres_to_draw(reid_cache: Path, tmp_path: Path) -> None:
    assembly = fsam(reid_cache)
    assembly.plugins["fsam"].reid_observe(RunBegan(assembly.config, tmp_path, {}), assembly.ctx)
    assert not list(tmp_path.iterdir())


def plain_folder(toy: Any, root: Path) -> dict[str, Any]:
    for split, samples in (
        ("train", toy.train.samples),
        ("query", toy.query),
        ("gallery", toy.gallery),
    ):
        (root / split).mkdir()
        for sample in samples:
            (root / split / sample.path.name).write_bytes(sample.path.read_bytes())
    return {"name": "folder", "root": root}


def test_without_keypoints_the_error_says_who_could_provide_them(
    reid_cache: Path, tmp_path: Path, toy_tiny: Any
) -> None:
    data = plain_folder(toy_tiny, tmp_path)
    message = (
        r"'fsam' needs the field 'pose', which nobody provides.*"
        r"--field keypoints=DIR or -s fsam.poses=FILE.json.*-s fsam.branches=single"
    )
    with pytest.raises(DataError, match=message):
        fsam(reid_cache, data=data)
    # Parts are not needed: the parser learns from labelled data of its own.
    assert (
        "fsam/shape/ce"
        in first_forward(fsam(reid_cache, settings={"branches": "single"}, data=data))[1].terms
    )


def test_a_user_s_keypoints_serve_a_folder_without_any(
    reid_cache: Path, tmp_path: Path, toy_tiny: Any
) -> None:
    data = plain_folder(toy_tiny, tmp_path)
    spec = SHARED_FIELDS["keypoints"]
    people = [
        {
            "image_id": sample.path.name,
            "keypoints": read_field(sample.fields["keypoints"], spec).flatten().tolist(),
        }
        for sample in (*toy_tiny.train.samples, *toy_tiny.query, *toy_tiny.gallery)
    ]
    poses = tmp_path / "poses.json"
    poses.write_text(json.dumps(people), "utf-8")
    evaluation = {"embed": ("fsam/shape",)}
    given = fsam(reid_cache, settings={"poses": poses}, data=data, evaluation=evaluation)
    known = own_poses(reid_cache, "fsam/shape")
    for samples, others in (
        (given.ctx.main.samples, known.ctx.main.samples),
        (given.evaluator.dataset.query, known.evaluator.dataset.query),
    ):
        ours = {s.path.name: s.fields["pose"] for s in samples}
        assert ours == {s.path.name: s.fields["pose"] for s in others}
    # The toy data have pose labels of their own; a file that is named rules over them.
    ruled = fsam(reid_cache, settings={"poses": poses}).ctx.main.samples
    assert [s.fields["pose"] for s in ruled] == [s.fields["pose"] for s in known.ctx.main.samples]


def test_labels_without_a_block_are_refused(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"'pose' has values from 0 to 2, but fsam.clusters = 2"):
        fsam(reid_cache, settings={"clusters": 2})


@pytest.mark.parametrize(
    ("settings", "sections", "message"),
    [
        ({}, {"identity": {"ce_weight": 0.0}}, r"fsam.kl_weight compares predictions"),
        ({"parser_label_set": "pascal"}, {}, r"name their file with -s fsam.parser_weights=FILE"),
        (
            {"parser_label_set": "pascal", "parser_weights": "x.pth"},
            {},
            r"belongs to released SCHP weights; set -s fsam.parser=schp",
        ),
        ({"appearance": "core/globl"}, {}, r"the appearance stream has none here"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    reid_cache: Path, settings: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        first_forward(fsam(reid_cache, settings=settings, **sections))


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"plugins.fsam.si_nrm.*si_norm"):
        resolve({"run": {"plugins": ["fsam"]}, "plugins": {"fsam": {**TINY, "si_nrm": "sq"}}})


def test_schp_without_weights_says_that_it_is_trained(
    reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def stop(*args: object, **kwargs: object) -> None:
        raise DataError("far enough")

    monkeypatch.setattr("reid_fsam.plugin.parser_stage", stop)
    flags = tiny_flags(("fsam",), {"plugins": {"fsam": {**TINY, "parser": "schp"}}})
    with pytest.raises(DataError, match="far enough"):
        assemble(resolve(flags), cache=reid_cache, say=lines.append, stages=Stages())
    assert any("'schp' is trained from random weights on toy:tiny" in line for line in lines)
