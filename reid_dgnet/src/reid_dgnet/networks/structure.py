"""The structure encoder E_s (appendix A, table 6): where things are, not what colour they have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid_dgnet.networks.layers import SLOPE, InstanceNorm, Residual, init_kaiming, reflected_conv

DILATIONS = (3, 6, 9)
"""Dilations of the pyramid's last three branches, in pixels of the quarter-size map."""


class StructureEncoder(nn.Module):
    """Encode a grey image as a map of a quarter of its size.

    Instance normalisation without parameters ends it, so every channel of the code has mean 0 and
    deviation 1, and the overall brightness and contrast of the image leave no trace in it.

    Args:
        width: channels of the first layer; the paper's is 16. The code has ``8 * width``.
        blocks: residual blocks; the paper's are 4.
        aspp: whether the atrous spatial pyramid stands before the last layer.
    """

    def __init__(self, width: int = 16, blocks: int = 4, aspp: bool = True) -> None:
        super().__init__()
        inner, code = 4 * width, 8 * width
        self.down = nn.Sequential(
            _unit(1, width, 3, stride=2),
            _unit(width, 2 * width, 3),
            _unit(2 * width, 2 * width, 3),
            _unit(2 * width, inner, 3, stride=2),
        )
        self.blocks = nn.Sequential(
            *(
                Residual(_unit(inner, inner, 3), _unit(inner, inner, 3, active=False))
                for _ in range(blocks)
            )
        )
        self.pyramid = AtrousPyramid(inner, code) if aspp else None
        self.fuse = _unit(code if aspp else inner, code, 1, active=False)
        init_kaiming(self)

    def forward(self, grey: Tensor) -> Tensor:
        """Return the structure code ``B 8w H/4 W/4`` of a grey image ``B 1 H W``."""
        maps = self.blocks(self.down(grey))
        if self.pyramid is not None:
            maps = self.pyramid(maps)
        code: Tensor = self.fuse(maps)
        return code


class AtrousPyramid(nn.Module):
    """Look at four scales at once: a point, and dilations of 3, 6 and 9.

    Args:
        inputs: channels.
        outputs: channels, a quarter of them from each branch.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        part = outputs // 4
        self.branches = nn.ModuleList([_unit(inputs, part, 1, active=False)])
        for dilation in DILATIONS:
            wide = _unit(part, part, 3, dilation=dilation, active=False)
            self.branches.append(nn.Sequential(_unit(inputs, part, 1), wide))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the branches' maps beside each other."""
        return torch.cat([branch(maps) for branch in self.branches], 1)


def to_grey(image: Tensor) -> Tensor:
    """Return the plain mean of the channels of normalised RGB images, ``B 1 H W``."""
    return image.mean(1, keepdim=True)


def _unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, active: bool = True
) -> nn.Sequential:
    layers = [reflected_conv(inputs, outputs, kernel, stride, dilation), InstanceNorm()]
    return nn.Sequential(*layers, *([nn.LeakyReLU(SLOPE)] if active else []))
