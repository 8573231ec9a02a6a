"""The discriminator D (appendix A, table 8): a patch critic at each of three scales."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reid_dgnet.networks.layers import SLOPE, Residual, init_gaussian, reflected_conv

SCALES = 3
"""The image, its half and its quarter."""


class PatchCritic(nn.Module):
    """Judge the patches of an image.

    Args:
        width: half the channels of the first layer; the paper's is 16.
        blocks: residual blocks; the paper's are 4.
    """

    def __init__(self, width: int = 16, blocks: int = 4) -> None:
        super().__init__()
        low, high = 2 * width, 4 * width
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in (
            (3, low, 1, 1),
            (low, low, 3, 1),
            (low, low, 3, 2),
            (low, low, 3, 1),
            (low, high, 3, 2),
        ):
            layers += [reflected_conv(inputs, outputs, kernel, stride), nn.LeakyReLU(SLOPE)]
        for _ in range(blocks):
            first, second = (reflected_conv(high, high, 3) for _ in range(2))
            layers.append(Residual(first, nn.LeakyReLU(SLOPE), second))
        self.layers = nn.Sequential(*layers, nn.Conv2d(high, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return a score per patch, ``B 1 H/4 W/4``, of images ``B 3 H W``."""
        scores: Tensor = self.layers(images)
        return scores


class Discriminator(nn.Module):
    """Three critics of their own weights, each on the average-pooled image of the one before.

    Args:
        width, blocks: as of `PatchCritic`.
    """

    def __init__(self, width: int = 16, blocks: int = 4) -> None:
        super().__init__()
        self.critics = nn.ModuleList(PatchCritic(width, blocks) for _ in range(SCALES))
        init_gaussian(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the scores of every scale, from fine to coarse."""
        scores = []
        for number, critic in enumerate(self.critics):
            if number:
                images = F.avg_pool2d(images, 3, 2, 1, count_include_pad=False)
            scores.append(critic(images))
        return scores
