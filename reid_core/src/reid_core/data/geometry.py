"""Geometry: one drawn flip, resize and crop, applied alike to an image and its spatial fields.

`GeometryPolicy` says what may happen, `Geometry` is what did happen to one row, and the functions
below it are pure. The order is resize, mirror, crop, where the crop window may reach beyond the
image by the padding. Free of torch at import.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import FieldKind, FieldSpec
from reid_core.images import resize_image


@dataclass(frozen=True)
class GeometryPolicy:
    """What may happen to the geometry of a training image.

    Args:
        flip: probability of mirroring left and right.
        pad: pixels added on each side; a random window of the network's input size is cut out.
            It excludes ``enlarge``.
        pad_mode: ``zero`` pads with black (before normalisation) and label 0; ``edge`` repeats the
            outermost pixels and their labels.
        enlarge: with probability ``enlarge_p`` the image is resized to this multiple of the input
            size and a random window of the input size is cut out (1.125: 288 x 144 to 256 x 128).
        enlarge_p: see ``enlarge``.
        partial: probability of keeping only a part of the person: a band of the image, which is
            resized to the input size in place of a window.
        partial_height, partial_width: smallest and largest share of the image that is kept. Of the
            height the upper end, the lower end or any place is kept, each in a third of the cases.
        partial_from: epoch before which images stay whole (fine-tuning on parts).
    """

    flip: float = 0.5
    pad: int = 0
    pad_mode: Literal["zero", "edge"] = "zero"
    enlarge: float = 1.0
    enlarge_p: float = 0.5
    partial: float = 0.0
    partial_height: tuple[float, float] = (0.5, 1.0)
    partial_width: tuple[float, float] = (0.75, 1.0)
    partial_from: int = 0


GEOMETRY_NUMBERS = 4
"""Uniform numbers that `Geometry.draw` uses: mirror, enlarge, vertical and horizontal place."""

PARTIAL_NUMBERS = 6
"""Uniform numbers that `Geometry.partial` uses: whether, height, width, which end, the place."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What happens to one row: resize to ``resized``, mirror, cut out a window of ``size``.

    Args:
        size: height and width of the network's input.
        resized: height and width after resizing.
        top, left: the window's corner in the resized (and mirrored) image; negative in padding.
        mirror: whether left and right trade places.
        edge: whether pixels beyond the image repeat its edge instead of being 0.
    """

    size: tuple[int, int]
    resized: tuple[int, int]
    top: int = 0
    left: int = 0
    mirror: bool = False
    edge: bool = False

    @classmethod
    def plain(cls, size: tuple[int, int]) -> Geometry:
        """Return the geometry of evaluation: a resize and nothing else."""
        return cls(size, size)

    @classmethod
    def draw(
        cls, policy: GeometryPolicy, size: tuple[int, int], uniforms: NDArray[np.float64]
    ) -> Geometry:
        """Make one geometry of random numbers.

        Args:
            policy: what may happen.
            size: height and width of the network's input.
            uniforms: ``GEOMETRY_NUMBERS`` numbers in [0, 1).
        """
        mirror, enlarge, down, right = uniforms.tolist()
        height, width = size
        resized = size
        if policy.enlarge > 1 and enlarge < policy.enlarge_p:
            resized = (round(height * policy.enlarge), round(width * policy.enlarge))
        down *= resized[0] - height + 2 * policy.pad + 1
        right *= resized[1] - width + 2 * policy.pad + 1
        return cls(
            size,
            resized,
            top=int(down) - policy.pad,
            left=int(right) - policy.pad,
            mirror=mirror < policy.flip,
            edge=policy.pad_mode == "edge",
        )

    def partial(self, policy: GeometryPolicy, uniforms: NDArray[np.float64]) -> Geometry:
        """Return the geometry that keeps only a part of the image, where the numbers say so.

        Args:
            policy: how much is kept, and how often.
            uniforms: ``PARTIAL_NUMBERS`` numbers in [0, 1).
        """
        happens, high, wide, end, down, right = uniforms.tolist()
        if happens >= policy.partial:
            return self
        shares = [
            low + (most - low) * drawn
            for (low, most), drawn in ((policy.partial_height, high), (policy.partial_width, wide))
        ]
        resized = (round(self.size[0] / shares[0]), round(self.size[1] / shares[1]))
        spare = resized[0] - self.size[0], resized[1] - self.size[1]
        place = (0.0, 1.0, down)[int(3 * end)]
        return Geometry(
            self.size,
            resized,
            top=round(place * spare[0]),
            left=round(right * spare[1]),
            mirror=self.mirror,
        )


def transform_image(
    image: NDArray[np.uint8], geometry: Geometry, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Apply a geometry to an image, or to several that share it.

    Args:
        image: uint8 ``3 h w`` or ``S 3 h w`` of any size; fastest when stored ``h w 3``.
        geometry: what to do.
        out: uint8 ``3 H W`` (``S 3 H W``) to write to.

    Returns:
        ``out``, or a new array of that shape.
    """
    if out is None:
        out = np.empty((*image.shape[:-2], *geometry.size), np.uint8)
    if image.ndim == 4:
        for one, target in zip(image, out, strict=True):
            transform_image(one, geometry, target)
        return out
    # Torch resizes interleaved pixels twice as fast as planes; the copy turns them into planes.
    pixels = resize_image(image.transpose(1, 2, 0), geometry.resized).transpose(2, 0, 1)
    if geometry.mirror:
        pixels = pixels[:, :, ::-1]
    if geometry.edge:
        rows, columns = (
            np.clip(np.arange(length) + start, 0, end - 1) for length, start, end in _axes(geometry)
        )
        out[...] = pixels[:, rows[:, None], columns]
        return out
    (to_rows, rows_), (to_columns, columns_) = (_overlap(*axis) for axis in _axes(geometry))
    if (to_rows, to_columns) != (slice(0, geometry.size[0]), slice(0, geometry.size[1])):
        out.fill(0)
    out[:, to_rows, to_columns] = pixels[:, rows_, columns_]
    return out


def transform_labels(
    labels: NDArray[np.uint8], geometry: Geometry, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Apply a geometry to a label map, nearest-exact: no class is ever invented.

    Args:
        labels: uint8 ``h w`` of any size.
        geometry: what to do.
        out: uint8 ``H W`` to write to.

    Returns:
        ``out``, or a new array of that shape.
    """
    if out is None:
        out = np.empty(geometry.size, np.uint8)
    indices, inside = [], []
    for axis, (length, start, end) in enumerate(_axes(geometry)):
        place = np.arange(start, start + length)
        inside.append((place >= 0) & (place < end))
        place = np.clip(place, 0, end - 1)
        if axis == 1 and geometry.mirror:
            place = end - 1 - place
        indices.append(_nearest_exact(labels.shape[axis], end)[place])
    out[...] = labels[indices[0][:, None], indices[1]]
    if not geometry.edge:
        out[~inside[0]] = 0
        out[:, ~inside[1]] = 0
    return out


def transform_points(
    points: NDArray[np.float32],
    image_size: tuple[int, int],
    geometry: Geometry,
    flip_pairs: tuple[tuple[int, int], ...] = (),
) -> NDArray[np.float32]:
    """Apply a geometry to points.

    A coordinate counts pixel centres: (0, 0) is the middle of the first pixel, so a point belongs
    to the pixel of its rounded coordinates.

    Args:
        points: float32 ``N 3``: x and y in pixels of the stored image, visibility.
        image_size: height and width of the stored image.
        geometry: what to do.
        flip_pairs: points that trade places when the image is mirrored.

    Returns:
        float32 ``N 3``: x and y in pixels of the network's input; visibility 0 outside of it.
    """
    out = points.astype(np.float32)
    height, width = geometry.resized
    out[:, 0] = (out[:, 0] + 0.5) * (width / image_size[1]) - 0.5
    out[:, 1] = (out[:, 1] + 0.5) * (height / image_size[0]) - 0.5
    if geometry.mirror:
        out[:, 0] = width - 1 - out[:, 0]
        order = np.arange(len(out))
        for left, right in flip_pairs:
            order[left], order[right] = right, left
        out = out[order]
    out[:, 0] -= geometry.left
    out[:, 1] -= geometry.top
    rows, columns = geometry.size
    x, y = out[:, 0], out[:, 1]
    out[~((x >= -0.5) & (x < columns - 0.5) & (y >= -0.5) & (y < rows - 0.5)), 2] = 0
    return out


def transform_field(
    value: NDArray[Any],
    spec: FieldSpec,
    image_size: tuple[int, int],
    geometry: Geometry,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Apply a geometry to a field of any kind; what geometry leaves alone is returned as it is.

    Args:
        value: the field as `read_field` returns it.
        spec: the field.
        image_size: height and width of the stored image, which points refer to.
        geometry: what to do.
        out: what to write to, of the result's shape.
    """
    if spec.kind is FieldKind.IMAGE:
        return transform_image(value, geometry, out)
    if spec.kind is FieldKind.LABELS:
        return transform_labels(value, geometry, out)
    if spec.kind is FieldKind.POINTS:
        value = transform_points(value, image_size, geometry, spec.flip_pairs)
    if out is None:
        return value
    out[...] = value
    return out


def _axes(geometry: Geometry) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return (length of the window, its start, length of the resized image) for both axes."""
    return (
        (geometry.size[0], geometry.top, geometry.resized[0]),
        (geometry.size[1], geometry.left, geometry.resized[1]),
    )


def _overlap(length: int, start: int, end: int) -> tuple[slice, slice]:
    """Return where the window and the image overlap: in the window, and in the image."""
    first, last = max(start, 0), min(start + length, end)
    return slice(first - start, last - start), slice(first, last)


@lru_cache(maxsize=256)
def _nearest_exact(length: int, wanted: int) -> NDArray[np.int64]:
    """Return the source index of each of ``wanted`` places, with torch's rounding."""
    scale = np.float32(length) / np.float32(wanted)
    places = np.floor((np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale)
    indices: NDArray[np.int64] = np.minimum(places.astype(np.int64), length - 1)
    return indices
