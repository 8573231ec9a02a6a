"""RTMPose and ViTPose from ONNX files: what a file takes and gives is read from it, and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_core.errors import CheckpointError, ConfigError, reason_of
from reid_parsing.detectors.frames import around
from reid_parsing.detectors.heatmaps import (
    joints_of_heatmaps,
    joints_of_vectors,
    mirrored_heatmaps,
    mirrored_vectors,
)

PADDING = 1.25
"""Both projects show their networks a person's box with a quarter more on each side's length."""

COUNTS = {17: "COCO", 26: "Halpe", 133: "COCO-WholeBody"}
"""Numbers of joints whose first 17 are COCO's, and whose order that is."""

_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Contract:
    """What a file takes.

    Args:
        size: height and width of the input.
        last: whether channels come last, ``1 H W 3``.
        kind: type of the input; uint8 takes pixels as they are.
        mean, deviation: of pixels in 0..255, in the order of the channels.
        blue_first: whether channels are BGR.
    """

    size: tuple[int, int]
    last: bool
    kind: type[np.generic]
    mean: tuple[float, ...] = tuple(255 * value for value in IMAGENET_MEAN)
    deviation: tuple[float, ...] = tuple(255 * value for value in IMAGENET_STD)
    blue_first: bool = False

    def batch(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        """Return ``H W 3`` RGB in 0..255 as the file takes it, with a batch axis."""
        if self.blue_first:
            pixels = pixels[:, :, ::-1]
        if self.kind is np.uint8:
            pixels = pixels.round()
        else:
            mean, deviation = np.asarray((self.mean, self.deviation), np.float32)
            pixels = (pixels - mean) / deviation
        shaped = pixels if self.last else pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(shaped[None].astype(self.kind))


@dataclass(frozen=True)
class PoseNetwork:
    """A network that finds 17 joints of one person; see `open_pose`.

    Args:
        path: its file.
        contract: what it takes.
        kind: ``simcc`` (RTMPose) or ``heatmaps`` (ViTPose).
        compute: of an input, the outputs that hold joints: ``1 J ...`` each.
        ratio: places per pixel of SimCC's vectors.
    """

    path: Path
    contract: Contract
    kind: str
    compute: Callable[[NDArray[Any]], Arrays]
    ratio: float = 1.0

    def joints(self, image: NDArray[np.uint8], mirror: bool = True) -> NDArray[np.float32]:
        """Return the joints of the person whom a picture shows.

        Args:
            image: uint8 ``h w 3``, RGB, cut out around the person.
            mirror: average with what is found in the mirrored picture.

        Returns:
            float32 ``17 3``: x and y in pixels of the picture, and how sure the network is.

        Raises:
            CheckpointError: the network gives what is no number.
        """
        frame = around(image, self.contract.size, PADDING)
        seen = frame.cut(image)
        outputs = self._outputs(seen)
        if mirror:
            other = self._outputs(np.ascontiguousarray(seen[:, ::-1]))
            turned = (
                mirrored_vectors(other[0], other[1], self.ratio)
                if self.kind == "simcc"
                else (mirrored_heatmaps(other[0]),)
            )
            outputs = [(own + its) / 2 for own, its in zip(outputs, turned, strict=True)]
        found = (
            joints_of_vectors(outputs[0], outputs[1], self.ratio)
            if self.kind == "simcc"
            else joints_of_heatmaps(outputs[0], self.contract.size)
        )
        found[:, :2] = frame.back(found[:, :2] + 0.5) - 0.5
        return found

    def _outputs(self, pixels: NDArray[np.float32]) -> Arrays:
        outputs = [one[0, :17] for one in self.compute(self.contract.batch(pixels))]
        if not all(np.isfinite(one).all() for one in outputs):
            raise CheckpointError(f"{self.path}: the network gives what is no number")
        return outputs


def open_pose(
    path: Path, threads: int = 1, say: Callable[[str], None] | None = None
) -> PoseNetwork:
    """Open an ONNX file of RTMPose (``simcc_x``, ``simcc_y``) or of ViTPose (heatmaps).

    Size, channels' place and type are the input's own. Mean and deviation are those of the file's
    metadata (``mean``, ``std``), of mmdeploy's ``pipeline.json`` or of Hugging Face's
    ``preprocessor_config.json`` beside it (see `described_beside`); otherwise ImageNet's, with
    which both projects train. What comes out is looked at once.

    Args:
        path: the file.
        threads: to compute with.
        say: is told in a line who says how pictures are prepared.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        CheckpointError: there is no such file, it is no network, or none that finds joints so.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "a pose network in ONNX needs onnxruntime: pip install 'reid-parsing[onnx]'"
        ) from None
    if not path.is_file():
        raise CheckpointError(f"there is no pose network at {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise _foreign(path, f"ONNX Runtime cannot read it ({reason_of(error, 160)})") from None
    described, teller = _described(path, session)
    contract = _contract(path, session.get_inputs(), described)
    name = session.get_inputs()[0].name
    try:
        blank = np.zeros((*contract.size, 3), np.float32)
        tried = session.run(None, {name: contract.batch(blank)})
    except Exception as error:
        raise _foreign(path, f"it does not compute ({reason_of(error, 160)})") from None
    names = [one.name for one in session.get_outputs()]
    shapes = {n: np.shape(value) for n, value in zip(names, tried, strict=True)}
    kind, wanted, ratio = _layout(path, shapes, contract.size)

    if say is not None:
        say(f"{path}: pictures are prepared as {teller}")

    def compute(batch: NDArray[Any]) -> Arrays:
        return [np.asarray(one, np.float32) for one in session.run(wanted, {name: batch})]

    return PoseNetwork(path, contract, kind, compute, ratio)


def _layout(
    path: Path, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]
) -> tuple[str, list[str], float]:
    """Return which outputs hold joints, of which kind, and the places per pixel of vectors."""
    listed = ", ".join(f"{n} {' x '.join(map(str, s))}" for n, s in shapes.items())
    vectors = [n for n, s in shapes.items() if len(s) == 3 and s[0] == 1]
    maps = [n for n, s in shapes.items() if len(s) == 4 and s[0] == 1]
    if {"simcc_x", "simcc_y"} <= set(shapes):
        vectors = ["simcc_x", "simcc_y"]
    if len(vectors) == 2 and not maps:
        (_, count, wide), (_, other, high) = (shapes[n] for n in vectors)
        ratio = wide / size[1]
        if count != other or ratio < 1 or ratio != round(ratio) or high != ratio * size[0]:
            raise _foreign(
                path,
                f"{listed} are not whole multiples of the columns and rows of "
                f"{size[0]} x {size[1]} pixels",
            )
        kind, names = "simcc", vectors
    elif len(maps) == 1:
        _, count, high, wide = shapes[maps[0]]
        if high < 3 or wide < 3 or high * size[1] != wide * size[0]:
            raise _foreign(
                path, f"the heatmaps ({listed}) have another shape than {size[0]} x {size[1]}"
            )
        kind, names, ratio = "heatmaps", maps, 1.0
    else:
        raise _foreign(
            path, f"it gives {listed}, neither heatmaps 1 x J x h x w nor simcc_x and simcc_y"
        )
    if count not in COUNTS:
        known = ", ".join(f"{n} ({order})" for n, order in COUNTS.items())
        raise _foreign(path, f"it finds {count} joints; those of {known} can be read")
    return kind, names, ratio


def _contract(path: Path, inputs: Sequence[Any], described: Mapping[str, Any]) -> Contract:
    shapes = "; ".join(f"{one.name}: {' x '.join(map(str, one.shape))}" for one in inputs)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise _foreign(path, f"it takes {shapes}, not one picture")
    given = inputs[0]
    if given.type not in _TYPES:
        raise _foreign(path, f"its input is of {given.type}, not of real numbers or pixels")
    axes = [axis if isinstance(axis, int) else None for axis in given.shape]
    if axes[0] not in (None, 1):
        raise _foreign(path, f"it takes {axes[0]} pictures at once; export it for one")
    last = axes[3] == 3 and axes[1] != 3
    if not last and axes[1] not in (None, 3):
        raise _foreign(path, f"it takes {shapes}: no axis of three channels")
    size = axes[1:3] if last else axes[2:4]
    told = described.get("size", size)
    for own, its in zip(size, told, strict=True):
        if own is not None and its is not None and own != its:
            raise _foreign(path, f"it takes {shapes}, but beside it stands {told[0]} x {told[1]}")
    found = [its if own is None else own for own, its in zip(size, told, strict=True)]
    if found[0] is None or found[1] is None:
        raise _foreign(
            path,
            f"it takes {shapes}: height and width are open; export it with fixed ones, or put "
            "its preprocessor_config.json or pipeline.json beside it",
        )
    more = {key: described[key] for key in ("mean", "deviation", "blue_first") if key in described}
    return Contract((found[0], found[1]), last, _TYPES[given.type], **more)


def _described(path: Path, session: Any) -> tuple[dict[str, Any], str]:
    """Return size, mean, deviation and order of channels as far as they are told, and by whom."""
    metadata = session.get_modelmeta().custom_metadata_map
    if "mean" in metadata or "std" in metadata:
        return _pixels(path, metadata.get("mean"), metadata.get("std")), "its metadata say"
    for beside in described_beside(path):
        try:
            told = _BESIDE[beside.name](beside, json.loads(beside.read_text("utf-8")))
            return told, f"{beside} says"
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise CheckpointError(
                f"{beside} does not say how pictures are prepared ({reason_of(error, 160)})"
            ) from None
    return {}, "for ImageNet: nothing beside it says otherwise"


def described_beside(path: Path) -> list[Path]:
    """Return the file that says how a network's pictures are prepared, or none.

    Args:
        path: the network. The folder above is looked at only where its own is named ``onnx``, as
            Hugging Face keeps networks: anywhere else it may hold another network's.
    """
    own = path.absolute().parent
    folders = (own, own.parent) if own.name == "onnx" else (own,)
    files = (folder / name for folder in folders for name in _BESIDE)
    return [file for file in files if file.is_file()][:1]


def _mmdeploy(path: Path, content: Any) -> dict[str, Any]:
    steps = [s for task in content["pipeline"]["tasks"] for s in task.get("transforms", ())]
    found: dict[str, Any] = {}
    for step in steps:
        if step["type"] == "TopDownAffine":
            width, height = step["image_size"]
            found["size"] = (int(height), int(width))
        if step["type"] == "Normalize":
            found |= _pixels(path, step["mean"], step["std"])
            found["blue_first"] = not step.get("to_rgb", True)
    return found


def _hub(path: Path, content: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "size" in content:
        found["size"] = (int(content["size"]["height"]), int(content["size"]["width"]))
    if content.get("do_normalize", True):
        found |= _pixels(path, content["image_mean"], content["image_std"])
    else:
        found |= {"mean": (0.0,) * 3, "deviation": (255.0,) * 3}
    return found


_BESIDE: Mapping[str, Callable[[Path, Any], dict[str, Any]]] = {
    "pipeline.json": _mmdeploy,
    "preprocessor_config.json": _hub,
}


def _pixels(path: Path, mean: Any, deviation: Any) -> dict[str, Any]:
    """Return mean and deviation of pixels in 0..255; those of 0..1 are scaled."""
    numbers = []
    for given in (mean, deviation):
        try:
            value = json.loads(given) if isinstance(given, str) else given
            numbers.append(np.asarray(value, np.float64))
        except (ValueError, TypeError):
            numbers.append(np.zeros(0))
    if any(n.shape != (3,) or not np.isfinite(n).all() for n in numbers) or (numbers[1] <= 0).any():
        raise CheckpointError(
            f"{path}: mean {mean} and std {deviation} are not three numbers each, the latter "
            "above 0"
        )
    # No colour varies by less than one of 255 levels, and none of 0..1 by more than one.
    scale = 255.0 if (numbers[1] <= 1).all() and (np.abs(numbers[0]) <= 1).all() else 1.0
    return {"mean": tuple(numbers[0] * scale), "deviation": tuple(numbers[1] * scale)}


def _foreign(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is no pose network of RTMPose or ViTPose: {reason}")
