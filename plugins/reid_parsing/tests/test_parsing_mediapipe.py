"""MediaPipe's networks, from wheels that the tests write: networks whose answers are known."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping, Sequence
from math import cos, exp, log, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from reid_core.contract.fields import COCO_JOINTS
from reid_core.errors import CheckpointError, ConfigError
from reid_core.testing.tiny import tiny_assembly
from reid_parsing.commands import parsing
from reid_parsing.detectors import mediapipe
from reid_parsing.detectors.frames import Frame, around
from reid_parsing.detectors.mediapipe import (
    COCO_OF_LANDMARKS,
    MediaPipePose,
    MediaPipeSilhouette,
    anchors,
    person_of,
    refined,
)
from reid_parsing.detectors.opening import key_of, open_joints

PICTURE = np.full((96, 48, 3), 90, np.uint8)
ANCHOR = 28 * 28 * 2 + 14 * 14 * 2 + 6 * (3 * 7 + 3)
"""The middle of the coarsest grid."""


def answering(taken: Sequence[int], gives: Sequence[NDArray[np.float32]]) -> bytes:
    """Return a network that gives the same, whatever it sees."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: Sequence[int], data: NDArray[np.float32] | None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), 0, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    graph.inputs = [tensor("in", taken, None)]
    graph.outputs = [tensor(f"out{n}", value.shape, value) for n, value in enumerate(gives)]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def answers(sure: float = 5.0, there: float = 1.0, seen: float = 2.0) -> dict[str, bytes]:
    """Return the three networks: somebody in the middle, landmarks on a diagonal, a left half."""
    boxes, logits = np.zeros((1, 2254, 12)), np.full((1, 2254, 1), -9.0)
    logits[0, ANCHOR] = sure
    boxes[0, ANCHOR, :8] = 0, 0, 112, 112, 0, 0, 0, -56
    points = np.zeros((39, 5))
    points[:, 0] = points[:, 1] = 4 * np.arange(39)
    points[:, 3] = seen
    half = np.zeros((1, 256, 256, 1))
    half[:, :, :128] = 1
    return {
        mediapipe.PERSON: answering((1, 224, 224, 3), [boxes, logits]),
        mediapipe.LANDMARKS: answering(
            (1, 256, 256, 3),
            [points.reshape(1, 195), np.full((1, 1), there), np.full((1, 64, 64, 39), -9.0)],
        ),
        mediapipe.SILHOUETTE: answering((1, 256, 256, 3), [half]),
    }


def wheel(path: Path, networks: Mapping[str, bytes], compression: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in networks.items():
            file.writestr(f"mediapipe/modules/{name}", content)
    return path


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheels") / "mediapipe-0.10.21.whl", answers())


def test_a_frame_cuts_and_brings_points_back() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (20, 10, 3), np.uint8)
    whole = Frame((5, 10), (10, 20), (20, 10))
    assert np.allclose(whole.cut(image), image, atol=1e-2)
    turned = Frame((5, 10), (20, 10), (10, 20), np.pi / 2)
    # x of the input runs down the picture: a quarter turn.
    assert np.allclose(turned.cut(image), np.rot90(image), atol=1e-2)
    assert np.allclose(turned.back(np.array([[0, 0], [20, 10]])), [[10, 0], [0, 20]], atol=1e-5)
    wide = around(image, (64, 48), 1.25)
    assert wide.extent == pytest.approx((18.75, 25))
    outside = wide.cut(image)
    assert outside[0, 0].tolist() == [0, 0, 0]
    assert np.allclose(wide.cut(image, "border")[0, 0], image[0, 0], atol=1e-2)


def test_joints_are_mediapipe_s_landmarks_in_the_picture(given: Path) -> None:
    found = MediaPipePose.opened(given)
    first, second = found.frames(PICTURE)
    assert first == around(PICTURE, (256, 256), 1.25)
    # The anchor is the picture's middle; the second point lies a quarter of the square of 96
    # pixels above it, and the person's circle is framed with a quarter more.
    assert second.centre == pytest.approx((24, 48), abs=1e-3)
    assert second.extent == pytest.approx((60, 60), abs=1e-3)
    assert second.angle == pytest.approx(0, abs=1e-5)
    joints = found.joints(PICTURE)
    assert joints.dtype == np.float32
    # Both frames see as much: the whole picture's is taken, 120 pixels of it on 256.
    numbers = np.array(COCO_OF_LANDMARKS)
    assert np.allclose(joints[:, 0], 24 - 60 + 4 * numbers * 120 / 256 - 0.5, atol=1e-3)
    assert np.allclose(joints[:, 1], 48 - 60 + 4 * numbers * 120 / 256 - 0.5, atol=1e-3)
    assert np.allclose(joints[:, 2], 1 / (1 + exp(-2)))
    mirrored = found.joints(PICTURE, mirror=True)
    assert mirrored[0, 0] == pytest.approx(23.5), "a nose that does not care for the mirror"


BODY: Mapping[str, tuple[float, float]] = {
    "nose": (0, -34),
    **{f"{side} eye": (sign * 4, -38) for side, sign in (("left", 1), ("right", -1))},
    **{f"{side} ear": (sign * 9, -31) for side, sign in (("left", 1), ("right", -1))},
    **{f"{side} shoulder": (sign * 12, -22) for side, sign in (("left", 1), ("right", -1))},
    **{f"{side} elbow": (sign * 19, -13) for side, sign in (("left", 1), ("right", -1))},
    "left wrist": (26, -4),
    "right wrist": (-22, -4),
    **{f"{side} hip": (sign * 9, 0) for side, sign in (("left", 1), ("right", -1))},
    **{f"{side} knee": (sign * 11, 17) for side, sign in (("left", 1), ("right", -1))},
    "left ankle": (12, 36),
    "right ankle": (-8, 36),
}
"""Pixels from the hips' middle of somebody who faces the camera: their left is on the right."""

LANDMARK_NUMBERS = {
    "nose": 0,
    "left eye": 2,
    "right eye": 5,
    "left ear": 7,
    "right ear": 8,
    "left shoulder": 11,
    "right shoulder": 12,
    "left elbow": 13,
    "right elbow": 14,
    "left wrist": 15,
    "right wrist": 16,
    "left hip": 23,
    "right hip": 24,
    "left knee": 25,
    "right knee": 26,
    "left ankle": 27,
    "right ankle": 28,
}
"""As MediaPipe documents them."""

KINDS = list(dict.fromkeys(name.split()[-1] for name in BODY))


def lying(slant: float) -> tuple[NDArray[np.uint8], dict[str, tuple[float, float]]]:
    """Draw dots, both of a kind alike, of somebody turned by an angle from x towards y."""
    image = np.zeros((120, 120, 3), np.uint8)
    rows, columns = np.mgrid[:120, :120]
    places = {}
    for name, (right, down) in BODY.items():
        x = 59 + right * cos(slant) - down * sin(slant)
        y = 61 + right * sin(slant) + down * cos(slant)
        places[name] = x, y
        dot = np.hypot(columns - x, rows - y) <= 2.2
        image[dot] = 20 + 25 * KINDS.index(name.split()[-1]), 250, 0
    return image, places


def seen_dots(seen: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return where dots are in what a network sees, 0..1; the one on the right is a left one."""
    shares = seen[:, :, 0] / np.maximum(seen[:, :, 1], 1e-6)
    found = {}
    for number, kind in enumerate(KINDS):
        mask = (seen[:, :, 1] > 0.5) & (np.abs(shares - (20 + 25 * number) / 250) < 0.04)
        rows, columns = np.nonzero(mask)
        middle = (columns.min() + columns.max()) / 2
        sides = {f"left {kind}": columns > middle, f"right {kind}": columns < middle}
        for name, half in sides.items() if kind != "nose" else [(kind, columns >= 0)]:
            found[name] = np.array([columns[half].mean() + 0.5, rows[half].mean() + 0.5])
    return found


def find_person(seen: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
    dots = seen_dots((seen + 1) / 2)
    boxes, logits = np.zeros((2254, 12), np.float32), np.full((2254, 1), -9, np.float32)
    middle = (dots["left hip"] + dots["right hip"]) / 2
    logits[ANCHOR] = 5
    boxes[ANCHOR, :8] = 0, 0, 112, 112, *(middle - 112), *(2 * (dots["nose"] - middle) * 0.7)
    boxes[ANCHOR, 6:8] += middle - 112
    return [boxes, logits]


def find_landmarks(seen: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
    """See the better, the more upright somebody is."""
    dots = seen_dots(seen)
    points = np.zeros((39, 5), np.float32)
    for name, place in dots.items():
        points[LANDMARK_NUMBERS[name], :2] = place
    up = (dots["left hip"] + dots["right hip"]) / 2 - dots["nose"]
    points[:, 3] = 4 * up[1] / np.hypot(*up)
    return [points.reshape(195), np.ones(1, np.float32), np.full((64, 64, 39), -9, np.float32)]


@pytest.mark.parametrize("slant", [0.0, 1.1, -1.1])
@pytest.mark.parametrize("mirror", [False, True])
def test_left_is_left_however_somebody_lies(slant: float, mirror: bool) -> None:
    image, places = lying(slant)
    found = MediaPipePose(find_person, find_landmarks)
    assert found.frames(image)[1].angle == pytest.approx(slant, abs=0.02)
    joints = found.joints(image, mirror)
    assert np.allclose(joints[:, :2], [places[name] for name in COCO_JOINTS], atol=0.8)
    assert np.allclose(joints[9:11, :2], [places["left wrist"], places["right wrist"]], atol=0.8)
    # Upright in the square around them, and seen the better for it than in the whole picture.
    assert np.allclose(joints[:, 2], 1 / (1 + exp(-4)), atol=2e-3)


def test_the_whole_picture_counts_where_it_shows_more() -> None:
    image, places = lying(0.0)

    def astray(seen: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        boxes, logits = find_person(seen)
        boxes[ANCHOR, 6:8] = boxes[ANCHOR, 4:6] + [70, 0]  # as if the head lay on the right
        return [boxes, logits]

    found = MediaPipePose(astray, find_landmarks)
    assert found.frames(image)[1].angle == pytest.approx(np.pi / 2, abs=0.02)
    joints = found.joints(image)
    assert np.allclose(joints[:, :2], [places[name] for name in COCO_JOINTS], atol=0.8)
    assert np.allclose(joints[:, 2], 1 / (1 + exp(-4)), atol=2e-3)


def test_whom_the_network_does_not_see_has_no_score(tmp_path: Path) -> None:
    path = wheel(tmp_path / "w.whl", answers(sure=-5, there=0.1))
    found = MediaPipePose.opened(path)
    assert found.frames(PICTURE) == [around(PICTURE, (256, 256), 1.25)]
    assert not found.joints(PICTURE, mirror=True)[:, 2].any()
    assert np.isfinite(found.joints(PICTURE)).all()


def test_overlapping_people_are_averaged_and_others_left_alone() -> None:
    boxes, logits = np.zeros((2254, 12), np.float32), np.full(2254, -9, np.float32)
    assert person_of(boxes, logits) is None
    boxes[:, 2:4] = 40
    # Three anchors of one place: two agree, one is somebody else.
    logits[ANCHOR : ANCHOR + 3] = log(9), log(9), log(4)
    boxes[ANCHOR, 4:8] = 0, 0, 0, -20
    boxes[ANCHOR + 1, 4:8] = 2, 0, 0, -40
    boxes[ANCHOR + 2, :2] = 100
    found = person_of(boxes, logits)
    assert found is not None
    assert np.allclose(found * 224, [[113, 112], [112, 82]], atol=1e-3)


def test_anchors_lie_in_the_middle_of_their_squares() -> None:
    found = anchors()
    assert found.shape == (2254, 2)
    assert np.allclose(found[:3] * 224, [[4, 4], [4, 4], [12, 4]])
    assert np.allclose(found[ANCHOR], 0.5)


def test_points_move_to_the_middle_of_their_heatmap() -> None:
    points = np.float32([[0.5, 0.25], [0.5, 0.25], [1.5, 0.5]])
    maps = np.full((64, 64, 3), -30, np.float32)
    maps[17, 33, 0] = maps[17, 34, 0] = 9
    maps[17, 33, 1] = -2
    found = refined(points, maps)
    assert np.allclose(found[0] * 64, [33.5, 17], atol=1e-2)
    assert found[1:].tolist() == points[1:].tolist(), "unsure, or outside"


def test_silhouettes_have_the_picture_s_size(given: Path) -> None:
    found = MediaPipeSilhouette.opened(given)
    labels = found.silhouette(PICTURE)
    assert labels.dtype == np.uint8
    assert labels[:, :24].all()
    assert not labels[:, 24:].any()
    # Mirrored it is the other half, and nobody is likelier than not.
    assert not found.silhouette(PICTURE, mirror=True).any()


def test_wheels_of_another_kind_are_one_line(
    tmp_path: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = wheel(tmp_path / "newer.whl", {})
    broken = wheel(tmp_path / "broken.whl", {**answers(), mediapipe.PERSON: b"nothing"})
    swapped = answers()
    swapped[mediapipe.PERSON] = swapped[mediapipe.LANDMARKS]
    other = wheel(tmp_path / "other.whl", swapped)
    text = tmp_path / "text.whl"
    text.write_text("no archive")
    deflated = wheel(tmp_path / "deflated.whl", answers(), zipfile.ZIP_DEFLATED)
    content = bytearray(deflated.read_bytes())
    with zipfile.ZipFile(deflated) as file:
        first = file.infolist()[0]
    content[first.header_offset + 30 + len(first.filename)] |= 0b110  # there is no such block
    deflated.write_bytes(content)
    for path, reason in (
        (newer, r"holds no pose_detection\.tflite, as MediaPipe's wheels do up to 0\.10\.21; pip"),
        (broken, r"pose_detection\.tflite is no network of LiteRT"),
        (other, r"takes \[\(1, 256, 256, 3\)\] and gives .* another network than that"),
        (text, r"text\.whl is no wheel, or a damaged one \(.*\); pip download mediapipe"),
        (deflated, r"deflated\.whl is no wheel, or a damaged one \(Error -3"),
        (tmp_path / "nowhere.whl", "there is no wheel of MediaPipe at"),
        (tmp_path, r"holds no pose_detection\.tflite"),
    ):
        with pytest.raises(CheckpointError, match=reason) as caught:
            open_joints(path)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(mediapipe, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="nothing of it is installed; pip download"):
        open_joints(Path("mediapipe"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-parsing\[mediapipe\]'"):
        open_joints(given)


def test_an_installed_package_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in answers().items():
        path = tmp_path / "mediapipe" / "modules" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    networks = (mediapipe.PERSON, mediapipe.LANDMARKS)
    key = key_of(tmp_path, networks)
    assert key == key_of(tmp_path / "mediapipe", networks)
    assert key != key_of(tmp_path, (mediapipe.SILHOUETTE,))

    class Spec:
        submodule_search_locations = (str(tmp_path / "mediapipe"),)

    monkeypatch.setattr(mediapipe, "find_spec", lambda name: Spec)
    assert key == key_of(Path("mediapipe"), networks)
    assert open_joints(Path("mediapipe")).joints(PICTURE).shape == (17, 3)


def invoke(*arguments: Any) -> str:
    done = CliRunner().invoke(parsing, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_silhouettes_of_folders_sets_and_runs(
    tmp_path: Path, given: Path, reid_cache: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(PICTURE).save(folder / "a.png")
    chosen = ["-s", f'parsing.silhouettes="{given}"', "-s", "parsing.mirror=false"]
    out = tmp_path / "out"
    invoke("pictures", folder, "-o", out, "-f", "silhouette", *chosen)
    with Image.open(out / "silhouette" / "a.png") as labels:
        assert np.asarray(labels)[:, :24].all()
    said = invoke("evaluate", "-d", "toy:tiny", "-f", "silhouette", *chosen)
    assert said.startswith("silhouette on 48 images of toy:tiny: pixel accuracy ")
    assert "person" in said
    labelled = tmp_path / "labelled"
    invoke("label", "-d", "toy:tiny", "--split", "all", "-f", "silhouette", "-o", labelled, *chosen)
    assembly = tiny_assembly((), {"fields": {"silhouette": str(labelled)}}, cache=reid_cache)
    assert assembly.ctx.main.samples[0].fields["silhouette"].parent == labelled / "train"
    with pytest.raises(ConfigError, match=r"not 'silhouette'; -s parsing\.silhouettes=FILE names"):
        invoke("label", "-d", "toy:tiny", "-f", "silhouette", "-o", tmp_path / "no")
    with pytest.raises(ConfigError, match=r"silhouettes need a detector: set -s parsing\.silh"):
        invoke("pictures", folder, "-o", tmp_path / "no", "-f", "silhouette")
