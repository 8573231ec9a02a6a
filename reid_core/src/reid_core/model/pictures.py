"""Pictures as callers have them, in the form that an embedder takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from reid_core.errors import DataError
from reid_core.images import as_rgb, crop_image, read_image, resize_image

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor"
"""A file, a Pillow image, an array ``H W 3`` of uint8, or a tensor ``3 H W``."""

_SLACK = 1e-4
"""What rounding may add to a float between 0 and 1."""


def in_rows(
    images: Picture | Iterable[Picture],
    size: tuple[int, int],
    boxes: ArrayLike | None = None,
    *,
    bgr: bool = False,
) -> Iterator[Tensor]:
    """Yield every picture as ``3 H W`` of an embedder's size: uint8, or floats in ``[0, 1]``.

    Args:
        images: one picture or many: see `Embedder.embed`.
        size: height and width.
        boxes: ``K 4``, crops of the one picture that ``images`` then is.
        bgr: NumPy arrays have their channels as OpenCV has them.

    Raises:
        DataError: in one line, what is wrong with which picture.
    """
    if boxes is not None:
        frame = _frame(images, bgr)
        yield from (_resized(crop_image(frame, box), size) for box in as_boxes(boxes))
        return
    for number, picture in enumerate(_separately(images)):
        if isinstance(picture, Tensor):
            yield _checked_tensor(picture, size, number)
        else:
            yield _resized(_pixels(picture, bgr, number), size)


def check_range(images: Tensor) -> None:
    """Refuse values that are no pixels: outside 0 to 1 for floats, 0 to 255 for integers.

    Raises:
        DataError: with the lowest and highest value.
    """
    if images.dtype == torch.uint8 or not images.numel():
        return
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    top = 1 if images.is_floating_point() else 255
    if low >= -_SLACK and high <= top + _SLACK:
        return
    remedy = "normalised images belong to embed_normalised; otherwise clamp them"
    if low >= 0 and images.is_floating_point():
        remedy = "divide them by 255, or give uint8"
    kind = "floats" if images.is_floating_point() else "integers"
    raise DataError(
        f"images as {kind} must be in [0, {top}], but these are in [{low:.4g}, {high:.4g}]: "
        f"{remedy}"
    )


def check_size(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Refuse a tensor that is not ``B 3 H W`` of an embedder's size.

    Raises:
        DataError: with both shapes and what seems to have happened.
    """
    height, width = size
    if len(shape) == 4 and tuple(shape[1:]) == (3, height, width):
        return
    found = " x ".join(map(str, shape))
    reason = "resize them, or give files or arrays to embed(), which does"
    if tuple(shape[1:]) == (3, width, height):
        reason = "height and width are swapped"
    elif len(shape) == 4 and shape[-1] == 3:
        reason = "channels come first: images.permute(0, 3, 1, 2)"
    elif len(shape) == 3:
        reason = "one image needs a batch axis: images[None]"
    raise DataError(f"this embedder takes images B x 3 x {height} x {width}, not {found}: {reason}")


def as_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return boxes ``K 4``: left, top, right, bottom in pixels.

    Raises:
        DataError: they have another shape.
    """
    try:
        found = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes are not numbers: {error}") from None
    if found.size == 0:
        return np.empty((0, 4))
    if found.ndim != 2 or found.shape[1] != 4:
        raise DataError(
            f"boxes must be K x 4 (left, top, right, bottom in pixels), not "
            f"{' x '.join(map(str, found.shape)) or 'a single number'}"
        )
    return found


def _separately(images: Any) -> Iterator[Any]:
    """Yield single pictures of one, of many, or of an array of many."""
    array = isinstance(images, np.ndarray | Tensor)
    if isinstance(images, str | os.PathLike | Image.Image) or (array and images.ndim == 3):
        yield images
    elif array and images.ndim != 4 and images.dtype != object:
        raise DataError(
            f"an array of shape {' x '.join(map(str, images.shape))} is no image: one has three "
            "axes, many have four"
        )
    elif isinstance(images, Iterable):
        yield from images
    else:
        raise DataError(
            f"a {type(images).__name__} is no image: give a file's name, a Pillow image, an array "
            "H x W x 3 of uint8, a tensor 3 x H x W, or several of them"
        )


def _frame(images: Any, bgr: bool) -> NDArray[np.uint8]:
    """Return the one picture that boxes lie in, as an array ``h w 3``."""
    if isinstance(images, list | tuple) and len(images) == 1:
        images = images[0]
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.ndim != 3 or images.shape[0] != 3:
            dtype = str(images.dtype).removeprefix("torch.")
            raise DataError(
                "a frame with boxes that is a tensor must be 3 x H x W of uint8, not "
                f"{' x '.join(map(str, images.shape))} of {dtype}"
            )
        pixels: NDArray[np.uint8] = images.permute(1, 2, 0).contiguous().cpu().numpy()
        return pixels
    if isinstance(images, str | os.PathLike | Image.Image | np.ndarray):
        return _pixels(images, bgr, 0)
    raise DataError(
        f"boxes lie in one frame, but the images are a {type(images).__name__}: call embed() once "
        "for every frame"
    )


def _pixels(picture: Any, bgr: bool, number: int) -> NDArray[np.uint8]:
    """Return a picture that is no tensor as an RGB array ``h w 3``."""
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        try:
            return as_rgb(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"image {number} cannot be read: {error}") from error
    if not isinstance(picture, np.ndarray):
        raise DataError(
            f"image {number} is a {type(picture).__name__}: give a file's name, a Pillow image, an "
            "array H x W x 3 of uint8, or a tensor 3 x H x W"
        )
    shape = " x ".join(map(str, picture.shape))
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        first = picture.ndim == 3 and picture.shape[0] == 3
        remedy = ": channels come last in arrays: image.transpose(1, 2, 0)" if first else ""
        raise DataError(f"image {number} is an array {shape}, not H x W x 3{remedy}")
    if picture.dtype != np.uint8:
        raise DataError(
            f"image {number} is an array of {picture.dtype}: arrays must be uint8, 0 to 255"
        )
    return np.ascontiguousarray(picture[:, :, ::-1] if bgr else picture)


def _checked_tensor(picture: Tensor, size: tuple[int, int], number: int) -> Tensor:
    try:
        check_size((1, *picture.shape), size)
        check_range(picture)
    except DataError as error:
        raise DataError(f"image {number}: {error}") from None
    return picture


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    return torch.tensor(resize_image(pixels, size)).permute(2, 0, 1)
