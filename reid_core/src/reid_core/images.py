"""Read an image file and resize it: what training and the stored embedder share.

Whatever is damaged raises a [DataError][reid_core.errors.DataError] that names the file: nothing is
filled up with grey.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, ImageOps

from reid_core.errors import DataError, reason_of

BROKEN = (
    OSError,
    SyntaxError,  # Pillow: a broken PNG
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What decoders raise when a file's content is not what its name says."""


_FAST_COLOURS = ("YCbCr", "Gray", "RGB")
"""Colour spaces in which simplejpeg's pixels equal Pillow's."""

_UNKNOWN = ("subsampling", "colorspace", "color space")
"""What simplejpeg names where it does not know a JPEG that may be whole."""

_NOTHING = bytes(32)
"""So many zero bytes in a scan are a hole, such as a lost sector leaves, where `_holed` says so."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as RGB, upright.

    Grey is repeated over the channels, palettes are looked up, CMYK is converted, alpha is dropped,
    16-bit grey keeps its upper byte. EXIF's orientation is applied.

    Args:
        path: a JPEG, or any other format that Pillow reads.

    Returns:
        uint8 ``H W 3``, contiguous.

    Raises:
        DataError: the file is missing or damaged, or is no 8- or 16-bit image.
    """
    data = read_bytes(path)
    try:
        if data.startswith(b"\xff\xd8") and (pixels := _fast_jpeg(data)) is not None:
            return pixels
        check_sums(data)
        with Image.open(io.BytesIO(data)) as image:
            return as_rgb(image)
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read as an image ({one_line(error)})") from error


def upright_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image as `read_image` gives it, as a rule from its header.

    Raises:
        DataError: see `read_image`.
    """
    with suppress(*BROKEN), Image.open(path) as image:
        if image.getexif().get(ExifTags.Base.Orientation) not in (5, 6, 7, 8):
            return image.height, image.width
    # Some formats' headers are turned already: those that lie on their side are decoded.
    height, width = read_image(path).shape[:2]
    return height, width


def _fast_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a JPEG, or return None where Pillow has to; what libjpeg only warns of is an error.

    Raises:
        ValueError: it is damaged.
    """
    fast: NDArray[np.uint8] | None = None
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        # Its colours from CMYK differ from Pillow's by a grey level, but it finds what is damaged.
        fast = simplejpeg.decode_jpeg(data, "RGB" if colours in _FAST_COLOURS else "CMYK")
    except ValueError as error:
        if not any(word in str(error).lower() for word in _UNKNOWN):
            raise ValueError(f"damaged JPEG: {error}") from error
    if _NOTHING in data and _holed(data):
        raise ValueError("damaged JPEG: a hole of zero bytes")
    alike = fast is not None and fast.shape[2] == 3 and b"Exif\0" not in data[: 1 << 16]
    return fast if alike else None


def _holed(data: bytes) -> bool:
    """Return whether a sequential JPEG's scans have zero bytes that no encoder writes.

    Where the shortest code of some component's coefficients does not end a block, zero bits fill
    all of it, block after block, with coefficients of one value.
    """
    at, firsts = 2, set()
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC2, 0xC9, 0xCA):  # progressive or arithmetic: other codes
            return False
        if marker == 0xC4:
            table, end = at + 4, at + 2 + length
            while table + 17 <= end:
                if data[table] & 0x10 and table + 17 < end:
                    firsts.add(data[table + 17])
                table += 17 + sum(data[table + 1 : table + 17])
        at += 2 + length
        if marker == 0xDA:
            return firsts != {0} and data.find(_NOTHING, at, data.find(b"\xff\xd9", at)) >= 0
    return False


def check_sums(data: bytes) -> None:
    """Compare the check sums of a PNG, which decoders skip; other formats have none.

    Raises:
        ValueError: a part is damaged or missing.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    at, kind = 8, b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"damaged PNG: a wrong check sum at byte {at}")
        at = end + 4
    if kind != b"IEND":
        raise ValueError("damaged PNG: its end is missing")


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as RGB, upright, uint8 ``H W 3``; see `read_image` for other colours.

    Raises:
        ValueError: its pixels have no known range.
    """
    written = image.format
    image.load()
    with suppress(*BROKEN):  # tags that cannot be read turn nothing
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and written == "PNG"):
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(grey[:, :, None], (*grey.shape, 3)))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    return np.array(image.convert("RGB"))


def one_line(error: BaseException) -> str:
    """Return a decoder's message as one line."""
    text = reason_of(error)
    # NumPy advises to unpickle, which runs the code of whoever wrote the file.
    text = text.split(" If you trust the file")[0]
    # Pillow prints the object that it read from; its address helps nobody.
    return text.split(" <_io.BytesIO")[0].replace(os.linesep, " ")


def crop_image(pixels: NDArray[np.uint8], box: ArrayLike) -> NDArray[np.uint8]:
    """Return the part of an image that a box shows; see `crop_bounds`.

    Args:
        pixels: uint8 ``H W 3``.
        box: left, top, right and bottom in pixels.

    Returns:
        uint8 ``h w 3``, contiguous.

    Raises:
        DataError: the box has no pixel of the image.
    """
    left, top, right, bottom = crop_bounds(pixels.shape, box)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def crop_bounds(shape: Sequence[int], box: ArrayLike) -> tuple[int, int, int, int]:
    """Return the edges of the pixels that a box shows; what of it lies outside is left out.

    Args:
        shape: of the image, its height and width first.
        box: left, top, right and bottom in pixels, right and bottom not included; fractions are
            rounded to the nearest edge.

    Returns:
        Left, top, right and bottom within the image.

    Raises:
        DataError: the box has no pixel of the image.
    """
    corners = np.asarray(box, np.float64)
    height, width = shape[:2]
    text = "(" + ", ".join(f"{value:g}" for value in corners) + ")"
    if not np.isfinite(corners).all():
        raise DataError(f"the box {text} is not finite")
    left, top, right, bottom = np.floor(corners + 0.5)
    if right <= left or bottom <= top:
        raise DataError(
            f"the box {text} is empty: it is left, top, right, bottom in pixels, not a width and a "
            "height, and no fraction of the image"
        )
    left, right = np.clip((left, right), 0, width)
    top, bottom = np.clip((top, bottom), 0, height)
    if right <= left or bottom <= top:
        raise DataError(f"the box {text} lies outside the image, which is {width} x {height}")
    return int(left), int(top), int(right), int(bottom)


def resize_image(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image with antialiased bilinear interpolation in uint8.

    Pillow's ``BILINEAR``, which torchvision calls on Pillow images: equal bit for bit when
    enlarging by whole factors or to 256 x 128, elsewhere within the rounding of torch's shorter
    weights (one grey level on photographs, two on noise).

    Args:
        pixels: uint8 ``h w 3``.
        size: height and width wanted.

    Returns:
        uint8 ``H W 3``, contiguous; ``pixels`` itself when it has the size already.
    """
    if pixels.shape[:2] == size:
        return pixels
    import torch
    from torch.nn.functional import interpolate

    # Only with a batch axis in front that has a stride does torch recognise interleaved pixels.
    writable = np.require(pixels, requirements=["C", "W"])  # torch warns of read-only memory
    image = torch.from_numpy(writable)[None].permute(0, 3, 1, 2)
    resized = interpolate(image, size=size, mode="bilinear", antialias=True)
    result: NDArray[np.uint8] = resized.permute(0, 2, 3, 1).numpy()[0]
    return result
