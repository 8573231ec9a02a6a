"""A parser for CPUs: residual blocks down to stride 16, a pyramid with skips back to stride 2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from reid_parsing.networks.parser import Parser, ParserOutputs, conv_norm


class LightParser(Parser):
    """A small encoder with a feature pyramid; 1.0 M parameters, 0.1 GMAC at 128 x 64.

    Args:
        classes: number of classes.
        widths: channels at strides 2, 4, 8 and 16.
        pyramid: channels of the way back.
    """

    def __init__(
        self, classes: int = 8, widths: Sequence[int] = (16, 32, 64, 128), pyramid: int = 48
    ) -> None:
        super().__init__()
        self.classes = classes
        self.stem = conv_norm(3, widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(conv_norm(narrow, wide, stride=2), Residual(wide), Residual(wide))
            for narrow, wide in pairwise(widths)
        )
        # Where a limb belongs is a matter of the whole figure: every place sees their mean.
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(widths[-1], pyramid, 1))
        self.skips = nn.ModuleList(nn.Conv2d(width, pyramid, 1) for width in widths)
        self.smooth = nn.ModuleList(conv_norm(pyramid, pyramid) for _ in widths)
        self.classifier = nn.Conv2d(pyramid, classes, 1)

    def outputs(self, image: Tensor) -> ParserOutputs:
        """Return logits at stride 2; see `Parser.outputs`."""
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        found = self.whole(maps[-1])
        for feature, skip, smooth in zip(
            reversed(maps), reversed(self.skips), reversed(self.smooth), strict=True
        ):
            larger = F.interpolate(found, feature.shape[2:], mode="nearest")
            found = smooth(skip(feature) + larger)
        return ParserOutputs(self.classifier(found))


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_norm(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return F.relu(self.second(self.first(x)) + x)
