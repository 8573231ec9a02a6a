"""Read an image file and resize it: what training and the stored embedder share."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from reid_core.errors import DataError

try:
    import simplejpeg
except ImportError:  # the optional extra "fast"
    simplejpeg = None

CODEC = "Pillow" if simplejpeg is None else "simplejpeg"
"""What decodes JPEG here."""


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


_TRUNCATED = "premature end"
"""How libjpeg calls missing image data; decoding on would give grey rows."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as RGB.

    Grey is repeated over the channels, palettes are looked up, CMYK is converted, alpha is dropped,
    16-bit grey keeps its upper byte. Rotation tags are ignored, as torchvision's loaders do.

    Args:
        path: a JPEG, or any other format that Pillow reads.

    Returns:
        uint8 ``H W 3``, contiguous.

    Raises:
        DataError: the file is missing, corrupt or truncated, or is no 8- or 16-bit image.
    """
    data = read_bytes(path)
    if simplejpeg is not None and data.startswith(b"\xff\xd8"):
        try:
            # Its colours from CMYK differ from Pillow's by a grey level.
            if simplejpeg.decode_jpeg_header(data)[2] in _FAST_COLOURS:
                pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
                return pixels
        except ValueError as error:
            if _TRUNCATED in str(error).lower():
                raise DataError(f"{path}: truncated JPEG ({error})") from error
            # Unusual subsampling, harmless stray bytes: Pillow knows more of JPEG.
    try:
        with Image.open(io.BytesIO(data)) as image:
            return as_rgb(image)
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read as an image ({one_line(error)})") from error


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
    """Return a Pillow image as RGB, uint8 ``H W 3``; see `read_image` for other colours.

    Raises:
        ValueError: its pixels have no known range.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(grey[:, :, None], (*grey.shape, 3)))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    return np.array(image.convert("RGB"))


def one_line(error: BaseException) -> str:
    """Return a decoder's message as one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    # Pillow prints the object that it read from; its address helps nobody.
    return text.split(" <_io.BytesIO")[0].replace(os.linesep, " ")


def crop_image(pixels: NDArray[np.uint8], box: ArrayLike) -> NDArray[np.uint8]:
    """Return the part of an image that a box shows; what of the box lies outside is left out.

    Args:
        pixels: uint8 ``H W 3``.
        box: left, top, right and bottom in pixels, right and bottom not included; fractions are
            rounded to the nearest edge.

    Returns:
        uint8 ``h w 3``, contiguous.

    Raises:
        DataError: the box has no pixel of the image.
    """
    corners = np.asarray(box, np.float64)
    height, width = pixels.shape[:2]
    text = "(" + ", ".join(f"{value:g}" for value in corners) + ")"
    if not np.isfinite(corners).all():
        raise DataError(f"the box {text} is not finite")
    left, top, right, bottom = np.floor(corners + 0.5)
    if right <= left or bottom <= top:
        raise DataError(
            f"the box {text} is empty: it is left, top, right, bottom in pixels, not a width and a "
            "height, and no fraction of the image"
        )
    left, right = np.clip((left, right), 0, width).astype(np.int64)
    top, bottom = np.clip((top, bottom), 0, height).astype(np.int64)
    if right <= left or bottom <= top:
        raise DataError(f"the box {text} lies outside the image, which is {width} x {height}")
    return np.ascontiguousarray(pixels[top:bottom, left:right])


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
