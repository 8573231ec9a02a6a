"""The part segmenter of Huang et al. (2020): DANet with position attention alone.

A ResNet-50 with output stride 8 (the last two stages dilated, the last one with the grid 2, 4, 8),
position attention (Fu et al., *Dual Attention Network for Scene Segmentation*, CVPR 2019, eq. 1-2),
one classifier. 35,638,985 parameters with 8 classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.model.encoder import TimmEncoder
from reid_parsing.networks.parser import Parser, ParserOutputs, conv_norm

GRID = (2, 4, 8)
"""Dilations of the last stage's blocks."""


class DaNet(Parser):
    """DANet without channel attention.

    Args:
        classes: number of classes.
        pretrained: ImageNet weights of the ResNet-50: True takes timm's, a path reads a file.

    Raises:
        ConfigError: the pretrained weights cannot be had, or do not fit.
    """

    def __init__(self, classes: int = 8, pretrained: bool | Path = False) -> None:
        super().__init__()
        self.classes = classes
        self.trunk = dilated_resnet50(pretrained)
        width = 512
        self.enter = conv_norm(2048, width)
        self.attention = PositionAttention(width)
        self.leave = conv_norm(width, width)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, classes, 1))

    def outputs(self, image: Tensor) -> ParserOutputs:
        """Return logits at stride 8; see `Parser.outputs`."""
        found = self.trunk.forward_features(image)  # type: ignore[operator]
        return ParserOutputs(self.classifier(self.leave(self.attention(self.enter(found)))))


class PositionAttention(nn.Module):
    """Let every position attend to all others (eq. 1-2); at the start it changes nothing.

    Args:
        channels: of the map; queries and keys have an eighth of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``gamma * attended + feature``, ``B C H W``."""
        query = self.query(feature).flatten(2).transpose(1, 2)
        weights = torch.softmax(query @ self.key(feature).flatten(2), dim=-1)  # B N N
        attended = self.value(feature).flatten(2) @ weights.transpose(1, 2)
        found: Tensor = self.gamma * attended.view_as(feature) + feature
        return found


def dilated_resnet50(pretrained: bool | Path = False) -> nn.Module:
    """Return timm's ResNet-50 without classifier, its last two stages dilated to stride 8.

    Args:
        pretrained: True takes timm's ImageNet weights, a path reads a file.
    """
    name = "resnet50.tv_in1k"  # the weights of the authors' time
    trunk: Any = TimmEncoder(name, (64, 64), last_stride=2, pretrained=pretrained).trunk
    for stage, dilations in ((trunk.layer3, (1, *[2] * 5)), (trunk.layer4, GRID)):
        for block, dilation in zip(stage, dilations, strict=True):
            block.conv2.stride = (1, 1)
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
        stage[0].downsample[0].stride = (1, 1)
    module: nn.Module = trunk
    return module
