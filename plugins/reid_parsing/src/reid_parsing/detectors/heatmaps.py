"""Where joints are in what pose networks give: heatmaps, or one vector along each axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import SHARED_FIELDS

Floats = NDArray[np.float32]

_PAIRS = SHARED_FIELDS["keypoints"].flip_pairs


def joints_of_heatmaps(maps: Floats, size: tuple[int, int]) -> Floats:
    """Return joints from heatmaps, to a fraction of their pixels.

    The likeliest place, moved to the peak of the parabola through the logarithms of its
    neighbours, which is a Gaussian's own (Zhang et al., *Distribution-Aware Coordinate
    Representation*, CVPR 2020, without the mixed term). The outermost places of a map are the
    outermost pixels of the input (Huang et al., *The Devil is in the Details*, CVPR 2020), as
    ViTPose is trained.

    Args:
        maps: ``J h w``.
        size: height and width of the input.

    Returns:
        float32 ``J 3``: x and y in pixels of the input, (0, 0) its first pixel's middle; the
        peak's value, limited to 0..1.
    """
    count, height, width = maps.shape
    best = maps.reshape(count, -1).argmax(1)
    rows, columns = np.divmod(best, width)
    joints = np.arange(count)
    y = rows + _offset(maps[joints, :, columns], rows)
    x = columns + _offset(maps[joints, rows, :], columns)
    peak = maps[joints, rows, columns]
    scale = (size[1] - 1) / (width - 1), (size[0] - 1) / (height - 1)
    found = np.stack([x * scale[0], y * scale[1], peak.clip(0, 1)], 1)
    return found.astype(np.float32)


def _offset(lines: Floats, places: NDArray[np.intp]) -> Floats:
    """Return by how much the peak of each line lies beside its largest value, in -0.5..0.5."""
    rows = np.arange(len(lines))
    inner = (places > 0) & (places < lines.shape[1] - 1)
    at = places.clip(1, lines.shape[1] - 2)
    before, here, after = (np.log(lines[rows, at + step].clip(1e-10)) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    moved = np.where(bend < 0, (before - after) / (2 * np.where(bend < 0, bend, -1)), 0)
    offset: Floats = np.where(inner, moved.clip(-0.5, 0.5), 0).astype(np.float32)
    return offset


def joints_of_vectors(along_x: Floats, along_y: Floats, ratio: float) -> Floats:
    """Return joints from one vector along each axis (SimCC: Li et al., ECCV 2022).

    Args:
        along_x: ``J ratio*W``, the likeliest of which is the joint's column.
        along_y: ``J ratio*H``.
        ratio: places per pixel of the input.

    Returns:
        float32 ``J 3``, see `joints_of_heatmaps`; the third is the smaller of both peaks' values.
    """
    peak = np.minimum(along_x.max(1), along_y.max(1)).clip(0, 1)
    x, y = along_x.argmax(1) / ratio, along_y.argmax(1) / ratio
    return np.stack([x, y, peak], 1).astype(np.float32)


def mirrored_heatmaps(maps: Floats) -> Floats:
    """Return heatmaps ``17 h w`` of a mirrored picture as those of the picture itself."""
    return maps[mirrored_order(), :, ::-1]


def mirrored_vectors(along_x: Floats, along_y: Floats, ratio: float) -> tuple[Floats, Floats]:
    """Return the vectors of a mirrored picture as those of the picture itself.

    The column x of W has the place ``ratio x``, its mirror image ``ratio (W - 1 - x)``.
    """
    order, shift = mirrored_order(), round(ratio) - 1
    turned = along_x[order, ::-1]
    # The first places of the mirrored vector lie beyond the picture's last column.
    padded = np.pad(turned, ((0, 0), (0, shift)), mode="edge")[:, shift:]
    return padded, along_y[order]


def mirrored_order() -> list[int]:
    """Return which joint of a mirrored picture is each of the picture's own."""
    order = list(range(17))
    for left, right in _PAIRS:
        order[left], order[right] = right, left
    return order
