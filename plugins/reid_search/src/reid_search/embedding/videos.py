"""Frames of videos, by PyAV where it is installed (extra ``video``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core import ConfigError, DataError
from reid_core.errors import reason_of

VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"))


def is_video(path: Path) -> bool:
    """Return whether a file is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def frames_of(path: Path) -> int:
    """Return how many frames a video has, as decoding will count them.

    Raises:
        DataError: it is missing or no video.
        ConfigError: PyAV is not installed.
    """
    with _opened(path) as container:
        # What the header says is often missing or wrong.
        return sum(packet.size > 0 for packet in container.demux(video=0))


class VideoReader:
    """Read frames of one video by number, fastest in ascending order.

    Args:
        path: the video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = 0
        self._frames: Iterator[Any] = iter(())
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def read(self, number: int) -> NDArray[np.uint8]:
        """Return a frame as RGB, uint8 ``H W 3``.

        Raises:
            DataError: the video ends before it, or cannot be decoded.
        """
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        if number < self._next or self._next == 0:
            self._frames, self._next = self._decoded(), 0
        for frame in self._frames:
            self._next += 1
            if self._next == number + 1:
                pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                self._last = (number, pixels)
                return pixels
        raise DataError(f"{self.path}: has no frame {number}, only {self._next}")

    def _decoded(self) -> Iterator[Any]:
        with _opened(self.path) as container:
            yield from container.decode(video=0)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import av
    except ImportError:
        raise ConfigError(f"{path} is a video: pip install 'reid-search[video]'") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: has no pictures")
            yield container
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be decoded ({reason_of(error)})") from None
