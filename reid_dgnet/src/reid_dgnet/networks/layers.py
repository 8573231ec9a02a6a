"""Layers that the paper's networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid_core import at_least_float32

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""


def reflected_conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2d:
    """Return a convolution with bias that keeps the size (before its stride) by reflection."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        dilation,
        padding_mode="reflect" if padding else "zeros",
    )


def normalise_instances(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Return maps ``B C H W`` with mean 0, biased variance 1 per sample and channel, in float32."""
    maps = at_least_float32(maps)
    variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
    return (maps - mean) * torch.rsqrt(variance + eps)


class InstanceNorm(nn.Module):
    """Instance normalisation without parameters or running statistics, in float32."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised maps ``B C H W``."""
        return normalise_instances(maps)


class SampleNorm(nn.Module):
    """Normalise each sample over channels and pixels: the layer norm of MUNIT's decoder.

    The standard deviation is the unbiased one and ``eps`` is added to it, outside the root, so that
    this is not ``GroupNorm(1)``. The gain starts uniform in [0, 1), the bias at 0. In float32.

    Args:
        channels: of the maps.
        eps: added to the standard deviation.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.rand(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised maps ``B C H W``."""
        maps = at_least_float32(maps)
        deviation, mean = torch.std_mean(maps, (1, 2, 3), keepdim=True)
        normal = (maps - mean) / (deviation + self.eps)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class Residual(nn.Module):
    """Layers beside the identity; nothing follows the sum.

    Args:
        layers: which keep the maps' shape.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        residual: Tensor = self.layers(maps)
        return maps + residual


def init_kaiming(module: nn.Module) -> None:
    """Fill convolutions and linear layers: Kaiming normal over the fan-in, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_gaussian(module: nn.Module, std: float = 0.02) -> None:
    """Fill convolutions: normal with a fixed deviation, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
