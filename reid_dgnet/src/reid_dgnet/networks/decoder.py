"""The decoder G (appendix A, table 7) and the MLPs that turn appearance into its AdaIN parameters.

The parameters of adaptive instance normalisation are arguments of the forward, not attributes of
the layers: nothing is left on a module between two images, so replicas, checkpointing and compiling
are safe.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core import at_least_float32
from reid_dgnet.networks.layers import (
    SLOPE,
    SampleNorm,
    init_kaiming,
    normalise_instances,
    reflected_conv,
)
from reid_dgnet.settings import CodeLayout

STRIPES = 4
"""Horizontal stripes of the appearance code."""


class AdaptiveBlock(nn.Module):
    """A residual block whose two normalisations take their scale and shift from outside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = reflected_conv(channels, channels, 3)
        self.second = reflected_conv(channels, channels, 3)

    def forward(self, maps: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
        """Return maps of the same shape; scales and shifts are ``B 2 C``."""
        found = adapt(self.first(maps), scales[:, 0], shifts[:, 0])
        found = adapt(self.second(F.leaky_relu(found, SLOPE)), scales[:, 1], shifts[:, 1])
        return maps + found


def adapt(maps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise each instance's channels, then scale and shift them (Huang and Belongie, 2017).

    The scale is taken as it is, not as a difference from 1.

    Args:
        maps: ``B C H W``.
        scale, shift: ``B C``.
    """
    return normalise_instances(maps) * scale[:, :, None, None] + shift[:, :, None, None]


class SelfAttention(nn.Module):
    """Let every position read all others (Zhang et al., 2019); at the start it changes nothing.

    Not part of the published networks, but of the weights that the authors released.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = max(1, channels // 8)
        self.query = nn.Conv2d(channels, part, 1)
        self.key = nn.Conv2d(channels, part, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape ``B C H W``; products are not scaled."""
        query, key, value = (
            layer(maps).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        read = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return maps + self.gain * read.transpose(1, 2).reshape(maps.shape)


class Decoder(nn.Module):
    """Compose an image of a structure code and AdaIN parameters.

    Args:
        width: as of `StructureEncoder`; the code has ``8 * width`` channels.
        blocks: residual blocks; the paper's are 4.
        non_local: whether `SelfAttention` stands behind them.
    """

    def __init__(self, width: int = 16, blocks: int = 4, non_local: bool = False) -> None:
        super().__init__()
        code, low = 8 * width, 2 * width
        self.blocks = nn.ModuleList(AdaptiveBlock(code) for _ in range(blocks))
        self.attention = SelfAttention(code) if non_local else None
        self.upper = nn.Sequential(*_enlarge(code, 4 * width), *_enlarge(4 * width, low))
        self.last = nn.Sequential(
            reflected_conv(low, low, 3),
            nn.LeakyReLU(SLOPE),
            reflected_conv(low, low, 3),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(low, 3, 1),
        )
        init_kaiming(self)

    def forward(self, structure: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
        """Return images ``B 3 H W``, normalised like the input of the encoders and not bounded.

        Args:
            structure: ``B 8w H/4 W/4``.
            scales, shifts: ``B R 2 8w``, for R blocks of two normalisations.
        """
        maps = structure
        for number, block in enumerate(self.blocks):
            maps = block(maps, scales[:, number], shifts[:, number])
        if self.attention is not None:
            maps = self.attention(maps)
        images: Tensor = self.last(self.upper(maps))
        return at_least_float32(images)


def _enlarge(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=2, mode="nearest"),
        reflected_conv(inputs, outputs, 5),
        SampleNorm(outputs),
        nn.LeakyReLU(SLOPE),
    ]


class ParameterMlps(nn.Module):
    """Turn an appearance code into scales and shifts: two MLPs for each residual block.

    Args:
        channels: of the encoder's map; the code has `STRIPES` values of each.
        width, blocks: as of `Decoder`; blocks among which the code cannot be divided are refused by
            the settings and the plugin.
        layout: what a block's MLPs read. ``channel_group`` cuts the code as it is flattened,
            channel by channel with the stripe fastest: block r gets the r-th part of the channels,
            in all stripes. ``stripe`` gives it the r-th stripe.
    """

    def __init__(
        self,
        channels: int,
        width: int = 16,
        blocks: int = 4,
        layout: CodeLayout = "channel_group",
    ) -> None:
        super().__init__()
        self.blocks, self.layout, self.code = blocks, layout, 8 * width
        part, hidden = STRIPES * channels // blocks, 32 * width
        self.scales = nn.ModuleList(_mlp(part, hidden, 2 * self.code) for _ in range(blocks))
        self.shifts = nn.ModuleList(_mlp(part, hidden, 2 * self.code) for _ in range(blocks))
        init_kaiming(self)

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return scales and shifts ``B R 2 8w`` of codes ``B 4C`` (`appearance_code`)."""
        parts = self._parts(code)
        scales, shifts = (
            torch.stack([mlp(part) for mlp, part in zip(mlps, parts, strict=True)], 1)
            for mlps in (self.scales, self.shifts)
        )
        shape = (len(code), self.blocks, 2, self.code)
        return scales.reshape(shape), shifts.reshape(shape)

    def _parts(self, code: Tensor) -> tuple[Tensor, ...]:
        if self.layout == "stripe":
            return code.reshape(len(code), -1, STRIPES).unbind(2)
        return code.chunk(self.blocks, 1)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(SLOPE),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(SLOPE),
        nn.Linear(hidden, outputs),
    )
