"""The network of SCHP: CE2P with a ResNet-101 (Li et al., *Self-Correction for Human Parsing*).

A ResNet-101 with a stem of three 3x3 convolutions (strides 4, 8, 16, 16), pyramid pooling, an edge
branch on the first three stages, a decoder, and a head that fuses decoder and edge features, whose
logits are the result. Modules carry the names of the released weights, `reid_parsing.weights`
reads them. 66,717,246 parameters with 7 classes.

Its normalisation is batch normalisation here: 106 layers plain, 13 followed by a leaky ReLU with
slope 0.01. The released networks used in-place activated batch norm, which scales by
``abs(gamma) + 1e-5``; the importer folds that. They took BGR, which is ImageNet's normalised RGB
with reversed channels, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_parsing.networks.parser import Parser, ParserOutputs, resized_logits


class Schp(Parser):
    """CE2P as SCHP has it.

    Args:
        classes: 7 (PASCAL-Person-Part), 20 (LIP), 18 (ATR), or any other number.
    """

    # Where the fused logits alone are supervised, both other outputs' classifiers are idle.
    idle = ("decoder.conv4.", "edge.conv4.", "edge.conv5.")

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.classes = classes
        self.conv1, self.bn1 = _conv(3, 64, 3, stride=2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = _conv(64, 64, 3), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = _conv(64, 128, 3), nn.BatchNorm2d(128)
        self.layer1 = _stage(128, 64, blocks=3)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=23, stride=2)
        self.layer4 = _stage(1024, 512, blocks=3, dilation=2)
        self.context_encoding = PyramidPooling(2048, 512)
        self.edge = EdgeBranch((256, 512, 1024), 256)
        self.decoder = Decoder(classes)
        self.fushion = nn.Sequential(  # spelt as in the released weights
            *_conv_leaky(1024, 256, 1), nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1)
        )

    def outputs(self, image: Tensor) -> ParserOutputs:
        """Return fused logits, the decoder's logits and edges at stride 4; see `Parser.outputs`."""
        x = image.flip(1)  # BGR
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))
        x2 = self.layer1(F.max_pool2d(x, 3, stride=2, padding=1))
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        context = self.context_encoding(self.layer4(x4))
        parsing, parsing_feature = self.decoder(context, x2)
        edges, edge_feature = self.edge(x2, x3, x4)
        fused = self.fushion(torch.cat([parsing_feature, edge_feature], 1))
        return ParserOutputs(fused, (parsing,), edges)


class Bottleneck(nn.Module):
    """ResNet's bottleneck with the stride in its 3x3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, shortcut: bool) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride, dilation), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            if shortcut
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``B 4*width H W``, at half the size where the stride is 2."""
        residual = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + residual)


class PyramidPooling(nn.Module):
    """Pool to several grids, project, and join with the map (Zhao et al., PSPNet, 2017)."""

    def __init__(self, inputs: int, outputs: int, grids: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(grid), *_conv_leaky(inputs, outputs, 1))
            for grid in grids
        )
        joined = inputs + len(grids) * outputs
        self.bottleneck = nn.Sequential(*_conv_leaky(joined, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``B outputs H W``."""
        size = (x.shape[2], x.shape[3])
        pooled = [resized_logits(stage(x), size) for stage in self.stages]
        found: Tensor = self.bottleneck(torch.cat([*pooled, x], 1))
        return found


class EdgeBranch(nn.Module):
    """Find borders between classes on three stages."""

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        first, second, third = inputs
        self.conv1 = nn.Sequential(*_conv_leaky(first, width, 1))
        self.conv2 = nn.Sequential(*_conv_leaky(second, width, 1))
        self.conv3 = nn.Sequential(*_conv_leaky(third, width, 1))
        self.conv4 = nn.Conv2d(width, 2, 3, padding=1)  # shared by the stages
        self.conv5 = nn.Conv2d(6, 2, 1)

    def forward(self, *stages: Tensor) -> tuple[Tensor, Tensor]:
        """Return edge logits ``B 2 H W`` and features ``B 3*width H W`` at the first one's size."""
        size = (stages[0].shape[2], stages[0].shape[3])
        convs = (self.conv1, self.conv2, self.conv3)
        features = [conv(stage) for conv, stage in zip(convs, stages, strict=True)]
        edges = [resized_logits(self.conv4(feature), size) for feature in features]
        resized = [resized_logits(feature, size) for feature in features]
        return self.conv5(torch.cat(edges, 1)), torch.cat(resized, 1)


class Decoder(nn.Module):
    """Join the context with the first stage's detail."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_leaky(512, 256, 1))
        self.conv2 = nn.Sequential(*_conv_leaky(256, 48, 1))
        self.conv3 = nn.Sequential(*_conv_leaky(304, 256, 1), *_conv_leaky(256, 256, 1))
        self.conv4 = nn.Conv2d(256, classes, 1)

    def forward(self, context: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``B K H W`` and features ``B 256 H W`` at the detail's size."""
        size = (detail.shape[2], detail.shape[3])
        joined = torch.cat([resized_logits(self.conv1(context), size), self.conv2(detail)], 1)
        feature = self.conv3(joined)
        return self.conv4(feature), feature


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


class NormLeaky(nn.BatchNorm2d):
    """Batch normalisation and a leaky ReLU in one module, as the released weights count them."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``leaky_relu(batch_norm(input))`` with slope 0.01."""
        return F.leaky_relu(super().forward(input), 0.01)


def _conv_leaky(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return _conv(inputs, outputs, kernel), NormLeaky(outputs)


def _stage(
    inputs: int, width: int, blocks: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride, dilation, shortcut=True)
    rest = [Bottleneck(4 * width, width, 1, dilation, shortcut=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
