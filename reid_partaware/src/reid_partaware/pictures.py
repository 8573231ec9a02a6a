"""Pictures of the analyses: a matrix, and heat maps over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reid_core import whole_file

Image = NDArray[np.uint8]
"""``H W 3``."""


def draw_matrix(names: Sequence[str], matrix: NDArray[np.float64], path: Path) -> Path:
    """Draw a part similarity matrix with its values (figure 9).

    Args:
        names: of the parts, in order.
        matrix: ``S S`` cosines.
        path: where to write; the suffix gives the format.
    """
    side = 1.6 + 0.6 * len(names)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(matrix, vmin=min(0.0, float(matrix.min())), vmax=1, cmap="viridis")
    short = [name.rpartition("/")[2] for name in names]
    axis.set_xticks(range(len(names)), short, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), short)
    for row, column in np.ndindex(matrix.shape):
        value = matrix[row, column]
        ink = "black" if value > 0.6 else "white"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(shown, label="mean cosine")
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)
    return path


def draw_over_images(
    images: Sequence[Image],
    maps: Sequence[NDArray[np.float32]],
    titles: Sequence[str],
    path: Path,
    columns: int = 6,
) -> Path:
    """Draw heat maps beside and over their images (figure 10).

    Args:
        images: what was looked at.
        maps: ``h w`` in 0 .. 1, one per image, of any size.
        titles: one per image.
        path: where to write; the suffix gives the format.
        columns: images beside one another.
    """
    rows = -(-len(images) // columns)
    width = min(columns, len(images))
    figure = Figure(figsize=(2.3 * width, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, width, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, heat, title in zip(axes, images, maps, titles, strict=False):
        height, wide = image.shape[:2]
        whole = (0, 2 * wide, height, 0)
        axis.imshow(np.concatenate([image, image], axis=1), extent=whole)
        over = (wide, 2 * wide, height, 0)
        axis.imshow(
            heat, extent=over, cmap="jet", alpha=0.45, vmin=0, vmax=1, interpolation="bilinear"
        )
        axis.set(xlim=(0, 2 * wide), ylim=(height, 0))
        axis.set_title(title, fontsize=7)
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)
    return path
