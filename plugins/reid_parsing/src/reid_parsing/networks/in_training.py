"""A parsing network as a branch of the stage that trains it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.model.declarations import ENCODER_MAP, Tap
from reid_core.model.encoder import Encoder
from reid_parsing.augmentation import warped
from reid_parsing.networks.parser import Parser

_STRIDE = 16


class NoEncoder(Encoder):
    """Stand in for an encoder where nothing is embedded: the image in small, nothing to train."""

    taps = (Tap(ENCODER_MAP, 3, _STRIDE),)

    def __init__(self) -> None:
        super().__init__()
        # The core reads type and place of its input from an encoder's parameters.
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the image's mean colours in squares of 16 pixels."""
        return {ENCODER_MAP: F.avg_pool2d(image, _STRIDE, ceil_mode=True)}

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_parsing.networks.in_training:NoEncoder", "kwargs": {}}


class NetworkInTraining(nn.Module):
    """Move image and labels together, then run the network.

    Args:
        network: what is trained.
        canvas, scale, rotation: see `warped`; in evaluation mode nothing is moved.
    """

    def __init__(
        self,
        network: Parser,
        canvas: tuple[int, int],
        scale: tuple[float, float],
        rotation: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.canvas, self.scale, self.rotation = canvas, scale, rotation

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return labels int64 ``B H W``, logits, and what else the network computes.

        Args:
            image: ``B 3 h w``, normalised.
            labels: uint8 ``B h w``.
        """
        labels = labels.long()
        if self.training:
            image, labels = warped(image, labels, self.canvas, self.scale, self.rotation)
        found = self.network.outputs(image)
        edges = () if found.edges is None else (found.edges,)
        return (labels, found.logits, *found.auxiliary, *edges)
