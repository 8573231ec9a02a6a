"""The mesh of a person: tubes of fixed topology, one per chart of the atlas.

A tube is a grid of rows along an axis and columns around it:
``P = C + rx sin(a) X + r cos(a) Z``, with radii of its own in front and behind. Limbs are capped
tubes that overlap at the joints, so that there is no skinning, and borders between parts are exact.
What somebody lacks (a skirt, a bag) collapses to no area. There are 2705 vertices and 4576
triangles.

Shapes and projection are computed in float64 and in a fixed order of sums: what differs between
processors, or between batches, is then far below what could move a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_synthpeople.atlas import CHARTS

LIMB_ROWS = (0.0, 0.035, 0.09, 0.254, 0.418, 0.582, 0.746, 0.91, 0.965, 1.0)
"""Where the rows of arms and legs lie on their chart: two for each cap, six between."""

_ROWS = {
    "torso": 19,
    "head": 13,
    "hair": 11,
    "foot": 8,
    "hand": 6,
    "bag": 8,
    "bun": 6,
    "skirt": 8,
}
_COLUMNS = {
    "torso": 24,
    "head": 20,
    "hair": 24,
    "foot": 12,
    "hand": 8,
    "bag": 12,
    "bun": 8,
    "skirt": 20,
}
_LIMB_COLUMNS = 12

_WORN = ("hair", "bun", "bag", "skirt")
"""Tubes that do not count for the frame of a picture, so that clothes do not move it."""


class Columns:
    """Numbers of several people, one float64 tensor ``B`` per field of their dataclass."""

    def __init__(self, rows: Sequence[Any], device: torch.device) -> None:
        names = rows[0].__dataclass_fields__
        table = np.array([[getattr(row, name) for name in names] for row in rows], np.float64)
        columns = torch.from_numpy(table).to(device).unbind(1)
        self._columns: dict[str, Tensor] = dict(zip(names, columns, strict=True))

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self._columns[name]
        except KeyError:
            raise AttributeError(name) from None


class Mesh:
    """What all people share: triangles, their parts, and where vertices lie on the atlas.

    Attributes:
        faces: int64 ``F 3``, indices of vertices, counter-clockwise from outside in image axes.
        parts: uint8 ``F``, class of the field ``parts``.
        texels: float32 ``F 3 2``, x and y on the atlas of each triangle's corners.
        framing: int64, vertices of the bare body, which define the frame of a picture.
    """

    def __init__(self, device: torch.device) -> None:
        faces, parts, texels, framing = [], [], [], []
        count = 0
        for chart in CHARTS:
            rows = _rows(chart.kind)
            columns = _COLUMNS.get(chart.kind, _LIMB_COLUMNS)
            along, around = np.meshgrid(rows, np.arange(columns + 1) / columns, indexing="ij")
            x = chart.x + 1 + around * (chart.width - 2)
            y = chart.y + 1 + along * (chart.height - 2)
            texels.append(np.stack([x, y], -1).reshape(-1, 2))
            quads = _quads(len(rows), columns) + count
            faces.append(quads)
            parts.append(np.full(len(quads), chart.part, np.uint8))
            framing.append(np.full(x.size, chart.kind not in _WORN))
            count += x.size
        self.faces = torch.from_numpy(np.concatenate(faces)).to(device)
        self.parts = torch.from_numpy(np.concatenate(parts)).to(device)
        places = torch.from_numpy(np.concatenate(texels).astype(np.float32))
        self.texels = places[torch.from_numpy(np.concatenate(faces))].to(device)
        self.framing = torch.from_numpy(np.flatnonzero(np.concatenate(framing))).to(device)
        self.vertices = count

    @staticmethod
    def assemble(tubes: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Join the tubes ``B R C 3`` to vertices and float32 unit normals, ``B N 3`` each."""
        ordered = [tubes[chart.name] for chart in CHARTS]
        vertices = torch.cat([tube.flatten(1, 2) for tube in ordered], 1)
        normals = torch.cat([_normals(tube.float()).flatten(1, 2) for tube in ordered], 1)
        return vertices, normals


def constant(values: Sequence[float], device: torch.device) -> Tensor:
    """Return numbers as float64."""
    return torch.tensor(values, dtype=torch.float64, device=device)


def steps(start: float, end: float, count: int, device: torch.device) -> Tensor:
    """Return evenly spaced numbers as float64."""
    return torch.from_numpy(np.linspace(start, end, count)).to(device)


def angles(kind: str, device: torch.device) -> Tensor:
    """Return the angles of a tube's columns in radians, ``-pi`` (behind) to ``pi``."""
    columns = _COLUMNS.get(kind, _LIMB_COLUMNS)
    turns = np.arange(columns + 1) / columns - 0.5
    return torch.from_numpy(turns * 2 * np.pi).to(device)


def tube(
    centres: Tensor,
    axes: tuple[Tensor, Tensor],
    radii: tuple[Tensor, Tensor, Tensor],
    around: Tensor,
    exponent: float = 1.0,
) -> Tensor:
    """Return the points of tubes.

    Args:
        centres: ``... R 3``, the axis.
        axes: unit vectors to the side (the subject's left) and to the front, ``... R 3`` or
            ``... 1 3``.
        radii: sideways, in front and behind, ``... R``.
        around: angles of the columns, ``C``.
        exponent: of a superellipse; below 1 the section is squarer than an ellipse.

    Returns:
        ``... R C 3``.
    """
    sine, cosine = torch.sin(around), torch.cos(around)
    if exponent != 1.0:
        sine = sine.sign() * sine.abs() ** exponent
        cosine = cosine.sign() * cosine.abs() ** exponent
    side, front = axes
    across, ahead, behind = (radius[..., None] for radius in radii)
    to_side = across * sine
    to_front = ahead * cosine.clamp(min=0) + behind * cosine.clamp(max=0)
    return (
        centres[..., None, :]
        + to_side[..., None] * side[..., None, :]
        + to_front[..., None] * front[..., None, :]
    )


def spline(knots: int, positions: Sequence[float], device: torch.device) -> Tensor:
    """Return Catmull-Rom weights ``len(positions) knots``; knot `i` lies at position `i`."""
    weights = np.zeros((len(positions), knots))
    for row, position in enumerate(positions):
        knot = min(int(position), knots - 2)
        t = position - knot
        basis = (
            -0.5 * t + t * t - 0.5 * t**3,
            1 - 2.5 * t * t + 1.5 * t**3,
            0.5 * t + 2 * t * t - 1.5 * t**3,
            -0.5 * t * t + 0.5 * t**3,
        )
        for offset, value in enumerate(basis):
            weights[row, min(max(knot - 1 + offset, 0), knots - 1)] += value
    return torch.from_numpy(weights).to(device)


def interpolate(weights: Tensor, knots: Tensor) -> Tensor:
    """Return ``... R`` values of splines (`spline`) through knots ``... K``.

    A product with a matrix would do, but it sums in an order that depends on the size of the batch.
    """
    return (weights * knots[..., None, :]).sum(-1)


def _rows(kind: str) -> NDArray[np.float64]:
    rows = _ROWS.get(kind)
    return np.array(LIMB_ROWS) if rows is None else np.arange(rows) / (rows - 1)


def _quads(rows: int, columns: int) -> NDArray[np.int64]:
    """Return the triangles of a grid, two per cell."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    upper = (i * (columns + 1) + j).ravel()
    lower = upper + columns + 1
    return np.concatenate(
        [
            np.stack([upper, lower, upper + 1], 1),
            np.stack([upper + 1, lower, lower + 1], 1),
        ]
    )


def _normals(points: Tensor) -> Tensor:
    """Return the unit normals of tubes ``... R C 3``; first and last column are the same seam."""
    around = points.roll(-1, -2) - points.roll(1, -2)
    seam = points[..., 1, :] - points[..., -2, :]
    around[..., 0, :] = seam
    around[..., -1, :] = seam
    along = torch.empty_like(points)
    along[..., 1:-1, :, :] = points[..., 2:, :, :] - points[..., :-2, :, :]
    along[..., 0, :, :] = points[..., 1, :, :] - points[..., 0, :, :]
    along[..., -1, :, :] = points[..., -1, :, :] - points[..., -2, :, :]
    normal = torch.linalg.cross(along, around)
    unit: Tensor = normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return unit
