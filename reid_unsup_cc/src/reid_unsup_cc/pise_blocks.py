"""Building blocks of `PISE`: encoders, region codes, region-wise normalisation, the decoder.

At the published model's width each part has the published number of parameters; see the golden
tests. A block normalises before its convolution, as residual blocks with pre-activation do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
"""Of the leaky ReLU for negative values."""

Norm = Literal["sample", "instance"]
"""``sample``: over all channels and places of an image, which keeps what channels are to each
other, so colours; ``instance``: over the places of each channel."""

_LEAST_VARIANCE = 1e-5
_SMALL = 0.1


class ChannelAffine(nn.Module):
    """Scale and shift channels, without statistics: an image keeps its colours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def make_norm(channels: int, norm: Norm) -> nn.Module:
    """Return a normalisation with a scale and a shift per channel."""
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(1, channels)


def _activated(norm: nn.Module, convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(norm, nn.LeakyReLU(SLOPE), convolution)


class Down(nn.Sequential):
    """Halve a map: a strided 4x4 convolution, then a 3x3 one.

    Args:
        inputs, outputs: channels.
        norm: see `Norm`.
        first: whether the input is an image, whose statistics are then left alone under ``sample``.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, first: bool = False) -> None:
        colours = first and norm == "sample"
        begin = ChannelAffine(inputs) if colours else make_norm(inputs, norm)
        super().__init__(
            _activated(begin, nn.Conv2d(inputs, outputs, 4, 2, 1)),
            _activated(make_norm(outputs, norm), nn.Conv2d(outputs, outputs, 3, padding=1)),
        )


class Up(nn.Module):
    """Double a map: a residual block whose last convolution and shortcut are transposed."""

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _activated(make_norm(inputs, norm), nn.Conv2d(inputs, inputs, 3, padding=1)),
            _activated(make_norm(inputs, norm), _doubling(inputs, outputs)),
        )
        self.shortcut = _doubling(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``B outputs 2H 2W``."""
        found: Tensor = self.body(x) + self.shortcut(x)
        return found


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                _activated(make_norm(channels, norm), nn.Conv2d(channels, channels, 3, padding=1))
                for _ in range(2)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        found: Tensor = x + self.body(x)
        return found


class Gated(nn.Module):
    """A 3x3 convolution under a gate of its own (Yu et al., 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return F.leaky_relu(self.feature(x), SLOPE) * torch.sigmoid(self.gate(x))


class MapEncoder(nn.Sequential):
    """Encode an image, or an image with maps, at a quarter of its size, having seen a sixteenth.

    Args:
        inputs: channels.
        width: of all layers; the output has ``4 * width`` channels.
        norm: see `Norm`.
        gated: put a gated convolution before each step back up.
    """

    def __init__(self, inputs: int, width: int, norm: Norm, gated: bool) -> None:
        wide = 4 * width
        back: list[nn.Module] = []
        for _ in range(2):
            back += [*([Gated(wide)] if gated else []), Up(wide, wide, norm)]
        super().__init__(
            Down(inputs, 2 * width, norm, first=True),
            Down(2 * width, wide, norm),
            Down(wide, wide, norm),
            Down(wide, wide, norm),
            *back,
        )


@dataclass(frozen=True)
class Codes:
    """What the regions of images look like.

    Args:
        rows: float ``B K+1 C``: a code for each of K classes, then one for the whole image.
        present: bool ``B K``, which classes the image shows.
    """

    rows: Tensor
    present: Tensor

    def used(self) -> Tensor:
        """Return each class's code ``B K C``, or the whole image's where the class is missing."""
        whole = self.rows[:, -1:]
        return torch.where(self.present[:, :, None], self.rows[:, :-1], whole)


def exchange(own: Codes, other: Codes, classes: tuple[int, ...]) -> Codes:
    """Return codes in which some classes look as they do in the other images, row by row.

    Where the other image does not show a class, the own code stays.

    Args:
        own, other: of as many images.
        classes: which rows are replaced.
    """
    wanted = torch.zeros_like(own.present[0])
    wanted[list(classes)] = True
    taken = other.present & wanted
    rows = torch.where(taken[:, :, None], other.rows[:, :-1], own.rows[:, :-1])
    return Codes(torch.cat([rows, own.rows[:, -1:]], 1), own.present | taken)


def region_means(maps: Tensor, regions: Tensor) -> Codes:
    """Return the mean of a map over each region and over all of it.

    Args:
        maps: ``B C H W``.
        regions: one-hot ``B K H W``.
    """
    maps, regions = maps.float(), regions.float()
    area = regions.sum((2, 3))
    means = torch.einsum("bchw,bkhw->bkc", maps, regions) / area.clamp(min=1)[:, :, None]
    return Codes(torch.cat([means, maps.mean((2, 3))[:, None]], 1), area > 0)


def normalise_regions(maps: Tensor, regions: Tensor) -> Tensor:
    """Normalise each channel within each region: its look is gone, its drawing stays.

    Args:
        maps: ``B C H W``.
        regions: one-hot ``B K H W``: a hard parsing, or regions would mix.

    Returns:
        float32 ``B C H W``.
    """
    maps, regions = maps.float(), regions.float()

    def mean(values: Tensor) -> Tensor:
        found = region_means(values, regions).rows[:, :-1]
        return torch.einsum("bkc,bkhw->bchw", found, regions)

    centred = maps - mean(maps)
    return centred * torch.rsqrt(mean(centred**2) + _LEAST_VARIANCE)


class RegionFusion(nn.Module):
    """Paint region codes onto a map: region-wise normalisation, then scale and shift by the codes.

    Scale and shift of the codes are blended with learned ones of the channel's own.

    Args:
        channels: of the map and of the codes.
        classes: number of regions.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.regions = nn.ModuleList(nn.Linear(channels, channels) for _ in range(classes))
        self.scale = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift = nn.Conv2d(channels, channels, 3, padding=1)
        self.own = ChannelAffine(channels)
        self.blend_scale, self.blend_shift = (nn.Parameter(torch.ones(1)) for _ in range(2))

    def forward(self, maps: Tensor, codes: Tensor, regions: Tensor) -> Tensor:
        """Return ``B C H W``.

        Args:
            maps: ``B C H W``.
            codes: ``B K C``.
            regions: one-hot ``B K H W``.
        """
        told = [
            F.leaky_relu(layer(code), SLOPE)
            for layer, code in zip(self.regions, codes.unbind(1), strict=True)
        ]
        placed = torch.einsum("bkc,bkhw->bchw", torch.stack(told, 1), regions.to(told[0].dtype))
        of_scale, of_shift = torch.sigmoid(self.blend_scale), torch.sigmoid(self.blend_shift)
        own_scale, own_shift = (p[:, None, None] for p in (self.own.weight, self.own.bias))
        scale = of_scale * (1 + self.scale(placed)) + (1 - of_scale) * own_scale
        shift = of_shift * self.shift(placed) + (1 - of_shift) * own_shift
        fused: Tensor = normalise_regions(maps, regions) * scale + shift
        return fused


class Decoder(nn.Sequential):
    """From ``4 * width`` channels at a quarter of the size to colours in -1 .. 1.

    Args:
        width: as of `PISE`.
        norm: see `Norm`.
    """

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__(
            Up(4 * width, 2 * width, norm),
            Residual(2 * width, norm),
            Up(2 * width, width, norm),
            Residual(width, norm),
            _activated(make_norm(width, norm), nn.Conv2d(width, 3, 3, padding=1)),
            nn.Tanh(),
        )

    def start_small(self) -> None:
        """Let the first colours be near 0, for a decoder of differences."""
        last: nn.Conv2d = self[-2][-1]  # type: ignore[index]
        with torch.no_grad():
            last.weight *= _SMALL
            last.bias.zero_()  # type: ignore[union-attr]
