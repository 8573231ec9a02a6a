"""Part-segmentation heads (paper, figure 2): per-pixel classifiers on a feature map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

HeadType = Literal["a", "b", "c", "d"]

WIDTH = 256
"""Channels between a head's layers."""

INIT_STD = 0.001
"""Standard deviation of the initial weights; biases start at 0 (the author's code)."""


def build_head(kind: HeadType, channels: int, classes: int, norm: bool = True) -> nn.Sequential:
    """Build a head.

    - a: 1 x 1 convolution;
    - b: 3 x 3 convolution to 256 channels, 1 x 1 convolution;
    - c: 3 x 3 deconvolution of stride 2 to 256 channels, 1 x 1 convolution;
    - d: two such deconvolutions, 1 x 1 convolution.

    The layers before the last have no bias and are followed by batch norm and ReLU; the paper does
    not say so, the author's code does. A 3 x 3 deconvolution of stride 2 covers its output
    unevenly; it is kept as the paper has it.

    Args:
        kind: the type of figure 2.
        channels: of the map, ``B C H W``.
        classes: parts and background.
        norm: whether batch norm stands behind the hidden layers.
    """
    layers: list[nn.Module] = []
    width = channels
    for _ in range({"a": 0, "b": 1, "c": 1, "d": 2}[kind]):
        if kind == "b":
            layers.append(nn.Conv2d(width, WIDTH, 3, padding=1, bias=not norm))
        else:
            layers.append(
                nn.ConvTranspose2d(
                    width, WIDTH, 3, stride=2, padding=1, output_padding=1, bias=not norm
                )
            )
        layers += [nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)] if norm else [nn.ReLU()]
        width = WIDTH
    layers.append(nn.Conv2d(width, classes, 1))
    head = nn.Sequential(*layers)
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=INIT_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return head


class SharedHead(nn.Module):
    """One head on one map, or the same head on several (MGN: section III-D, figure 8).

    Args:
        head: the head.
        joint: whether several maps go through it as one batch. The statistics of batch norm are
            then taken over all of them; one after the other, each map has its own (the default,
            as the paper calls the head once per map).
    """

    def __init__(self, head: nn.Module, joint: bool = False) -> None:
        super().__init__()
        self.head = head
        self.joint = joint

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Return logits ``B M h w`` for every map ``B C H W``."""
        if self.joint and len(maps) > 1:
            return tuple(self.head(torch.cat(maps)).chunk(len(maps)))
        return tuple(self.head(one) for one in maps)
