"""RTMPose and ViTPose from ONNX files that the tests write: networks that find coloured dots."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from reid_core.errors import CheckpointError, ConfigError
from reid_core.testing.tiny import tiny_assembly
from reid_parsing.commands import parsing
from reid_parsing.detectors.heatmaps import (
    joints_of_heatmaps,
    joints_of_vectors,
    mirrored_heatmaps,
    mirrored_order,
    mirrored_vectors,
)
from reid_parsing.detectors.opening import key_of
from reid_parsing.detectors.pose_onnx import open_pose

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
REDS = [(40 + 12 * joint) / 255 for joint in range(17)]
PLACES = [(10.0 + 20 * (joint % 3), 10.0 + 20 * (joint // 3)) for joint in range(17)]


def person() -> NDArray[np.uint8]:
    """Draw every joint as a dot of its own red on a black picture of 120 x 60."""
    image = np.zeros((120, 60, 3), np.uint8)
    for red, (x, y) in zip(REDS, PLACES, strict=True):
        dot = slice(int(y) - 3, int(y) + 4), slice(int(x) - 3, int(x) + 4)
        image[dot] = (round(255 * red), 255, 0)
    return image


def network(
    path: Path,
    kind: str = "heatmaps",
    *,
    shape: tuple[Any, ...] = ("batch", 3, 96, 72),
    taken: str = "FLOAT",
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
    red: int = 0,
    count: int = 17,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network that finds the dots of `person`.

    Args:
        path: the file.
        kind: ``heatmaps`` at a quarter of the size, or ``simcc`` with two places per pixel.
        shape: of the input.
        taken: its type.
        pixels: mean and deviation of what it takes, of pixels in 0..1.
        red: the channel that is red.
        count: number of joints; the last ones are the last dot's.
        metadata: of the file.
    """
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    mean, deviation = (np.float32(one)[:, None] for one in pixels)
    reds = np.float32([*REDS, *[REDS[-1]] * count][:count])
    channel = np.eye(3, dtype=np.float32)[:, :, None, None]
    # Of a dot's own colour 1; what edges mix, and other dots, have less.
    values = {
        "deviation": deviation[None, :, :, None],
        "mean": mean[None, :, :, None],
        "to_red": np.repeat(channel[[red]], count, 0),
        "to_green": np.repeat(channel[[1]], count, 0),
        "minus": -reds,
        "sharp": np.float32(20),
    }
    nodes = [node("Cast", ["in"], ["real"], to=onnx.TensorProto.FLOAT)]
    if shape[-1] == 3:
        nodes.append(node("Transpose", ["real"], ["first"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(node("Identity", ["real"], ["first"]))
    nodes += [
        node("Mul", ["first", "deviation"], ["scaled"]),
        node("Add", ["scaled", "mean"], ["shown"]),
        node("Conv", ["shown", "to_red", "minus"], ["off"]),
        node("Abs", ["off"], ["far"]),
        node("Mul", ["far", "sharp"], ["wrong"]),
        node("Conv", ["shown", "to_green"], ["there"]),
        node("Sub", ["there", "wrong"], ["heat"]),
        node("MaxPool", ["heat"], ["heatmaps"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    outputs = [("heatmaps", ["b", count, "h", "w"])]
    if kind == "simcc":
        outputs = []
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes.append(node("AveragePool", ["heat"], ["smooth"], **window))
        for name, axis in (("simcc_x", 2), ("simcc_y", 3)):
            values |= {f"axis_{name}": np.int64([axis]), "last": np.int64([3])}
            nodes += [
                node("ReduceMax", ["smooth", f"axis_{name}"], [f"max_{name}"], keepdims=0),
                node("Unsqueeze", [f"max_{name}", "last"], [f"one_{name}"]),
                node("Concat", [f"one_{name}"] * 2, [f"two_{name}"], axis=3),
                node("Reshape", [f"two_{name}", "flat"], [name]),
            ]
            values["flat"] = np.int64([0, 0, -1])
            outputs.append((name, ["b", count, f"bins_{name}"]))
    graph = onnx.helper.make_graph(
        nodes,
        "dots",
        [onnx.helper.make_tensor_value_info("in", getattr(onnx.TensorProto, taken), shape)],
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in outputs],
        [tensor(np.asarray(value), name) for name, value in values.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.helper.set_model_props(model, dict(metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def near(found: NDArray[np.float32], tolerance: float = 4) -> bool:
    return bool((np.linalg.norm(found[:, :2] - np.float32(PLACES), axis=1) < tolerance).all())


OWN = ((0.2, 0.5, 0.3), (0.5, 0.25, 0.4))
OWN_TEXT = {"mean": "[0.2, 0.5, 0.3]", "std": "[0.5, 0.25, 0.4]"}
FILES: Mapping[str, Mapping[str, Any]] = {
    "ViTPose": {},
    "RTMPose": {"kind": "simcc"},
    "channels last": {"shape": (1, 96, 72, 3)},
    "pixels": {"taken": "UINT8", "pixels": ((0, 0, 0), (1 / 255,) * 3)},
    "half": {"taken": "FLOAT16"},
    "metadata": {"pixels": OWN, "metadata": OWN_TEXT},
    "whole body": {"kind": "simcc", "count": 133},
}


@pytest.mark.parametrize("what", list(FILES))
def test_what_a_file_takes_and_gives_is_read_from_it(tmp_path: Path, what: str) -> None:
    found = open_pose(network(tmp_path / "pose.onnx", **FILES[what]))
    joints = found.joints(person(), mirror=False)
    assert joints.shape == (17, 3)
    assert joints.dtype == np.float32
    assert near(joints)
    assert (joints[:, 2] > 0.6).all()
    assert (joints[:, 2] <= 1).all()
    # In the mirror left is right, which this network does not know; a nose stays where it is.
    both = found.joints(person(), mirror=True)
    assert np.abs(both[0, :2] - joints[0, :2]).max() < 2
    assert both[0, 2] > 0.6
    assert (both[1:, 2] < 0.9 * joints[1:, 2]).all()


def test_files_beside_the_network_say_how_pictures_are_prepared(tmp_path: Path) -> None:
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "TopDownAffine", "image_size": [72, 96]},
        {
            "type": "Normalize",
            "mean": [value * 255 for value in OWN[0]],
            "std": [value * 255 for value in OWN[1]],
            "to_rgb": False,
        },
    ]
    told = {"pipeline": {"tasks": [{"name": "Preprocess", "transforms": steps}, {}]}}
    path = network(tmp_path / "rtm" / "end2end.onnx", "simcc", pixels=OWN, red=2)
    before = key_of(path, ())
    (path.parent / "pipeline.json").write_text(json.dumps(told))
    assert key_of(path, ()) != before, "labels made otherwise are others"
    assert near(open_pose(path).joints(person(), mirror=False))
    hub = {
        "size": {"height": 96, "width": 72},
        "image_mean": OWN[0],
        "image_std": OWN[1],
        "do_normalize": True,
    }
    # What lies above a folder of another name is another network's.
    other = network(tmp_path / "vit" / "rtm" / "model.onnx")
    opened = network(tmp_path / "vit" / "onnx" / "model.onnx", shape=("b", 3, "h", "w"), pixels=OWN)
    with pytest.raises(CheckpointError, match=r"height and width are open; export it with fixed"):
        open_pose(opened)
    beside = tmp_path / "vit" / "preprocessor_config.json"
    beside.write_text(json.dumps(hub))
    said: list[str] = []
    assert near(open_pose(opened, say=said.append).joints(person(), mirror=False))
    assert said == [f"{opened}: pictures are prepared as {beside} says"]
    assert near(open_pose(other, say=said.append).joints(person(), mirror=False))
    assert said[1].endswith("prepared as for ImageNet: nothing beside it says otherwise")
    for told, reason in (
        ({**hub, "size": {"height": 100, "width": 72}}, None),
        ({"image_mean": [1], "image_std": [1]}, "are not three numbers each"),
        ([], "does not say how pictures are prepared"),
    ):
        (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(told))
        if reason:
            with pytest.raises(CheckpointError, match=reason):
                open_pose(opened)
    fixed = network(tmp_path / "fixed" / "model.onnx")
    (fixed.parent / "preprocessor_config.json").write_text(
        json.dumps({**hub, "size": {"height": 100, "width": 72}})
    )
    with pytest.raises(CheckpointError, match="beside it stands 100 x 72"):
        open_pose(fixed)


FOREIGN: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "25 joints": ({"count": 25}, r"finds 25 joints; those of 17 \(COCO\)"),
    "batch": ({"shape": (8, 3, 96, 72)}, "takes 8 pictures at once"),
    "type": ({"taken": "INT64"}, r"its input is of tensor\(int64\)"),
    "deviation": ({"metadata": {"mean": "[0, 0, 0]", "std": "[1, 0, 1]"}}, "the latter above 0"),
    "text": ({"metadata": {"mean": "grey"}}, "are not three numbers each"),
}


@pytest.mark.parametrize("what", list(FOREIGN))
def test_foreign_files_are_one_line(tmp_path: Path, what: str) -> None:
    options, reason = FOREIGN[what]
    path = network(tmp_path / "pose.onnx", **options)
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_pose(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_networks_and_broken_files_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    path = tmp_path / "other.onnx"
    usual = [1, 3, 96, 72]
    for taken, shapes, reason in (
        (usual, [[1, 1000]], "it gives out0 1 x 1000, neither heatmaps"),
        (usual, [[1, 17, 24, 24]], r"the heatmaps \(out0 1 x 17 x 24 x 24\) have another shape"),
        (usual, [[1, 17, 100], [1, 17, 192]], "are not whole multiples of the columns and rows"),
        (usual, [[1, 17, 144], [1, 16, 192]], "are not whole multiples"),
        ([1, 4, 96, 72], [[1, 17, 24, 18]], "no axis of three channels"),
        ([1, 3], [[1, 17, 24, 18]], "it takes in: 1 x 3, not one picture"),
    ):
        nodes = [
            node(
                "Constant",
                [],
                [f"out{number}"],
                value=onnx.numpy_helper.from_array(np.full(shape, np.nan, np.float32)),
            )
            for number, shape in enumerate(shapes)
        ]
        graph = onnx.helper.make_graph(
            nodes,
            "other",
            [info("in", onnx.TensorProto.FLOAT, taken)],
            [info(f"out{n}", onnx.TensorProto.FLOAT, shape) for n, shape in enumerate(shapes)],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
        model.ir_version = 9
        onnx.save(model, path)
        with pytest.raises(CheckpointError, match=reason):
            open_pose(path)
    whole = network(tmp_path / "pose.onnx").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot read it") as caught:
        open_pose(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="there is no pose network at"):
        open_pose(tmp_path / "nowhere.onnx")
    blind = network(path, metadata={"mean": "[0, 0, 0]", "std": "[1, 1, 1]"})
    found = open_pose(blind)
    object.__setattr__(found, "compute", lambda batch: [np.full((1, 17, 24, 18), np.nan)])
    with pytest.raises(CheckpointError, match="gives what is no number"):
        found.joints(person())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-parsing\[onnx\]'"):
        open_pose(blind)


def test_a_gaussian_s_peak_is_found_between_pixels() -> None:
    maps = np.zeros((17, 24, 18), np.float32)
    rows, columns = np.mgrid[:24, :18]
    truth = np.random.default_rng(0).uniform(3, 14, (17, 2))
    for joint, (x, y) in enumerate(truth):
        maps[joint] = 0.8 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    # The outermost places of a map are the outermost pixels of the input.
    scale = np.array([71 / 17, 95 / 23])
    found = joints_of_heatmaps(maps, (96, 72))
    assert np.abs(found[:, :2] - truth * scale).max() < 1e-3
    assert (found[:, 2] > 0.7).all()
    back = joints_of_heatmaps(mirrored_heatmaps(maps), (96, 72))
    assert np.allclose(back[mirrored_order(), 0], 71 - found[:, 0], atol=1e-3)
    corner = np.zeros((17, 24, 18), np.float32)
    corner[:, 0, 17] = 2
    assert joints_of_heatmaps(corner, (96, 72))[0].tolist() == [71, 0, 1]


def test_vectors_are_mirrored_by_pixels() -> None:
    along_x, along_y = np.zeros((17, 144), np.float32), np.zeros((17, 192), np.float32)
    columns = np.random.default_rng(0).integers(0, 143, 17)
    along_x[range(17), columns], along_y[:, 31] = 0.9, 0.4
    found = joints_of_vectors(along_x, along_y, 2)
    assert np.allclose(found, np.stack([columns / 2, np.full(17, 15.5), np.full(17, 0.4)], 1))
    turned = joints_of_vectors(*mirrored_vectors(along_x, along_y, 2), 2)
    assert np.allclose(turned[mirrored_order(), 0], 71 - found[:, 0])


def test_a_detector_of_the_user_s_labels_runs_and_folders(tmp_path: Path, reid_cache: Path) -> None:
    path = network(tmp_path / "pose.onnx")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(person()).save(folder / "a.png")
    chosen = ["-s", f'parsing.joints="{path}"', "-s", "parsing.mirror=false"]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        parsing, ["pictures", str(folder), "-o", str(out), "-f", "keypoints", *chosen]
    )
    assert done.exit_code == 0, done.output
    assert near(np.load(out / "keypoints" / "a.npy"))
    assert f"{path}: pictures are prepared as for ImageNet" in done.output
    done = CliRunner().invoke(parsing, ["evaluate", "-d", "toy:tiny", "-f", "keypoints", *chosen])
    assert "keypoints on 48 images of toy:tiny: PCK@0.1 " in done.output
    assert "PCK@0.2 torso " in done.output
    assembly = tiny_assembly(
        ("parsing",),
        {"plugins": {"parsing": {"joints": str(path)}}, "labels": {"keypoints": "parsing"}},
        cache=reid_cache,
    )
    made = [sample.fields["keypoints"] for sample in assembly.ctx.main.samples]
    assert all("labels" in Path(one).parts for one in made), "the cache has them, not the data"
