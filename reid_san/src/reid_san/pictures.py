"""Pictures of regressed images beside their inputs (paper, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core import image_sheet
from reid_core.images import resize_image

HEIGHT = 160
"""Of every image in the picture, in pixels."""

_GAP = 6


def draw_regressed(
    columns: Sequence[Sequence[NDArray[np.uint8]]], path: Path, abreast: int = 4
) -> Path:
    """Draw people in cells: the input, what is regressed and, where it is known, the truth.

    Args:
        columns: per person two or three images, uint8 ``3 H W`` of any size.
        path: the PNG to write; its folder is made.
        abreast: people side by side.
    """
    cells = [_cell(images) for images in columns]
    rows = [cells[start : start + abreast] for start in range(0, len(cells), abreast)]
    return image_sheet(rows, path, _GAP)


def _cell(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    parts = []
    for image in images:
        high, wide = image.shape[1:]
        size = (HEIGHT, round(HEIGHT * wide / high))
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        parts += [resize_image(pixels, size), np.full((HEIGHT, _GAP // 2, 3), 255, np.uint8)]
    return np.concatenate(parts, axis=1)
