"""Streams of random numbers, one per thing that is drawn.

A stream is named by what it is for and by a key (seed, identity, outfit, camera, picture), never by
the order of drawing: a picture is the same whatever was rendered before it, and another outfit
leaves pose, view and noise alone. NumPy's generators give the same numbers on every machine.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float64]
"""Red, green, blue between 0 and 1."""


class Stream(IntEnum):
    """What a stream under a world's seed is for."""

    IDENTITY = 0
    OUTFIT = 1
    CAMERA = 2
    PICTURE = 4
    TEMPLATE = 5
    STYLES = 6
    STREET = 7


def generator(*key: int) -> np.random.Generator:
    """Return the generator of a key of non-negative integers, each below 2**32."""
    return np.random.default_rng(np.random.SeedSequence([int(part) for part in key]))


def truncated_normal(rng: np.random.Generator, limit: float = 2.0) -> float:
    """Draw a standard normal deviate clipped to ``-limit .. limit``."""
    return min(max(rng.normal(), -limit), limit)


def smooth_noise(rng: np.random.Generator, side: int, cell: int) -> NDArray[np.float32]:
    """Draw value noise on a square: normal deviates every `cell` texels, joined smoothly.

    Returns:
        float32 ``side side``, of mean 0 and somewhat less than unit variance.
    """
    nodes = side // cell + 3
    grid = rng.normal(size=(nodes, nodes)).astype(np.float32)
    position = np.arange(side) / cell
    node = position.astype(int)
    share = (position - node).astype(np.float32)
    share = share * share * (3 - 2 * share)
    rows = grid[node] * (1 - share)[:, None] + grid[node + 1] * share[:, None]
    noise: NDArray[np.float32] = rows[:, node] * (1 - share) + rows[:, node + 1] * share
    return noise
