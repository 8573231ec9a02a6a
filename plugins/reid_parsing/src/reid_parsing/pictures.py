"""A contact sheet: images with their labels laid over them, and what the colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from reid_core import whole_file
from reid_core.data.encoding import label_colours
from reid_core.data.geometry import Geometry, transform_labels
from reid_core.images import resize_image

_CELL = (192, 96)
"""Height and width of one image."""

_GAP, _LEGEND, _COLUMNS = 6, 20, 6
_STRENGTH = 0.6
"""How much of a label's colour covers the image."""


def overlay(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], strength: float = _STRENGTH
) -> NDArray[np.uint8]:
    """Lay labels over an image in the colours of label PNGs; background stays as it is.

    Args:
        image: uint8 ``H W 3``.
        labels: uint8 ``H W``.
        strength: share of the label's colour.

    Returns:
        uint8 ``H W 3``.
    """
    colours = label_colours()[labels].astype(np.float32)
    mixed = (1 - strength) * image + strength * colours
    return np.where(labels[:, :, None] > 0, mixed, image).astype(np.uint8)


def overlay_sheet(
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[NDArray[np.uint8]],
    classes: Sequence[str],
    path: Path,
) -> Path:
    """Draw every image beside itself with its labels, and a legend below.

    Args:
        images: uint8 ``H W 3`` of any sizes.
        labels: uint8 ``H W``, one per image.
        classes: class names in the order of their values.
        path: the picture to write.
    """
    height, width = _CELL
    rows = -(-len(images) // _COLUMNS)
    columns = min(_COLUMNS, len(images))
    wide, high = 2 * width + 2 * _GAP, height + _GAP
    entries = _legend(classes, columns * wide)
    lines = max(line for _, line, _ in entries) + 1
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * high + lines * _LEGEND + _GAP), "white")
    for number, (image, found) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(number, _COLUMNS)
        small = resize_image(np.ascontiguousarray(image), _CELL)
        covered = overlay(small, transform_labels(found, Geometry.plain(_CELL)))
        left, top = column * wide + _GAP, row * high + _GAP
        sheet.paste(Image.fromarray(small), (left, top))
        sheet.paste(Image.fromarray(covered), (left + width, top))
    draw, colours = ImageDraw.Draw(sheet), label_colours()
    for number, (left, line, text) in enumerate(entries):
        top = rows * high + _GAP + line * _LEGEND
        colour = tuple(int(value) for value in colours[number])
        draw.rectangle((left, top + 2, left + 12, top + 14), fill=colour, outline="black")
        draw.text((left + 17, top + 2), text, fill="black")
    with whole_file(path) as part:
        sheet.save(part)
    return path


def _legend(classes: Sequence[str], width: int) -> list[tuple[int, int, str]]:
    """Return left edge, line and text of every class, wrapped to a width."""
    entries, left, line = [], _GAP, 0
    for name in classes:
        needed = 30 + 7 * len(name)
        if left + needed > width and left > _GAP:
            left, line = _GAP, line + 1
        entries.append((left, line, name))
        left += needed
    return entries
