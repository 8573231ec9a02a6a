"""Pixels of items, decoded by threads ahead of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError
from reid_core.images import crop_image, read_image, resize_image
from reid_search.embedding.inputs import Item, printable
from reid_search.embedding.videos import VideoReader, is_video

_AHEAD = 3
"""Batches that are prepared beyond the one in use."""

_TASK = 16
"""Rows that a thread decodes per task."""


@dataclass
class Pixels:
    """A batch.

    Args:
        items: what it shows.
        images: uint8 ``B H W 3``; rows of what cannot be read are black.
        unread: why, by row, ready to be printed.
    """

    items: Sequence[Item]
    images: NDArray[np.uint8]
    unread: dict[int, str] = field(default_factory=dict)


class PixelLoader:
    """Decode, crop and resize items in threads.

    Args:
        size: height and width wanted.
        threads: that decode pictures; videos have one more of their own.
    """

    def __init__(self, size: tuple[int, int], threads: int = 2) -> None:
        self._size, self._threads = size, threads
        self._video: VideoReader | None = None

    def load(self, batches: Iterable[Sequence[Item]]) -> Generator[Pixels]:
        """Yield the pixels of every batch, in order; batches are asked for some ahead."""
        waiting: deque[tuple[Pixels, list[Future[None]]]] = deque()
        pending = iter(batches)
        with (
            ThreadPoolExecutor(self._threads, "decode") as pool,
            # One frame follows from another: a video is decoded by one thread, in order.
            ThreadPoolExecutor(1, "decode-video") as videos,
        ):
            try:
                while True:
                    while len(waiting) <= _AHEAD and (items := next(pending, None)) is not None:
                        waiting.append(self._start(items, pool, videos))
                    if not waiting:
                        return
                    pixels, tasks = waiting.popleft()
                    for task in tasks:
                        task.result()
                    yield pixels
            finally:
                for _, tasks in waiting:
                    for task in tasks:
                        task.cancel()

    def _start(
        self, items: Sequence[Item], pool: ThreadPoolExecutor, videos: ThreadPoolExecutor
    ) -> tuple[Pixels, list[Future[None]]]:
        pixels = Pixels(items, np.zeros((len(items), *self._size, 3), np.uint8))
        tasks = []
        for rows in _runs(items):
            thread = videos if is_video(Path(items[rows[0]]["path"])) else pool
            tasks.append(thread.submit(self._fill, pixels, rows))
        return pixels, tasks

    def _fill(self, pixels: Pixels, rows: range) -> None:
        last: tuple[str, NDArray[np.uint8]] | None = None
        for row in rows:
            item = pixels.items[row]
            path = item["path"]
            try:
                if is_video(Path(path)):
                    frame = self._frame(path, item["frame"])
                elif last is not None and last[0] == path:
                    frame = last[1]
                else:
                    frame = read_image(Path(path))
                    last = (path, frame)
                shown = crop_image(frame, item["box"]) if "box" in item else frame
                pixels.images[row] = resize_image(shown, self._size)
            except DataError as error:
                text = str(error)
                pixels.unread[row] = printable(text if path in text else f"{path}: {text}")

    def _frame(self, path: str, number: int) -> NDArray[np.uint8]:
        if self._video is None or str(self._video.path) != path:
            self._video = VideoReader(Path(path))
        return self._video.read(number)


def _runs(items: Sequence[Item]) -> Iterator[range]:
    """Yield rows that one thread decodes: crops of one frame stay together, videos alone."""
    start = 0
    for row in range(1, len(items)):
        path, before = Path(items[row]["path"]), Path(items[row - 1]["path"])
        full = row - start >= _TASK and path != before
        if full or is_video(path) != is_video(before):
            yield range(start, row)
            start = row
    if items:
        yield range(start, len(items))
