"""Encoding images, label maps and arrays as side-car files, and writing files whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_core.outputs import whole_file


def image_bytes(image: NDArray[np.uint8], quality: int | None = None) -> bytes:
    """Encode an RGB image as PNG, or as JPEG where a quality is given.

    Args:
        image: uint8 ``3 H W``.
        quality: JPEG quality, 1 to 95.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return _encoded(picture, quality)


def label_bytes(labels: NDArray[np.uint8]) -> bytes:
    """Encode a label map as a palette PNG in which every class has a colour of its own.

    Args:
        labels: uint8 ``H W``.
    """
    picture = Image.fromarray(np.ascontiguousarray(labels))
    picture.putpalette(label_colours().tobytes())
    return _encoded(picture)


def array_bytes(array: NDArray[Any]) -> bytes:
    """Encode an array as ``.npy``."""
    memory = io.BytesIO()
    np.save(memory, array, allow_pickle=False)
    return memory.getvalue()


def write_whole(path: Path, data: bytes) -> None:
    """Write one file of many whole.

    Args:
        path: the file; see `reid_core.whole_file`.
        data: its content.

    Raises:
        OutputError: see `reid_core.whole_file`.
    """
    with whole_file(path, durable=False) as part:
        part.write_bytes(data)


def label_colours() -> NDArray[np.uint8]:
    """Return 256 different colours, uint8 ``256 3``; class 0 is black.

    Pascal VOC's colours: the bits of the class number in turn become the highest free bits of red,
    green and blue.
    """
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        colours[:, bit % 3] |= ((numbers >> bit) & 1) << (7 - bit // 3)
    return colours.astype(np.uint8)


def _encoded(picture: Image.Image, quality: int | None = None) -> bytes:
    memory = io.BytesIO()
    if quality is None:
        picture.save(memory, "PNG", compress_level=1)
    else:
        picture.save(memory, "JPEG", quality=quality)
    return memory.getvalue()
