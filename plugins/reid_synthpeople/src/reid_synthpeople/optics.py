"""What lens, sensor and scene do to pictures of cameras and views with effects.

Each function takes a batch and changes the rows that have effects; the others keep every bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_synthpeople.camera import Camera, View
from reid_synthpeople.effects import CameraEffects, ViewEffects
from reid_synthpeople.randomness import generator, smooth_noise

_SHADE_KEY = (9, 11)
"""Of the stream of the shade of trees and houses, the same in all worlds."""

_SHADE = 256
"""Side of the square of shade; each picture shows a quarter of it."""

_POINTS = 9
"""Along the path of a moving picture."""


class Optics:
    """Apply effects.

    Args:
        size: height and width of a picture.
        device: where it works.
    """

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self._size = size
        rng = generator(*_SHADE_KEY)
        shade = smooth_noise(rng, _SHADE, 40) + 0.6 * smooth_noise(rng, _SHADE, 14)
        self._shade = torch.from_numpy(shade).to(device)
        y = torch.linspace(-1, 1, size[0], device=device)[:, None]
        x = torch.linspace(-1, 1, size[1], device=device)[None]
        self._corner = (x * x + y * y) / 2

    def before(self, light: Tensor, views: Sequence[View]) -> Tensor:
        """Return linear light ``B 3 H W`` as it reaches the sensor: shade, blur, coarse pixels."""
        effects = [view.effects for view in views]
        if not any(effects):
            return light
        rows = []
        for row, own in zip(light, effects, strict=True):
            rows.append(row if own is None else self._through_lens(row, own))
        return torch.stack(rows)

    def after(self, value: Tensor, grain: Tensor, cameras: Sequence[Camera]) -> Tensor:
        """Return values ``B 3 H W`` as the camera stores them: glare, corners, sharpening, noise.

        Args:
            value: after the camera's response, about 0 to 1.
            grain: standard normal deviates of the same shape.
            cameras: of the batch.
        """
        effects = [camera.effects for camera in cameras]
        if not any(effects):
            return value
        rows = []
        for row, noise, own in zip(value, grain, effects, strict=True):
            rows.append(row if own is None else self._stored(row, noise, own))
        return torch.stack(rows)

    def _through_lens(self, light: Tensor, effects: ViewEffects) -> Tensor:
        height, width = self._size
        if effects.dapple:
            top, left = (
                int(share * (_SHADE // 2 - 1)) for share in (effects.dapple_y, effects.dapple_x)
            )
            part = self._shade[top : top + _SHADE // 2, left : left + _SHADE // 2]
            part = functional.interpolate(
                part[None, None], (height, width), mode="bilinear", align_corners=False
            )
            light = light * (1 - effects.dapple * torch.sigmoid(8 * part[0]))
        if effects.motion or effects.defocus:
            kernel = _kernel(
                effects.motion * height, effects.direction, effects.defocus * height / 256
            ).to(light)
            reach = kernel.shape[0] // 2
            padded = functional.pad(light[None], (reach,) * 4, "replicate")
            weight = kernel.expand(3, 1, *kernel.shape)
            light = functional.conv2d(padded, weight, groups=3)[0]
        if effects.coarseness > 1:
            few = tuple(max(4, round(side / effects.coarseness)) for side in (height, width))
            coarse = functional.interpolate(
                light[None], few, mode="bilinear", align_corners=False, antialias=True
            )
            light = functional.interpolate(
                coarse, (height, width), mode="bilinear", align_corners=False
            )[0]
        return light * torch.from_numpy(effects.drift).to(light)[:, None, None]

    def _stored(self, value: Tensor, noise: Tensor, effects: CameraEffects) -> Tensor:
        if effects.glare:
            veil = torch.from_numpy(effects.veil).to(value)[:, None, None]
            value = value * (1 - effects.glare) + veil * effects.glare
        value = value * (1 - effects.vignette * self._corner)
        if effects.sharpening:
            padded = functional.pad(value[None], (1, 1, 1, 1), "replicate")
            blurred = functional.avg_pool2d(padded, 3, 1)[0]
            value = value + effects.sharpening * (value - blurred)
        return value + effects.shot_noise * noise * value.clamp(0.02, 1).sqrt()


def _kernel(length: float, direction: float, radius: float) -> Tensor:
    """Return the square kernel of a straight motion and a Gaussian, in pixels; it sums to 1."""
    radius = max(radius, 0.35)
    reach = max(1, math.ceil(length / 2 + 2 * radius))
    place = np.arange(-reach, reach + 1, dtype=np.float64)
    along = np.linspace(-length / 2, length / 2, _POINTS)
    across, down = along * math.cos(direction), along * math.sin(direction)
    x = np.exp(-0.5 * ((place[None] - across[:, None]) / radius) ** 2)
    y = np.exp(-0.5 * ((place[None] - down[:, None]) / radius) ** 2)
    kernel = np.einsum("py,px->yx", y, x)
    return torch.from_numpy((kernel / kernel.sum()).astype(np.float32))


def cast_shadows(
    scenes: Tensor,
    pixels: Tensor,
    ankles: Tensor,
    cameras: Sequence[Camera],
    views: Sequence[View],
) -> None:
    """Darken the ground of scenes ``B H W 3`` where people keep the sun off it, in place.

    The shadow is the person's outline, laid down about the feet along the sun's direction.

    Args:
        scenes: their surroundings, without the people.
        pixels: indices into ``B * H * W`` of the pixels that people cover.
        ankles: in pixels, ``B 2 2``.
        cameras, views: of the batch.
    """
    height, width = scenes.shape[1:3]
    outline: Tensor | None = None
    for row, (camera, view) in enumerate(zip(cameras, views, strict=True)):
        if view.effects is None or not view.effects.shadow:
            continue
        if outline is None:
            outline = torch.zeros(len(scenes) * height * width, device=scenes.device)
            outline = outline.index_fill_(0, pixels, 1).view(-1, height, width)
        reach = min(2.2, 1 / math.tan(camera.sun_elevation))
        aside = -math.sin(camera.sun_azimuth) * reach
        down = -math.cos(camera.sun_azimuth) * reach * math.sin(view.pitch)
        down = math.copysign(max(abs(down), 0.08), down)
        foot = float(ankles[row, :, 1].amax()) + 0.015 * height
        y = torch.arange(height, device=scenes.device)[:, None] + 0.5
        x = torch.arange(width, device=scenes.device)[None] + 0.5
        above = (y - foot) / down
        grid = torch.stack(
            torch.broadcast_tensors(
                2 * (x - aside * above) / width - 1, 2 * (foot - above) / height - 1
            ),
            -1,
        )
        cast = functional.grid_sample(
            outline[row][None, None], grid[None], align_corners=False, padding_mode="zeros"
        )
        cast = functional.avg_pool2d(cast, 3, 1, 1)[0, 0]
        scenes[row] *= (1 - view.effects.shadow * cast)[..., None]
