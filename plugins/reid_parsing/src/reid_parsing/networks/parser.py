"""What every parsing network is: ImageNet-normalised RGB in, class logits out."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ParserOutputs:
    """Everything that a network computes of an image, for its training.

    Args:
        logits: ``B K h w``, what inference uses.
        auxiliary: further class logits ``B K h w``, each supervised like ``logits``.
        edges: logits ``B 2 h w`` of lying on a border between classes, or None.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    edges: Tensor | None = None


class Parser(nn.Module):
    """Base of the parsing networks.

    Attributes:
        classes: number of classes.
        idle: prefixes of parameters that get no gradient where ``forward``'s logits alone are
            supervised; a `Branch` around such a network declares them as ``may_be_idle``.
    """

    classes: int
    idle: tuple[str, ...] = ()

    def outputs(self, image: Tensor) -> ParserOutputs:
        """Return everything that the network computes.

        Args:
            image: ``B 3 H W``, RGB, ImageNet-normalised.
        """
        raise TypeError(f"{type(self).__name__} must define outputs")

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits ``B K h w`` at the network's own stride; see `outputs`."""
        return self.outputs(image).logits


def resized_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits, bilinear with aligned corners, as DANet and SCHP do.

    Args:
        logits: ``B K h w``.
        size: height and width wanted.
    """
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
