"""Cameras of the toy data: background, light, colour cast, noise and framing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.testing.toy.figures import Figure, Framing, Pose, View

_MARGIN = 0.25
"""How much larger than an image the scenery is, so that every image sees another piece of it."""


class ToyCamera:
    """One camera, which sees every image a little differently.

    Args:
        rng: draws the camera's lasting properties.
        size: height and width of its images.
        strength: how far cameras differ from each other, 0 to 1.
    """

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], strength: float = 1.0
    ) -> None:
        self.size = size
        cast = rng.uniform(-0.28, 0.28, 3) * strength
        self._gains = (np.exp(cast) * np.exp(rng.uniform(-0.3, 0.2) * strength)).astype(np.float32)
        self._haze = np.float32(rng.uniform(0, 40) * strength)
        self._noise = np.float32(rng.uniform(2, 14) * strength)
        self._blurred = bool(rng.random() < 0.5)
        self._scale = rng.uniform(0.86, 0.95)
        self._light = rng.uniform(-0.5, 0.5) * strength
        self._views = rng.dirichlet((1.5, 1.0, 1.5))
        self._scenery = _scenery(rng, (int(size[0] * (1 + _MARGIN)), int(size[1] * (1 + _MARGIN))))

    def draw_pose(self, rng: np.random.Generator) -> Pose:
        """Draw how a person walks past this camera."""
        view = View(int(rng.choice(len(View), p=self._views)))
        facing = 1 if rng.random() < 0.5 else -1
        return Pose(view, rng.uniform(-0.42, 0.42), rng.uniform(-0.6, 0.6), facing)

    def draw_framing(self, rng: np.random.Generator) -> Framing:
        """Draw where a person's box was cut out, as a detector would."""
        height, width = self.size
        scale = self._scale * height * rng.uniform(0.94, 1.05)
        top = (height - scale) * 0.5 + rng.uniform(-0.02, 0.06) * height
        return Framing(self.size, top, width * rng.uniform(0.42, 0.58) - 0.5, scale)

    def take(self, figure: Figure, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the picture of a figure: uint8 ``3 H W``."""
        height, width = self.size
        top, left = (
            int(rng.integers(0, s - n + 1))
            for s, n in zip(self._scenery.shape[1:], self.size, strict=True)
        )
        image = self._scenery[:, top : top + height, left : left + width].copy()
        sideways = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(self._light)
        lit = figure.colours * (figure.shade * (1 + 0.35 * sideways))
        np.copyto(image, lit, where=figure.parts > 0)
        image *= (self._gains * np.float32(rng.uniform(0.85, 1.15)))[:, None, None]
        image += self._haze
        if self._blurred:
            image[:, :, 1:-1] = (image[:, :, :-2] + 2 * image[:, :, 1:-1] + image[:, :, 2:]) / 4
            image[:, 1:-1] = (image[:, :-2] + 2 * image[:, 1:-1] + image[:, 2:]) / 4
        image += rng.standard_normal(image.shape, dtype=np.float32) * self._noise
        return np.clip(image, 0, 255).astype(np.uint8)


def _scenery(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Paint a wall, a floor and some things: float32 ``3 H W``."""
    height, width = size

    def dull_colour() -> NDArray[np.float64]:
        return rng.uniform(55, 200) + rng.uniform(-35, 35, (3, 1, 1))

    wall, floor = dull_colour(), dull_colour()
    left, right = rng.uniform(0.8, 1.2, 2).tolist()
    ramp = np.linspace(0.8, 1.2, height)[:, None] * np.linspace(left, right, width)
    scenery = wall * ramp
    horizon = int(height * rng.uniform(0.55, 0.8))
    scenery[:, horizon:] = floor * ramp[horizon:]
    for _ in range(int(rng.integers(3, 8))):
        y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
        h, w = int(rng.integers(height // 12, height // 3)), int(rng.integers(2, width // 3))
        scenery[:, y : y + h, x : x + w] = dull_colour()
    return np.asarray(scenery, np.float32)
