"""The atlas while a person is painted: charts, and the masks that lay down colour and label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import GARMENT_CLASSES
from reid_synthpeople.atlas import CHARTS, SIDE, TEXELS, Chart

HAT, HAIR, UPPER, LOWER, SKIN, FACE, SHOES = range(1, len(GARMENT_CLASSES))

Mask = NDArray[np.bool_]
Paint = NDArray[np.floating]
"""A colour ``3``, or a cloth for the whole atlas ``256 256 3``."""

_CHARTS = {chart.kind: [other for other in CHARTS if other.kind == chart.kind] for chart in CHARTS}
"""Left and right charts by kind."""


class Canvas:
    """The atlas while it is painted: colours, and the garment of each texel."""

    def __init__(self, skin: Paint) -> None:
        self.colour = np.empty((SIDE, SIDE, 3), np.float32)
        self.colour[:] = skin
        self.garment = np.zeros((SIDE, SIDE), np.uint8)
        for chart in CHARTS:
            self.garment[chart.slices] = SKIN

    def charts(self, kind: str) -> list[Sheet]:
        """Return the charts of a kind, left and right."""
        return [Sheet(self, chart) for chart in _CHARTS[kind]]


class Sheet:
    """One chart while it is painted.

    Attributes:
        u: turns around the tube from the front; `side` is its size.
        v: share along the tube.
    """

    def __init__(self, canvas: Canvas, chart: Chart) -> None:
        self._area = chart.slices
        self.colour = canvas.colour[self._area]
        self.garment = canvas.garment[self._area]
        self.u = TEXELS.around[self._area]
        self.v = TEXELS.along[self._area]
        self.side = np.abs(self.u)

    def put(self, mask: Mask, paint: Paint, garment: int) -> None:
        """Lay a colour and its label on some texels."""
        self.colour[mask] = self._local(paint)[mask] if paint.ndim == 3 else paint
        self.garment[mask] = garment

    def fill(self, paint: Paint, garment: int) -> None:
        """Lay a colour and its label on all texels."""
        self.colour[:] = self._local(paint)
        self.garment[:] = garment

    def darken(self, mask: Mask, factor: float) -> None:
        """Multiply the colour of some texels."""
        self.colour[mask] *= np.float32(factor)

    def blend(self, mask: Mask, colour: Paint, share: float) -> None:
        """Mix a colour into some texels, which keep their label."""
        self.colour[mask] = self.colour[mask] * (1 - share) + colour * share

    def spot(self, u: float, v: float, radius_u: float, radius_v: float) -> NDArray[np.float32]:
        """Return the squared distance from a point on both sides, in radii."""
        distance: NDArray[np.float32] = ((self.side - u) / radius_u) ** 2 + (
            (self.v - v) / radius_v
        ) ** 2
        return distance

    def _local(self, paint: Paint) -> Paint:
        return paint[self._area] if paint.ndim == 3 else paint
