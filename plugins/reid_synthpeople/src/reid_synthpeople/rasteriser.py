"""Rasterising triangles with a depth buffer, in whole-batch tensor operations.

Every front-facing triangle is cut into the rows of pixels that it crosses, and every row into the
pixels whose centres lie inside. They compete for their pixel by a packed integer, inverse depth
above the order of candidates, of which the largest wins. An integer maximum does not depend on the
order of evaluation, so the result is the same on every run and on any number of threads.
Attributes are then interpolated for the winners alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST_AREA = 1e-4
"""Twice the area in pixels below which a triangle is left out."""

_EDGE = 1e-5
"""Barycentric tolerance: neighbours share the pixels on their edge, so that there is no gap."""

_STEEP = 1e-12
"""Slopes per pixel below which an edge is taken for horizontal."""

_DEPTH_BITS = 26
_ORDER_BITS = 32
_LAST = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Fragments:
    """What is seen, one row per covered pixel.

    Args:
        pixel: index into ``B * H * W``, int64 ``P``, ascending.
        image: row of the batch, int64 ``P``.
        triangle: ``image * F + face``, int64 ``P``.
        weights: barycentric coordinates of its corners, float32 ``P 3``.
        nearness: inverse distance of every pixel, float32 ``B H W``; 0 where nothing is.
    """

    pixel: Tensor
    image: Tensor
    triangle: Tensor
    weights: Tensor
    nearness: Tensor


def rasterise(points: Tensor, nearness: Tensor, faces: Tensor, size: tuple[int, int]) -> Fragments:
    """Find out which triangle is seen at the centre of every pixel.

    Args:
        points: vertices in pixels, float32 ``B N 2``.
        nearness: inverse distance, which is linear in the picture, ``B N``, positive, below 32.
        faces: int64 ``F 3``, the same for all rows.
        size: height and width.
    """
    rows, (height, width) = len(points), size
    triangles = _set_up(points, nearness, faces, size)
    spans = _cut_into_spans(triangles, width)
    # From here on one entry per candidate: a pixel inside a triangle.
    span = torch.repeat_interleave(spans.pixels)
    start = spans.first - (spans.pixels.cumsum(0) - spans.pixels)
    column = torch.arange(len(span), device=span.device) + start.index_select(0, span)
    depth = spans.z.index_select(0, span) + spans.z_x.index_select(0, span) * column
    pixel = spans.box_pixel.index_select(0, span) + column
    order = _LAST - torch.arange(len(span), device=span.device)
    key = ((depth * (1 << _DEPTH_BITS)).long() << _ORDER_BITS) + order
    buffer = torch.zeros(rows * height * width, dtype=torch.long, device=points.device)
    buffer.scatter_reduce_(0, pixel, key, "amax")
    covered = buffer.nonzero().squeeze(1)
    winner = _LAST - (buffer.index_select(0, covered) & ((1 << _ORDER_BITS) - 1))
    span, column = span.index_select(0, winner), column.index_select(0, winner)
    b = spans.b.index_select(0, span) + spans.b_x.index_select(0, span) * column
    c = spans.c.index_select(0, span) + spans.c_x.index_select(0, span) * column
    triangle = spans.triangle.index_select(0, span)
    return Fragments(
        pixel=covered,
        image=torch.div(triangle, len(faces), rounding_mode="floor"),
        triangle=triangle,
        weights=torch.stack([1 - b - c, b, c], 1),
        nearness=((buffer >> _ORDER_BITS).float() / (1 << _DEPTH_BITS)).view(rows, height, width),
    )


@dataclass(frozen=True, eq=False)
class _Triangles:
    """Triangles that face the camera and touch the picture, with their bounding boxes.

    Barycentric coordinates `b` and `c` of the second and the third corner and the inverse distance
    `z` are linear: a value at the box's first pixel, slopes per pixel to the right and downwards.

    Args:
        index: image times number of faces plus face, int64 ``T``.
        rows, columns: size of the box, int64 and float32 ``T``.
        first_pixel: index of its first pixel in the batch, int64 ``T``.
    """

    index: Tensor
    rows: Tensor
    columns: Tensor
    first_pixel: Tensor
    b: Tensor
    b_x: Tensor
    b_y: Tensor
    c: Tensor
    c_x: Tensor
    c_y: Tensor
    z: Tensor
    z_x: Tensor
    z_y: Tensor


@dataclass(frozen=True, eq=False)
class _Spans:
    """Rows of pixels inside triangles; `b`, `c` and `z` are values at the box's first column.

    Args:
        triangle: as `_Triangles.index`, int64 ``S``.
        first, pixels: first column inside and number of them, int64 ``S``.
        box_pixel: index in the batch of the box's first pixel in this row, int64 ``S``.
    """

    triangle: Tensor
    first: Tensor
    pixels: Tensor
    box_pixel: Tensor
    b: Tensor
    b_x: Tensor
    c: Tensor
    c_x: Tensor
    z: Tensor
    z_x: Tensor


def _set_up(points: Tensor, nearness: Tensor, faces: Tensor, size: tuple[int, int]) -> _Triangles:
    x, y = points.unbind(-1)
    corners = faces.unbind(1)
    xa, xb, xc = (x.index_select(1, corner) for corner in corners)
    ya, yb, yc = (y.index_select(1, corner) for corner in corners)
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    left = (torch.minimum(torch.minimum(xa, xb), xc) - 0.5).ceil().clamp(min=0)
    right = (torch.maximum(torch.maximum(xa, xb), xc) - 0.5).floor().clamp(max=size[1] - 1)
    top = (torch.minimum(torch.minimum(ya, yb), yc) - 0.5).ceil().clamp(min=0)
    bottom = (torch.maximum(torch.maximum(ya, yb), yc) - 0.5).floor().clamp(max=size[0] - 1)
    kept = (area < -_LEAST_AREA) & (right >= left) & (bottom >= top)
    index = kept.view(-1).nonzero().squeeze(1)

    def keep(values: Tensor) -> Tensor:
        return values.reshape(-1).index_select(0, index)

    xa, xb, xc, ya, yb, yc = map(keep, (xa, xb, xc, ya, yb, yc))
    left, right, top, bottom = map(keep, (left, right, top, bottom))
    inverse = 1 / keep(area)
    b_x, b_y = (yc - ya) * inverse, (xa - xc) * inverse
    c_x, c_y = (ya - yb) * inverse, (xb - xa) * inverse
    x0, y0 = left + 0.5 - xa, top + 0.5 - ya
    b, c = b_x * x0 + b_y * y0, c_x * x0 + c_y * y0
    image = torch.div(index, len(faces), rounding_mode="floor")
    face, first_vertex = index - image * len(faces), image * nearness.shape[1]
    za, zb, zc = (
        nearness.reshape(-1).index_select(0, first_vertex + corner.index_select(0, face))
        for corner in corners
    )
    return _Triangles(
        index=index,
        rows=(bottom - top + 1).long(),
        columns=right - left + 1,
        first_pixel=(image * size[0] + top.long()) * size[1] + left.long(),
        b=b,
        b_x=b_x,
        b_y=b_y,
        c=c,
        c_x=c_x,
        c_y=c_y,
        z=za + b * (zb - za) + c * (zc - za),
        z_x=b_x * (zb - za) + c_x * (zc - za),
        z_y=b_y * (zb - za) + c_y * (zc - za),
    )


def _cut_into_spans(triangles: _Triangles, width: int) -> _Spans:
    """Cut triangles into rows, and find where the three edges begin and end each row."""
    t = triangles
    owner = torch.repeat_interleave(t.rows)
    start = t.rows.cumsum(0) - t.rows
    row = torch.arange(len(owner), device=owner.device) - start.index_select(0, owner)
    b = t.b.index_select(0, owner) + t.b_y.index_select(0, owner) * row
    c = t.c.index_select(0, owner) + t.c_y.index_select(0, owner) * row
    z = t.z.index_select(0, owner) + t.z_y.index_select(0, owner) * row
    b_x, c_x = t.b_x.index_select(0, owner), t.c_x.index_select(0, owner)
    first = torch.zeros_like(b)
    last = t.columns.index_select(0, owner) - 1
    for value, slope in ((b, b_x), (c, c_x), (1 - b - c, -b_x - c_x)):
        # Inside is where value + slope * column >= -edge; a flat edge has all of a row or nothing.
        flat = slope.abs() < _STEEP
        crossing = -(value + _EDGE) / torch.where(flat, 1.0, slope)
        first = torch.where((slope > 0) & ~flat, torch.maximum(first, crossing), first)
        last = torch.where((slope < 0) & ~flat, torch.minimum(last, crossing), last)
        last = torch.where(flat & (value < -_EDGE), -1.0, last)
    first, last = first.ceil(), last.floor()
    return _Spans(
        triangle=t.index.index_select(0, owner),
        first=first.long(),
        pixels=(last - first + 1).clamp(min=0).long(),
        box_pixel=t.first_pixel.index_select(0, owner) + row * width,
        b=b,
        b_x=b_x,
        c=c,
        c_x=c_x,
        z=z,
        z_x=t.z_x.index_select(0, owner),
    )
