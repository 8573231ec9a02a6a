"""A camera's response: blur, gain, saturation, gamma, contrast, noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_synthpeople.camera import Camera, View
from reid_synthpeople.optics import Optics
from reid_synthpeople.randomness import generator

_NOISE_KEY = (9, 10)
"""Of the stream of noise, the same in all worlds."""

_LEAST_NOISE = 1 << 21
"""Deviates in the store of noise; each picture shows another stretch of it."""


class Photographer:
    """Turn scenes into pictures.

    Args:
        size: height and width of a picture.
        supersampling: samples per pixel in each direction.
        device: where it works.
    """

    def __init__(self, size: tuple[int, int], supersampling: int, device: torch.device) -> None:
        self._size = size
        self._supersampling = supersampling
        self._values = 3 * size[0] * size[1]
        count = max(_LEAST_NOISE, 4 * self._values)
        noise = generator(*_NOISE_KEY).standard_normal(count, np.float32)
        self._noise = torch.from_numpy(noise).to(device)
        self._optics = Optics(size, device)

    def take(self, scenes: Tensor, cameras: Sequence[Camera], views: Sequence[View]) -> Tensor:
        """Return pictures uint8 ``B H W 3`` of scenes float32 ``B sH sW 3`` in linear light."""
        device = scenes.device

        def per_row(of: Callable[[Camera, View], object], *shape: int) -> Tensor:
            values = [of(camera, view) for camera, view in zip(cameras, views, strict=True)]
            column = torch.from_numpy(np.array(values, np.float32)).to(device)
            return column.view(len(values), *shape)

        light = scenes.permute(0, 3, 1, 2).contiguous()
        if self._supersampling > 1:
            light = functional.avg_pool2d(light, self._supersampling)
        light = self._optics.before(light, views)
        radius = per_row(lambda c, v: c.blur, 1) * self._size[0] / 256 * 1.4
        light = _blur(light, radius)
        light *= per_row(lambda c, v: c.gain * v.brightness, 3, 1, 1)
        grey = light.mean(1, keepdim=True)
        value = light.sub_(grey).mul_(per_row(lambda c, v: c.saturation, 1, 1, 1)).add_(grey)
        value.clamp_(1e-4, 1.2).pow_(per_row(lambda c, v: c.gamma, 1, 1, 1))
        contrast = per_row(lambda c, v: c.contrast, 1, 1, 1)
        value.mul_(contrast).add_(0.5 - 0.5 * contrast + per_row(lambda c, v: c.haze, 1, 1, 1))
        grain = self._grain(views)
        value = self._optics.after(value, grain, cameras)
        value.addcmul_(grain, per_row(lambda c, v: c.noise, 1, 1, 1))
        pixels = value.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous()

    def _grain(self, views: Sequence[View]) -> Tensor:
        stretches = []
        for view in views:
            start = int(view.noise * (len(self._noise) - self._values))
            stretches.append(self._noise[start : start + self._values].view(3, *self._size))
        return torch.stack(stretches)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur images ``B C H W`` by Gaussians of five taps with standard deviations ``B 1``."""
    taps = torch.arange(3, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = kernel / (kernel.sum(1, keepdim=True) * 2 - kernel[:, :1])
    middle, near, far = (weight[:, None, None, None] for weight in kernel.unbind(1))
    padded = functional.pad(images, (2, 2, 2, 2), "replicate")
    for dimension in (2, 3):

        def shifted(by: int, values: Tensor = padded, along: int = dimension) -> Tensor:
            return values.narrow(along, 2 + by, values.shape[along] - 4)

        blurred = shifted(0) * middle
        blurred.addcmul_(shifted(-1) + shifted(1), near)
        padded = blurred.addcmul_(shifted(-2) + shifted(2), far)
    return padded
