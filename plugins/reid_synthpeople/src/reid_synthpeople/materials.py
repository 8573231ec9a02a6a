"""Colours of cloth, and patterns woven into it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid_synthpeople.atlas import SIDE, TEXELS
from reid_synthpeople.randomness import Colour, smooth_noise

Use = Literal["top", "bottom", "jeans"]
"""What a colour is for; bottoms are darker than tops."""

PATTERNS = ("plain", "rows", "columns", "check", "dots", "block", "camouflage")
"""Patterns of cloth."""


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the colour of a hue (a turn is 1), a saturation and a value."""
    sector = (hue * 6 + np.array([5, 3, 1])) % 6
    share = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    colour: Colour = value - value * saturation * share
    return colour


def draw_colour(rng: np.random.Generator, use: Use = "top") -> Colour:
    """Draw a colour as clothes have it: mostly dark, grey or denim, sometimes bright."""
    kind = rng.random()
    if use == "jeans":
        hue = 0.60 + 0.03 * rng.normal()
        return hsv(hue, rng.uniform(0.25, 0.6), rng.uniform(0.18, 0.62))
    dark = 0.55 if use == "bottom" else 0.36
    if kind < dark:
        return hsv(rng.random(), rng.uniform(0, 0.35), rng.uniform(0.05, 0.22))
    if kind < dark + 0.24:  # grey to white
        return hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.3, 0.97))
    if kind < dark + 0.34:  # khaki and brown
        return hsv(0.08 + 0.03 * rng.normal(), rng.uniform(0.2, 0.5), rng.uniform(0.35, 0.8))
    return hsv(rng.random(), rng.uniform(0.45, 0.95), rng.uniform(0.3, 0.92))


def weave(
    pattern: str, ground: Colour, figure: Colour, scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Weave a cloth for the whole atlas, in metres of surface, so that stripes meet at seams.

    Args:
        pattern: one of `PATTERNS`.
        ground, figure: its two colours.
        scale: period in metres.
        rng: stream of its phase and proportions.

    Returns:
        float32 ``256 256 3``.
    """
    phase = rng.random(2).tolist()  # Python's numbers, so that float32 stays float32
    across, down = TEXELS.across, TEXELS.down
    if pattern == "rows":
        mask = (down / scale + phase[0]) % 1 < rng.uniform(0.25, 0.6)
    elif pattern == "columns":
        mask = (across / scale + phase[0]) % 1 < rng.uniform(0.2, 0.5)
    elif pattern == "check":
        rows = (down / scale / 1.3 + phase[0]) % 1 < 0.45
        mask = 0.5 * rows + 0.5 * ((across / scale / 1.3 + phase[1]) % 1 < 0.45)
    elif pattern == "dots":
        x, y = (across / scale + phase[0]) % 1 - 0.5, (down / scale + phase[1]) % 1 - 0.5
        mask = x**2 + y**2 < 0.09
    elif pattern == "block":
        mask = np.clip((down - rng.uniform(0.20, 0.42)) * 100 + 0.5, 0, 1)
    elif pattern == "camouflage":
        mask = smooth_noise(rng, SIDE, 8) > 0.1
    else:
        return np.broadcast_to(ground.astype(np.float32), (SIDE, SIDE, 3))
    weight = mask[..., None].astype(np.float32)
    cloth: NDArray[np.float32] = (
        ground.astype(np.float32) * (1 - weight) + figure.astype(np.float32) * weight
    )
    return cloth
