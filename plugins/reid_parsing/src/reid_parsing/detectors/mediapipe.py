"""MediaPipe's pose and silhouette networks, from the wheels that ship them.

Wheels up to 0.10.21 hold the networks as TensorFlow Lite files, but ask for a NumPy before 2; so
the files are read where they lie and run by LiteRT, and MediaPipe itself is never imported. What
happens between the networks follows its graphs ``pose_landmark_cpu`` and
``selfie_segmentation_cpu`` for a single picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import atan2, hypot, pi
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import CheckpointError, ConfigError, reason_of
from reid_parsing.archives import read_member
from reid_parsing.detectors.frames import Frame, around
from reid_parsing.detectors.heatmaps import mirrored_order

Floats = NDArray[Any]
Network = Callable[[Floats], Sequence[Floats]]

INSTALLED = "mediapipe"
"""Means the installed package, where there is one."""

PERSON = "pose_detection/pose_detection.tflite"
LANDMARKS = "pose_landmark/pose_landmark_full.tflite"
SILHOUETTE = "selfie_segmentation/selfie_segmentation.tflite"

COCO_OF_LANDMARKS = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""Which of MediaPipe's 33 landmarks is each of COCO's 17 joints."""

_SURE = 0.5
_OVERLAP = 0.3
_REACH = 3
_WIDER = 1.25

_REMEDY = (
    "pip download mediapipe==0.10.21 --no-deps --python-version 3.12 --only-binary=:all: brings one"
)


def files_of(given: Path) -> Path:
    """Return the wheel or folder that is meant: a path, or the package where it is installed.

    Raises:
        CheckpointError: there is neither.
    """
    if given.exists():
        return given
    if given.as_posix() == INSTALLED:
        spec = find_spec(INSTALLED)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            return Path(folder)
    raise CheckpointError(
        f"there is no wheel of MediaPipe at {given}, and nothing of it is installed; {_REMEDY} "
        "that holds the networks"
    )


def read_network(given: Path, name: str) -> bytes:
    """Return a network's file from a wheel, or from the folder of the package.

    Args:
        given: ``.whl``, or the folder ``mediapipe``.
        name: path below ``mediapipe/modules``.

    Raises:
        CheckpointError: it is none of both, is damaged, or holds no such network, as newer wheels
            do not.
    """
    path = files_of(given)
    if path.is_dir():
        inner = path / "mediapipe" if (path / "mediapipe").is_dir() else path
        file = inner / "modules" / name
        content = file.read_bytes() if file.is_file() else None
    else:
        content = read_member(path, f"mediapipe/modules/{name}", _REMEDY)
    if content is None:
        raise CheckpointError(
            f"{path} holds no {name.rpartition('/')[2]}, as MediaPipe's wheels do up to 0.10.21; "
            f"{_REMEDY}"
        )
    return content


def open_network(
    given: Path, name: str, taken: tuple[int, ...], gives: Sequence[tuple[int, ...]], threads: int
) -> Network:
    """Return a network that computes with LiteRT.

    Args:
        given: see `read_network`.
        name: see `read_network`.
        taken: shape of its input.
        gives: shapes of the outputs that are wanted, in this order.
        threads: to compute with.

    Raises:
        ConfigError: LiteRT is not installed.
        CheckpointError: the network is not there, is damaged, or takes or gives something else.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ConfigError(
            "MediaPipe's networks need LiteRT: pip install 'reid-parsing[mediapipe]'"
        ) from None
    content, where = read_network(given, name), f"{given}: {name}"
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except Exception as error:
        reason = reason_of(error, 160)
        raise CheckpointError(f"{where} is no network of LiteRT: {reason}") from None
    shapes = [tuple(int(n) for n in one["shape"]) for one in outputs]
    if [tuple(one["shape"]) for one in inputs] != [taken] or not set(gives) <= set(shapes):
        raise CheckpointError(
            f"{where} takes {[tuple(map(int, one['shape'])) for one in inputs]} and gives "
            f"{shapes}: another network than that of MediaPipe 0.10"
        )
    wanted = [outputs[shapes.index(shape)]["index"] for shape in gives]

    def compute(picture: Floats) -> Sequence[Floats]:
        interpreter.set_tensor(inputs[0]["index"], picture[None])
        interpreter.invoke()
        return [interpreter.get_tensor(index)[0] for index in wanted]

    return compute


@dataclass(frozen=True)
class MediaPipePose:
    """Find joints as MediaPipe's pose solution does, in pictures of one person each.

    Args:
        person: finds where somebody is, of ``224 224 3`` in -1..1.
        landmarks: finds 39 points, of ``256 256 3`` in 0..1.
    """

    person: Network
    landmarks: Network

    @classmethod
    def opened(cls, given: Path, threads: int = 1) -> MediaPipePose:
        """Open the networks of a wheel or folder; see `open_network`."""
        person = open_network(
            given, PERSON, (1, 224, 224, 3), [(1, 2254, 12), (1, 2254, 1)], threads
        )
        gives = [(1, 195), (1, 1), (1, 64, 64, 39)]
        return cls(person, open_network(given, LANDMARKS, (1, 256, 256, 3), gives, threads))

    def joints(self, image: NDArray[np.uint8], mirror: bool = False) -> Floats:
        """Return the joints of the person whom a picture shows.

        Args:
            image: uint8 ``h w 3``, RGB.
            mirror: average places and scores with those of the mirrored picture.

        Returns:
            float32 ``17 3``: x and y in pixels of the picture, and the visibility; all of that is
            0 where the network says that nobody is there.
        """
        found = self._once(image)
        if mirror:
            other = self._once(np.ascontiguousarray(image[:, ::-1]))
            other[:, 0] = image.shape[1] - 1 - other[:, 0]
            found = _average(found, other[mirrored_order()])
        return found

    def _once(self, image: NDArray[np.uint8]) -> Floats:
        return max((self._in(image, f) for f in self.frames(image)), key=lambda f: f[:, 2].mean())

    def _in(self, image: NDArray[np.uint8], frame: Frame) -> Floats:
        points, there, maps = self.landmarks(frame.cut(image, "border") / 255)
        points = points.reshape(39, 5)
        place = refined(points[:33, :2] / 256, maps[:, :, :33])[list(COCO_OF_LANDMARKS)]
        seen = _sigmoid(points[list(COCO_OF_LANDMARKS), 3])
        if there[0] < _SURE:
            seen = np.zeros_like(seen)
        return np.column_stack([frame.back(place * 256) - 0.5, seen]).astype(np.float32)

    def frames(self, image: NDArray[np.uint8]) -> list[Frame]:
        """Return a square around all, and where somebody is found one around them, upright.

        In pictures that are cut out around a person, what the networks find is often less; that of
        two answers counts which sees more. MediaPipe has no such rule: it was chosen on 80 of the
        480 test images of `synthpeople:quick`, by which the README scores it.
        """
        whole = around(image, (256, 256), _WIDER)
        frame = around(image, (224, 224))
        boxes, logits = self.person(frame.cut(image) / 127.5 - 1)
        found = person_of(boxes, logits[:, 0])
        if found is None:
            return [whole]
        middle, top = frame.back(found * 224).astype(float)
        side = 2 * _WIDER * hypot(*(top - middle))
        # The second point lies above the first: the square is turned until it does.
        angle = atan2(top[1] - middle[1], top[0] - middle[0]) + pi / 2
        return [whole, Frame((middle[0], middle[1]), (side, side), (256, 256), angle)]


@dataclass(frozen=True)
class MediaPipeSilhouette:
    """Find silhouettes as MediaPipe's selfie segmentation does.

    Args:
        network: of ``256 256 3`` in 0..1 the probability of a person in every pixel.
    """

    network: Network

    @classmethod
    def opened(cls, given: Path, threads: int = 1) -> MediaPipeSilhouette:
        """Open the network of a wheel or folder; see `open_network`."""
        side = (1, 256, 256)
        return cls(open_network(given, SILHOUETTE, (*side, 3), [(*side, 1)], threads))

    def silhouette(self, image: NDArray[np.uint8], mirror: bool = False) -> NDArray[np.uint8]:
        """Return where somebody is.

        Args:
            image: uint8 ``h w 3``, RGB.
            mirror: average with what is found in the mirrored picture.

        Returns:
            uint8 ``h w``: 1 where a person is likelier than not, 0 elsewhere.
        """
        height, width = image.shape[:2]
        whole = Frame((width / 2, height / 2), (width, height), (256, 256))
        seen = whole.cut(image, "border") / 255
        found = self.network(seen)[0]
        if mirror:
            found = (found + self.network(np.ascontiguousarray(seen[:, ::-1]))[0][:, ::-1]) / 2
        back = Frame((128, 128), (256, 256), (height, width))
        likely = back.cut(found, "border")
        return (likely[:, :, 0] > _SURE).astype(np.uint8)


def person_of(boxes: Floats, logits: Floats) -> Floats | None:
    """Return the two points by which a person is framed; None where nobody is found.

    Overlapping answers are averaged by their scores.

    Args:
        boxes: ``2254 12``: middle, size and four points, in pixels from each anchor.
        logits: ``2254``.

    Returns:
        float32 ``2 2``: the hips' middle, and a point above on the circle around the person, in
        shares of the input's sides.
    """
    scores = _sigmoid(logits.clip(-100, 100))
    sure = np.flatnonzero(scores >= _SURE)
    if not len(sure):
        return None
    found, scores = boxes[sure] / 224, scores[sure]
    found[:, :2] += anchors()[sure]
    found[:, 4:] += np.tile(anchors()[sure], 4)
    best = int(scores.argmax())
    near = _overlap(found[:, :4], found[best, :4]) > _OVERLAP
    near[best] = True
    weight = scores[near] / scores[near].sum()
    points: Floats = (weight @ found[near, 4:8]).reshape(2, 2).astype(np.float32)
    return points


def anchors() -> Floats:
    """Return the anchors' middles, ``2254 2``: x and y in shares of the input's sides."""
    made = []
    for stride, each in ((8, 2), (16, 2), (32, 6)):
        places = (np.arange(224 // stride) + 0.5) / (224 // stride)
        y, x = np.meshgrid(places, places, indexing="ij")
        made.append(np.repeat(np.stack([x, y], 2).reshape(-1, 2), each, 0))
    return np.concatenate(made).astype(np.float32)


def refined(points: Floats, maps: Floats) -> Floats:
    """Move points to the middle of what their heatmaps have around them.

    Args:
        points: ``J 2``: x and y in shares of the input's sides.
        maps: ``h w J``, logits.
    """
    height, width = maps.shape[:2]
    moved = points.copy()
    for joint, (x, y) in enumerate(points):
        column, row = int(x * width), int(y * height)
        if not (0 <= column < width and 0 <= row < height):
            continue
        rows = slice(max(0, row - _REACH), row + _REACH + 1)
        columns = slice(max(0, column - _REACH), column + _REACH + 1)
        near = _sigmoid(maps[rows, columns, joint])
        if near.max() >= _SURE:
            inner = np.indices(near.shape) + np.array([rows.start, columns.start])[:, None, None]
            place = (inner * near).sum((1, 2)) / near.sum()
            moved[joint] = place[1] / width, place[0] / height
    return moved


def _average(found: Floats, other: Floats) -> Floats:
    """Average two answers; where one says that nobody is there, the other counts alone."""
    if not other[:, 2].any():
        return found
    return (found + other) / 2 if found[:, 2].any() else other


def _overlap(boxes: Floats, box: Floats) -> Floats:
    """Return the intersection over union of boxes (middle, size) with one."""
    low = np.maximum(boxes[:, :2] - boxes[:, 2:] / 2, box[:2] - box[2:] / 2)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:] / 2, box[:2] + box[2:] / 2)
    shared = (high - low).clip(0).prod(1)
    whole = boxes[:, 2:].prod(1) + box[2:].prod() - shared
    share: Floats = (shared / np.maximum(whole, 1e-12)).astype(np.float32)
    return share


def _sigmoid(value: Floats) -> Floats:
    share: Floats = (1 / (1 + np.exp(-value.astype(np.float64)))).astype(np.float32)
    return share
