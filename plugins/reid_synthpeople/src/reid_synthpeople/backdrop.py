"""Backdrops: one wide scene per camera, of which every picture shows a part.

Ground in perspective (tiles, checks, grass, a road line) below a wall (bricks, windows, a hedge,
panels), with posts, boxes and cars before it. The horizon follows from the camera's pitch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reid_synthpeople.camera import Camera
from reid_synthpeople.ground import paint_street
from reid_synthpeople.materials import draw_colour
from reid_synthpeople.randomness import generator, smooth_noise

_HIGH, _WIDE = 1.3, 5
"""Size of a backdrop in pictures."""

_STREAM = 3
"""Stream under a camera's seed."""

Noise = Callable[[int], NDArray[np.float32]]
"""Draws noise ``H W 1`` of a cell size in pixels."""


def paint_backdrop(camera: Camera, height: int, width: int) -> NDArray[np.uint8]:
    """Paint a camera's scene.

    Args:
        camera: its pitch, distance and seed decide on everything.
        height, width: of a picture in pixels; the backdrop is 1.3 times as high, 5 times as wide.

    Returns:
        uint8 ``1.3H 5W 3``.
    """
    high, wide = int(height * _HIGH), width * _WIDE
    if camera.effects is not None and camera.effects.ground:
        return paint_street(camera, height, high, wide)
    rng = generator(camera.seed, _STREAM)
    y, x = np.meshgrid(
        (np.arange(high) / height).astype(np.float32),
        (np.arange(wide) / height).astype(np.float32),
        indexing="ij",
    )
    horizon = 0.62 - math.tan(camera.pitch) * camera.distance / 1.75 * 0.9
    foot = max(horizon + 0.06, rng.uniform(0.15, 0.75))
    side = 1 << math.ceil(math.log2(max(high, wide)))

    def noise(cell: int) -> NDArray[np.float32]:
        return smooth_noise(rng, side, cell)[:high, :wide, None]

    ground = _paint_ground(rng, noise, x, y, horizon, height)
    wall = _paint_wall(rng, noise, x, y, foot, height)
    wall *= 1 + 0.04 * noise(max(2, height // 64))
    scene = np.where((y < foot)[..., None], wall, ground)
    _add_things(rng, scene, x, y, foot, wide / height)
    return (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)


def _paint_ground(
    rng: np.random.Generator,
    noise: Noise,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    horizon: float,
    height: int,
) -> NDArray[np.float32]:
    colour = draw_colour(rng) * 0.25 + np.array([0.42, 0.41, 0.39]) * rng.uniform(0.6, 1.4)
    # On the plane, distance grows as the inverse of the height below the horizon.
    depth = 1 / np.maximum(y - horizon, 0.03)
    across = (x - x.shape[1] / height / 2) * depth * rng.uniform(1.5, 3)
    along = depth * rng.uniform(1, 3)
    ground = np.ones((*x.shape, 3), np.float32) * colour.astype(np.float32)
    kind = rng.integers(4)
    if kind == 0:  # tiles
        ground *= _darker((across % 1 < 0.06) | (along % 1 < 0.06), 0.16)
    elif kind == 1:  # checks
        ground *= _darker((across.astype(int) + along.astype(int)) % 2 == 0, 0.14)
    elif kind == 2:  # grass
        ground = ground * 0.8 + np.array([0.25, 0.42, 0.14], np.float32) * 0.35
    else:  # road lines
        ground += 0.25 * (np.abs(across % 4 - 2) < 0.12)[..., None].astype(np.float32)
    ground *= 1 + 0.04 * noise(max(2, height // 64)) + 0.07 * noise(height // 6)
    return ground


def _paint_wall(
    rng: np.random.Generator,
    noise: Noise,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    foot: float,
    height: int,
) -> NDArray[np.float32]:
    plaster = 0.5 * np.array([0.6, 0.57, 0.52])
    colour = draw_colour(rng) * 0.5 + plaster * rng.uniform(0.5, 1.4)
    wall = np.ones((*x.shape, 3), np.float32) * colour.astype(np.float32)
    kind, period = rng.integers(4), rng.uniform(0.05, 0.16)
    if kind == 0:  # bricks
        course = y / period
        shift = 0.5 * (course.astype(int) % 2)
        joints = (course % 1 < 0.08) | ((x / period / 2 + shift) % 1 < 0.04)
        wall *= _darker(joints, 0.22)
    elif kind == 1:  # windows
        glass = np.array([0.15, 0.19, 0.24], np.float32) * (1 + 0.5 * noise(height // 8))
        panes = ((x / period / 2.5) % 1 > 0.25) & (((y - foot) / period / 3.5) % 1 > 0.3)
        wall = np.where(panes[..., None], glass, wall)
    elif kind == 2:  # a hedge
        leaves = 1 + 0.45 * noise(max(2, height // 48)) + 0.25 * noise(height // 10)
        wall = np.array([0.16, 0.30, 0.12], np.float32) * leaves
    else:  # panels
        wall *= _darker((x / period) % 1 < 0.5, 0.3)
    return wall


def _add_things(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    foot: float,
    extent: float,
) -> None:
    """Put posts, boxes and cars before the wall."""
    for _ in range(rng.integers(3, 9)):
        left = rng.uniform(0, extent)
        width = rng.choice([0.03, 0.12, 0.35]) * rng.uniform(0.6, 1.5)
        height = rng.uniform(0.15, 0.7)
        bottom = foot + rng.uniform(0.0, 0.15)
        colour = draw_colour(rng) * 0.85
        area = (x > left) & (x < left + width) & (y < bottom) & (y > bottom - height)
        if width < 0.1:  # round posts are lighter on one side
            scene[area] = colour * (1 + 0.3 * ((x[area] - left) / width)[:, None])
        else:
            scene[area] = colour
            window = area & (np.abs(y - bottom + height * 0.7) < height * 0.18)
            window &= np.abs(x - left - width / 2) < width * 0.38
            scene[window] = colour * 0.5 + 0.12


def _darker(where: NDArray[np.bool_], share: float) -> NDArray[np.float32]:
    return (1 - share * where)[..., None].astype(np.float32)
