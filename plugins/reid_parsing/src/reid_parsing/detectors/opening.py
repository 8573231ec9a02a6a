"""From a file of the user's to what labels pictures with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from reid_core.contract.samples import Sample
from reid_core.errors import CheckpointError
from reid_core.images import read_image
from reid_parsing.detectors import mediapipe
from reid_parsing.detectors.pose_onnx import described_beside, open_pose

Value = TypeVar("Value", bound=NDArray[Any])


class FindsJoints(Protocol):
    """A detector of joints."""

    def joints(self, image: NDArray[Any], mirror: bool = ...) -> NDArray[Any]:
        """Return float32 ``17 3`` of an image ``h w 3``: x, y in its pixels, and a score."""


def open_joints(
    given: Path, threads: int = 1, say: Callable[[str], None] | None = None
) -> FindsJoints:
    """Open what finds joints: ``.onnx`` of RTMPose or ViTPose, otherwise MediaPipe's wheel.

    Args:
        given: the file, or MediaPipe's folder.
        threads: to compute with.
        say: see `open_pose`.

    Raises:
        ConfigError: what runs it is not installed.
        CheckpointError: it is none of them.
    """
    if given.suffix.lower() == ".onnx":
        return open_pose(given, threads, say)
    return mediapipe.MediaPipePose.opened(given, threads)


def open_silhouettes(given: Path, threads: int = 1) -> mediapipe.MediaPipeSilhouette:
    """Open what finds silhouettes: MediaPipe's wheel.

    Raises:
        ConfigError: LiteRT is not installed.
        CheckpointError: it is no such wheel.
    """
    return mediapipe.MediaPipeSilhouette.opened(given, threads)


def key_of(given: Path, networks: Sequence[str]) -> str:
    """Return what identifies a detector: the content of its networks, and what stands beside it.

    Args:
        given: ``.onnx``, or MediaPipe's wheel or folder.
        networks: which of MediaPipe's.

    Raises:
        CheckpointError: a file is not there.
    """
    digest = hashlib.sha256()
    if given.suffix.lower() != ".onnx":
        for name in networks:
            digest.update(mediapipe.read_network(given, name))
        return digest.hexdigest()
    try:
        with given.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError:
        raise CheckpointError(f"there is no pose network at {given}") from None
    for beside in described_beside(given):
        digest.update(beside.read_bytes())
    return digest.hexdigest()


class EachPicture(Sequence[Value]):
    """What is found in many pictures, one after the other, while they are gone through.

    Args:
        samples: the pictures.
        find: of an image uint8 ``h w 3``, a value.
    """

    def __init__(self, samples: Sequence[Sample], find: Callable[[NDArray[Any]], Value]) -> None:
        self._samples, self._find = samples, find

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Value:  # type: ignore[override]
        """Return what is in one picture, found anew."""
        return self._find(read_image(self._samples[place].path))

    def __iter__(self) -> Iterator[Value]:
        """Yield what is in each picture, in the samples' order."""
        return (self[place] for place in range(len(self)))
