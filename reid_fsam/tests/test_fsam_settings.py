"""Settings: their defaults, and that each reaches the place where it acts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from fsam_runs import TINY, fsam
from PIL import Image

from reid_core import CheckpointError, ConfigError, DataError
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.data.decoding import read_field
from reid_core.model.encoder import TimmEncoder
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import first_forward, tiny_flags
from reid_fsam.commands import fsam as command
from reid_fsam.settings import FsamSettings

DEFAULTS: dict[str, Any] = {
    "stream": "fine",
    "branches": "pose",
    "clusters": 3,
    "mutual": "both",
    "kl_weight": 1.0,
    "kl_detach": False,
    "si_weight": 0.5,
    "si_norm": "mean",
    "keep_weight": 10.0,
    "appearance": None,
    "blocks": (),
    "mask": "prob",
    "mask_size": None,
    "erased": "shared",
    "parser": "light",
    "parser_weights": None,
    "parser_label_set": None,
    "parser_data": None,
    "parser_epochs": 5,
    "parser_iterations": None,
    "parser_size": None,
    "parser_lr_scale": 1.0,
    "parser_bn": "train",
    "extractor": None,
    "poses": None,
    "pose_threshold": None,
    "pose_scale": "image",
}


def test_defaults_are_the_paper_s() -> None:
    assert FsamSettings().model_dump() == DEFAULTS


def test_by_default_both_streams_see_what_the_readme_says(reid_cache: Path) -> None:
    assembly = fsam(reid_cache)
    model = assembly.model
    parser = model.branches["fsam/parser"].deploy_spec()["kwargs"]
    assert parser == {
        "architecture": "light",
        "classes": 8,
        "kind": "prob",
        "size": [64, 32],
        "input_size": None,
        "fixed_norms": False,
    }
    assert model.branches["fsam/coarse"].deploy_spec()["kwargs"] == parser
    extractor = model.branches["fsam/extractor"].deploy_spec()["kwargs"]
    assert extractor == {
        "name": "test_resnet",
        "size": [64, 32],
        "channels": 8,
        "last_stride": 1,
        "routing": "pose",
        "copies": 3,
        "picture": False,
    }
    reads = {name: branch.reads for name, branch in model.declarations.items()}
    assert reads["fsam/parser"] == reads["fsam/coarse"] == ("image",)
    assert reads["fsam/extractor"] == ("fsam/mask", "pose")
    assert model.declarations["fsam/coarse"].frozen
    assert not model.declarations["fsam/parser"].frozen
    shape = model.embeddings["fsam/shape"]
    assert shape.supervision is not None
    assert (shape.supervision.cross_entropy, shape.supervision.triplet) == ("neck", "raw")
    assert (shape.reads, shape.neck, shape.at_test) == ("fsam/pooled", "bn", False)
    assert shape.test_vector == "unit", "A+S joins vectors of length one"
    assert assembly.parts.plan.groups["fsam/parser"].lr_scale == 1.0
    _, report = first_forward(assembly)
    weights = {
        name: report.weights[f"fsam/{name}"] for name in ("keep", "similarity", "divergence")
    }
    assert weights == {"keep": 10.0, "similarity": 0.5, "divergence": 1.0}
    assert float(report.terms["fsam/keep"]) > 0, "batch norm of the live parser sees the batch"


def test_other_values_arrive_where_they_act(reid_cache: Path) -> None:
    settings = {
        "mask": "parts",
        "mask_size": (48, 24),
        "parser_size": (32, 16),
        "parser_bn": "eval",
        "parser_lr_scale": 0.25,
        "erased": "appearance",
        "branches": "sum",
        "clusters": 4,
        "extractor": "resnet10t",
        "kl_weight": 0.5,
        "si_weight": 2.0,
        "keep_weight": 3.0,
    }
    assembly = fsam(reid_cache, settings=settings, model={"last_stride": 2, "neck": "none"})
    model = assembly.model
    parser = model.branches["fsam/parser"].deploy_spec()["kwargs"]
    assert (parser["kind"], parser["size"], parser["input_size"]) == ("parts", [48, 24], [32, 16])
    assert parser["fixed_norms"]
    extractor = model.branches["fsam/extractor"].deploy_spec()["kwargs"]
    assert extractor == {
        "name": "resnet10t",
        "size": [48, 24],
        "channels": 7,
        "last_stride": 2,
        "routing": "sum",
        "copies": 4,
        "picture": False,
    }
    reads = {name: branch.reads for name, branch in model.declarations.items()}
    assert reads["fsam/parser"] == reads["fsam/coarse"] == ("clean_image",)
    assert reads["fsam/extractor"] == ("fsam/mask",)
    assert model.embeddings["fsam/shape"].neck == "none"
    assert assembly.parts.plan.groups["fsam/parser"].lr_scale == 0.25
    _, report = first_forward(assembly)
    weights = {
        name: report.weights[f"fsam/{name}"] for name in ("keep", "similarity", "divergence")
    }
    assert weights == {"keep": 3.0, "similarity": 2.0, "divergence": 0.5}
    assert float(report.terms["fsam/keep"]) == 0, "running statistics: both masks are one"


def test_a_stream_of_images_has_one_block_and_no_pose(reid_cache: Path) -> None:
    assembly = fsam(reid_cache, settings={"stream": "image"})
    assert assembly.model.declarations["fsam/extractor"].reads == ("image",)
    extractor = assembly.model.branches["fsam/extractor"].deploy_spec()["kwargs"]
    assert (extractor["channels"], extractor["routing"]) == (3, "single")


def test_pretrained_weights_reach_the_extractor(reid_cache: Path, tmp_path: Path) -> None:
    given = TimmEncoder("test_resnet", (64, 32)).trunk.state_dict()
    torch.save(given, tmp_path / "weights.pth")
    model = {"pretrained": tmp_path / "weights.pth"}
    assembly = fsam(reid_cache, settings={"branches": "single"}, model=model)
    state = assembly.model.branches["fsam/extractor"].state_dict()
    for block, number in (("shared.0", 1), ("shared.2", 3), ("branches.0", 4)):
        name = "0.conv1.weight"
        assert torch.equal(state[f"{block}.{name}"], given[f"layer{number}.{name}"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"mask_size": (16, 8)},
            ConfigError,
            r"fsam.mask_size: masks of 16 x 8 .* give them at least 17 rows",
        ),
        ({"extractor": "test_vit"}, ConfigError, r"fsam.extractor: 'test_vit' has no four blocks"),
        ({"clusters": 60}, DataError, r"fsam.clusters = 60, but only \d+ .*fsam.branches=single"),
    ],
)
def test_remedies_name_the_plugin_s_own_settings(
    reid_cache: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fsam(reid_cache, settings=settings, labels={"pose": "fsam"})


def test_released_weights_without_their_label_set_are_asked_for_it(
    reid_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "schp.pth"
    torch.save({}, path)
    message = r"-s fsam.parser=schp and -s fsam.parser_label_set=pascal"
    with pytest.raises(CheckpointError, match=message):
        fsam(reid_cache, settings={"parser_weights": path, "parser": "schp"})


def test_a_file_of_poses_that_cannot_be_used_is_the_setting_s(
    reid_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "poses.json"
    path.write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"fsam.poses: .*poses.json is no JSON"):
        fsam(reid_cache, settings={"poses": path})


def write_prcc(toy: Any, root: Path, results: Path) -> None:
    """Write the toy figures as PRCC lies on disk, and what AlphaPose writes of each folder.

    Every person's folder has the same names, and AlphaPose leaves the folders out.
    """
    spec = SHARED_FIELDS["keypoints"]
    found: dict[Path, list[dict[str, Any]]] = {}
    numbers: dict[str, int] = {}
    for split, samples in (("train", toy.train.samples), ("test", [*toy.query, *toy.gallery])):
        for sample in samples:
            camera = "ABC"[sample.camid % 3]
            person = f"{sample.pid + 1:03d}"
            folder = Path("train", person) if split == "train" else Path("test", camera, person)
            prefix = f"{camera}_" if split == "train" else ""
            key = f"{folder}{camera}"
            numbers[key] = numbers.get(key, 0) + 1
            name = f"{prefix}cropped_rgb{numbers[key]:03d}.jpg"
            path = root / "prcc" / "rgb" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.open(sample.path).convert("RGB").save(path)
            joints = read_field(sample.fields["keypoints"], spec)
            person_there = {"image_id": name, "keypoints": joints.flatten().tolist()}
            found.setdefault(Path("rgb") / folder, []).append(person_there)
    for folder, people in found.items():
        (results / folder).mkdir(parents=True)
        text = json.dumps(people)
        (results / folder / "alphapose-results.json").write_text(text, "utf-8")


def test_from_prcc_on_disk_to_a_run(reid_cache: Path, tmp_path: Path, toy_tiny: Any) -> None:
    write_prcc(toy_tiny, tmp_path, tmp_path / "results")
    poses = tmp_path / "poses.json"
    words = ["poses", str(tmp_path / "results"), "-o", str(poses)]
    assert CliRunner().invoke(command, words).exit_code == 0
    own = {**TINY, "parser": "light", "parser_label_set": None, "poses": poses}
    flags = tiny_flags(("fsam",), {"plugins": {"fsam": own}})
    flags["data"] = {**flags["data"], "name": "prcc", "root": tmp_path}
    resolved = resolve(flags, recipe="fsam/prcc")
    assembly = assemble(resolved, cache=reid_cache, say=lambda line: None, stages=Stages())
    truth = fsam(reid_cache, labels={"pose": "fsam"}).ctx.main.samples
    samples = assembly.ctx.main.samples
    stems = [sample.path.name for sample in samples]
    assert len(set(stems)) < len(stems), "names are repeated in every person's folder"
    spec = SHARED_FIELDS["pose"]
    expected = sorted((s.pid, s.camid, int(read_field(s.fields["pose"], spec))) for s in truth)
    found = sorted((s.pid, s.camid, int(read_field(s.fields["pose"], spec))) for s in samples)
    assert [f[2] for f in found] == [e[2] for e in expected]
    assert {"fsam/shape/ce", "fsam/divergence"} <= set(first_forward(assembly)[1].terms)
