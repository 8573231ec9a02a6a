"""Backdrops of streets: ground seen from above, and what lies and stands on it.

Pavement, lawn, kerbs, road lines, slabs, patches and leaves in perspective; beyond the horizon, or
where the ground ends, leaves upon leaves of all sizes (the dead-leaves model, which has the
statistics of photographs of things that hide one another: Lee, Mumford and Huang, IJCV 2001).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from reid_synthpeople.camera import Camera
from reid_synthpeople.materials import draw_colour, hsv
from reid_synthpeople.randomness import Colour, generator, smooth_noise

_STREAM = 4
"""Stream under a camera's seed."""

_LEAVES = 700
"""Leaves of a backdrop."""

Plane = NDArray[np.float32]


def paint_street(camera: Camera, height: int, high: int, wide: int) -> NDArray[np.uint8]:
    """Paint the scene of a camera in a street.

    Args:
        camera: its pitch, distance and seed decide on everything.
        height: of a picture in pixels.
        high, wide: of the backdrop in pixels.

    Returns:
        uint8 ``high wide 3``.
    """
    rng = generator(camera.seed, _STREAM)
    side = 1 << math.ceil(math.log2(max(high, wide)))
    y, x = np.meshgrid(
        (np.arange(high) / height).astype(np.float32),
        (np.arange(wide) / height).astype(np.float32),
        indexing="ij",
    )
    rough = _rough(rng, side)[:high, :wide, None]
    # Where the ground meets the sky, in pictures from the top; negative where one looks down.
    horizon = 0.62 - math.tan(camera.pitch) * camera.distance / 1.75 * 0.9
    end = max(horizon + 0.04, rng.uniform(-0.4, 0.45))
    depth = 1 / np.maximum(y - horizon, 0.05)
    across = (x - wide / height / 2) * depth * rng.uniform(0.8, 1.6)
    along = depth * rng.uniform(1.0, 2.5)
    scene = _paint_floor(rng, across, along, rough)
    if end > 0:
        leaves = _dead_leaves(rng, high, wide, height)
        scene = np.where((y < end)[..., None], leaves, scene)
    _add_patches(rng, scene, x, y, wide / height)
    scene *= 1 + 0.05 * rough
    return (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)


def _rough(rng: np.random.Generator, side: int) -> Plane:
    """Return noise of all sizes, of about unit variance."""
    noise = np.zeros((side, side), np.float32)
    for cell, share in ((2, 0.5), (5, 0.45), (16, 0.5), (60, 0.55)):
        noise += np.float32(share) * smooth_noise(rng, side, cell)
    return noise


def _floor_colour(rng: np.random.Generator) -> Colour:
    kind = rng.integers(4)
    if kind == 0:  # asphalt
        return hsv(0.6, rng.uniform(0, 0.08), rng.uniform(0.25, 0.5))
    if kind == 1:  # concrete
        return hsv(0.1, rng.uniform(0, 0.12), rng.uniform(0.5, 0.8))
    if kind == 2:  # sand, brick
        return hsv(rng.uniform(0.02, 0.11), rng.uniform(0.15, 0.45), rng.uniform(0.45, 0.8))
    return hsv(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.3, 0.75))  # floors of halls


def _paint_floor(
    rng: np.random.Generator, across: Plane, along: Plane, rough: NDArray[np.float32]
) -> NDArray[np.float32]:
    floor = np.ones((*across.shape, 3), np.float32) * _floor_colour(rng).astype(np.float32)
    floor *= 1 + rng.uniform(0.03, 0.12) * rough
    kind = rng.integers(4)
    if kind == 0:  # slabs
        joints = (across % 1 < 0.05) | (along % 1 < 0.05)
        floor *= 1 - rng.uniform(0.1, 0.3) * joints[..., None]
    elif kind == 1:  # bricks
        shift = 0.5 * (np.floor(along * 3) % 2)
        joints = ((across * 2 + shift) % 1 < 0.08) | ((along * 3) % 1 < 0.12)
        floor *= 1 - rng.uniform(0.08, 0.2) * joints[..., None]
    # A second ground beyond a kerb that runs in any direction.
    turn = rng.uniform(-np.pi, np.pi)
    beyond = across * math.cos(turn) + along * math.sin(turn) - rng.uniform(-0.5, 3.5)
    if rng.random() < 0.7:
        green = rng.random() < 0.5
        other = hsv(rng.uniform(0.2, 0.3), rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.5))
        other = (other if green else _floor_colour(rng)).astype(np.float32)
        second = other * (1 + (0.22 if green else 0.08) * rough)
        floor = np.where((beyond > 0)[..., None], second, floor)
        kerb = (np.abs(beyond) < rng.uniform(0.03, 0.15))[..., None]
        floor = np.where(kerb, np.float32(rng.uniform(0.5, 0.85)), floor)
    if rng.random() < 0.4:  # lines
        turn = rng.uniform(-np.pi, np.pi)
        line = across * math.cos(turn) + along * math.sin(turn) - rng.uniform(-1, 3)
        painted = (np.abs(line) < rng.uniform(0.04, 0.12))[..., None]
        floor = np.where(painted, np.float32(rng.uniform(0.75, 0.95)), floor)
    return floor.astype(np.float32)


def _dead_leaves(
    rng: np.random.Generator, high: int, wide: int, height: int
) -> NDArray[np.float32]:
    """Return what stands behind: discs and boxes whose sizes follow a power law."""
    scene = np.ones((high, wide, 3), np.float32) * draw_colour(rng).astype(np.float32)
    hue, together = rng.random(), rng.uniform(0.2, 0.9)
    for _ in range(_LEAVES):
        size = height * float(np.clip(0.012 / (1 - rng.random() * 0.995) ** 0.55, 0.0, 0.35))
        middle_y, middle_x = rng.uniform(0, high), rng.uniform(0, wide)
        stretch = float(np.exp(0.5 * rng.normal()))
        reach_x, reach_y = size * stretch, size / stretch
        colour = draw_colour(rng)
        if rng.random() < together:
            colour = hsv(hue + 0.05 * rng.normal(), rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.8))
        else:  # most of what one sees is pale
            colour = 0.5 * colour + 0.5 * colour.mean()
        round_one = rng.random() < 0.5
        top, bottom = max(0, int(middle_y - reach_y)), min(high, int(middle_y + reach_y) + 1)
        left, right = max(0, int(middle_x - reach_x)), min(wide, int(middle_x + reach_x) + 1)
        if top >= bottom or left >= right:
            continue
        area = scene[top:bottom, left:right]
        if round_one:
            y, x = np.ogrid[top:bottom, left:right]
            inside = ((y - middle_y) / reach_y) ** 2 + ((x - middle_x) / reach_x) ** 2 < 1
            area[inside] = colour
        else:
            area[:] = colour
    return scene


def _add_patches(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    x: Plane,
    y: Plane,
    extent: float,
) -> None:
    """Put things on the ground and shade over it: boxes, cars, drains, leaves, long shadows."""
    for _ in range(int(rng.integers(2, 12))):
        middle_x, middle_y = rng.uniform(0, extent), rng.uniform(-0.1, 1.2)
        reach = float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
        slope = rng.uniform(-0.7, 0.7)
        aside = np.abs(x - middle_x + slope * (y - middle_y)) / reach
        down = np.abs(y - middle_y) / (reach * rng.uniform(0.2, 0.8))
        shape = (aside < 1) & (down < 1) if rng.random() < 0.5 else aside**2 + down**2 < 1
        if rng.random() < 0.45:
            scene[shape] *= np.float32(rng.uniform(0.45, 0.85))
        else:
            colour = draw_colour(rng).astype(np.float32)
            colour = np.float32(0.5) * (colour + colour.mean())
            scene[shape] = colour * (1 + 0.25 * (down[shape] - 0.5)[:, None])
