"""The texture atlas: where each piece of the body's surface lies in one square picture.

The atlas has 256 x 256 texels and 18 charts, one per tube of the body; they cover 95.5 % of it. In
a chart, columns run around the tube with the front in the middle, the subject's left on the right
(mirrored on right arms and legs) and the seam at the back; rows run along it, downwards. A margin
of one texel around each chart belongs to it, so that interpolation stays inside.

The size and the role are those of SMPL's or SURREAL's textures; the charts are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import PART_CLASSES

LAYOUT = "synthpeople-v1"
"""Layout id of the atlas."""

SIDE = 256
"""Texels of the atlas's side."""

_HEAD, _TORSO, _UPPER_ARM, _LOWER_ARM, _UPPER_LEG, _LOWER_LEG, _FOOT = range(1, len(PART_CLASSES))


@dataclass(frozen=True)
class Chart:
    """One piece of surface.

    Args:
        name: of the tube; `kind` is the name without its side.
        x, y, width, height: its rectangle in texels.
        part: class of the field ``parts``.
        girth, start, length: metres around the tube, and along the body: its upper end, its
            length. They fix the scale of patterns, so that stripes of torso and sleeve match.
    """

    name: str
    x: int
    y: int
    width: int
    height: int
    part: int
    girth: float
    start: float
    length: float

    @property
    def kind(self) -> str:
        """Name without side: ``upper arm``."""
        return self.name.removesuffix(" left").removesuffix(" right")

    @property
    def mirrored(self) -> bool:
        """Whether columns run the other way, as on right arms and legs."""
        return self.name.endswith(" right") and self.kind.endswith((" arm", " leg"))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the atlas."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


CHARTS: tuple[Chart, ...] = (
    Chart("torso", 0, 0, 112, 96, _TORSO, 0.92, 0.0, 0.70),
    Chart("head", 112, 0, 72, 64, _HEAD, 0.6, 0.0, 0.24),
    Chart("hair", 184, 0, 72, 64, _HEAD, 0.6, 0.0, 0.3),
    Chart("upper arm left", 112, 64, 36, 48, _UPPER_ARM, 0.33, 0.10, 0.33),
    Chart("upper arm right", 148, 64, 36, 48, _UPPER_ARM, 0.33, 0.10, 0.33),
    Chart("lower arm left", 184, 64, 36, 48, _LOWER_ARM, 0.27, 0.43, 0.27),
    Chart("lower arm right", 220, 64, 36, 48, _LOWER_ARM, 0.27, 0.43, 0.27),
    Chart("upper leg left", 0, 112, 64, 72, _UPPER_LEG, 0.52, 0.66, 0.44),
    Chart("upper leg right", 64, 112, 64, 72, _UPPER_LEG, 0.52, 0.66, 0.44),
    Chart("lower leg left", 128, 112, 64, 72, _LOWER_LEG, 0.38, 1.10, 0.43),
    Chart("lower leg right", 192, 112, 64, 72, _LOWER_LEG, 0.38, 1.10, 0.43),
    Chart("skirt", 0, 184, 112, 72, _UPPER_LEG, 1.1, 0.58, 0.5),
    Chart("foot left", 112, 184, 40, 48, _FOOT, 0.25, 0.0, 0.26),
    Chart("foot right", 152, 184, 40, 48, _FOOT, 0.25, 0.0, 0.26),
    Chart("hand left", 192, 184, 32, 24, _LOWER_ARM, 0.2, 0.0, 0.18),
    Chart("hand right", 224, 184, 32, 24, _LOWER_ARM, 0.2, 0.0, 0.18),
    Chart("bag", 192, 208, 64, 48, _TORSO, 0.8, 0.0, 0.45),
    Chart("bun", 0, 96, 48, 16, _HEAD, 0.2, 0.0, 0.2),
)
"""All charts. Hats and hair are head, a bag is torso, a skirt is upper leg to its hem, hands are
lower arm."""


@dataclass(frozen=True, eq=False)
class Texels:
    """Where each texel lies on the body; float32 ``256 256``, 0 outside the charts.

    Args:
        around: turns around the tube, ``-0.5 .. 0.5`` (a little more in the margin); 0 is the
            front, 0.25 the subject's left.
        along: share of the tube, 0 at its upper end, 1 at its lower.
        across, down: metres of surface, for patterns.
    """

    around: NDArray[np.float32]
    along: NDArray[np.float32]
    across: NDArray[np.float32]
    down: NDArray[np.float32]


def _place_texels() -> Texels:
    around, along, across, down = np.zeros((4, SIDE, SIDE), np.float32)
    for chart in CHARTS:
        rows = (np.arange(chart.height) + 0.5 - 1) / (chart.height - 2)
        columns = (np.arange(chart.width) + 0.5 - 1) / (chart.width - 2) - 0.5
        v, u = np.meshgrid(rows, -columns if chart.mirrored else columns, indexing="ij")
        area = chart.slices
        around[area], along[area] = u, v
        across[area], down[area] = u * chart.girth, chart.start + v * chart.length
    return Texels(around, along, across, down)


TEXELS = _place_texels()
"""Where each texel lies."""
