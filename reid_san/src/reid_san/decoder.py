"""SA-Dec: four residual up-sampling blocks that regress a texture from the encoder's last map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = 4
"""Up-sampling blocks; each doubles height and width."""

NARROWEST = 16
"""Least channels of a block: those of the paper's last one. Fewer cannot carry colour."""

SPREAD = 0.02
"""Spread of the initial weights of batch norm around 1 (public code)."""


def block_widths(width: int) -> tuple[int, ...]:
    """Return the channels before the blocks and behind the last: 512, 256, 64, 32, 16 for 512."""
    return width, *(max(NARROWEST, width // share) for share in (2, 8, 16, 32))


class ResidualUp(nn.Module):
    """A residual unit, bilinear up-sampling by two, and a convolution to fewer channels.

    Args:
        channels: of the input.
        out: of the output, which no activation follows.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.unit = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.active = nn.ReLU()
        self.last = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, out, 3))

    def forward(self, feature: Tensor) -> Tensor:
        """Return the map at twice the height and width."""
        feature = self.active(feature + self.unit(feature))
        feature = F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)
        result: Tensor = self.last(feature)
        return result


class Colours(nn.Module):
    """Paint a small image by one linear layer on the encoder's last map; it starts with nothing.

    The encoder's map knows the colours of a person long before convolutions have learnt to read
    them off it: a texture's place is no place of the image.

    Args:
        channels: of the map.
        places: height and width to which the map is averaged.
    """

    SIDE = 16
    """Height and width of what is painted."""

    PACE = 10.0
    """How fast it learns: the factor on inputs that are scaled by the root of their number."""

    def __init__(self, channels: int, places: tuple[int, int]) -> None:
        super().__init__()
        self.places = places
        self.norm = nn.BatchNorm2d(channels)
        inputs = channels * places[0] * places[1]
        self.linear = nn.Linear(inputs, 3 * self.SIDE**2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        # A step of Adam moves every weight alike, and with them an output of so many inputs far.
        self.scale = self.PACE * inputs**-0.5

    def forward(self, feature: Tensor, size: tuple[int, int]) -> Tensor:
        """Return ``B 3 *size``."""
        inputs = F.adaptive_avg_pool2d(self.norm(feature), self.places).flatten(1)
        image = self.linear(inputs * self.scale).view(-1, 3, self.SIDE, self.SIDE)
        return F.interpolate(image, size, mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """SA-Dec.

    Args:
        channels: of the maps that it reads: the encoder's last one and, for skips, those of strides
            16, 8 and 4 (`stage3`, `stage2`, `stage1`).
        width: channels behind its first layer.
        size: height and width of the regressed image; the last layer's output is stretched to it.
        gain: of the initial weights (Xavier, normal).
        centre: what is added to the last layer's output, ``3 *size``; None adds nothing.
        colours: the height and width at which `Colours` see the last map; None leaves them out.
    """

    centre: Tensor | None

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        size: tuple[int, int],
        gain: float = 0.3,
        centre: Tensor | None = None,
        colours: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        widths = block_widths(width)
        self.size = size
        self.reduce = _reduction(channels[0], widths[0])
        self.skips = nn.ModuleList(
            _reduction(own, wanted) for own, wanted in zip(channels[1:], widths, strict=False)
        )
        self.blocks = nn.ModuleList(ResidualUp(before, after) for before, after in pairwise(widths))
        self.last = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(widths[-1], 3, 7))
        self.apply(partial(_initialise, gain))
        self.colours = Colours(channels[0], colours) if colours else None
        self.register_buffer("centre", centre)

    def forward(self, feature: Tensor, *shallower: Tensor) -> tuple[Tensor, ...]:
        """Regress an image.

        Args:
            feature: the encoder's last map, ``B C H W``.
            shallower: `stage3`, `stage2` and `stage1`, for a decoder with skips.

        Returns:
            The image ``B 3 *size``, about -1 .. 1 but not clamped, and the maps of the four blocks.
        """
        painted = self.colours(feature, self.size) if self.colours is not None else None
        feature = self.reduce(feature)
        maps = []
        for number, block in enumerate(self.blocks):
            if number < len(self.skips):
                feature = feature + self.skips[number](shallower[number])
            feature = block(feature)
            maps.append(feature)
        image = self.last(feature)
        if tuple(image.shape[2:]) != self.size:
            image = F.interpolate(image, self.size, mode="bilinear", align_corners=True)
        for added in (painted, self.centre):
            if added is not None:
                image = image + added
        return image, *maps


def _reduction(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out), nn.ReLU())


def _initialise(gain: float, module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight, gain)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, SPREAD)
        nn.init.zeros_(module.bias)
