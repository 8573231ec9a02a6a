"""A parsing network as a branch of the stage that trains it."""

from __future__ import annotations

from torch import Tensor, nn

from reid_parsing.augmentation import Placing, warped
from reid_parsing.networks.parser import Parser


class _InTraining(nn.Module):
    """A network whose images are moved.

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


class NetworkInTraining(_InTraining):
    """Move image and labels together, then run the network."""

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


class BodyInTraining(_InTraining):
    """Move image, label maps and joints together, then run the network."""

    def forward(
        self, image: Tensor, parts: Tensor, garments: Tensor, keypoints: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits, label maps int64 ``B H W`` and joints as they lie in what was seen.

        Args:
            image: ``B 3 h w``, normalised.
            parts, garments: uint8 ``B h w``.
            keypoints: ``B J 3``.
        """
        parts, garments = parts.long(), garments.long()
        if self.training:
            placing = Placing.drawn(image, self.canvas, self.scale, self.rotation)
            image, keypoints = placing.images(image), placing.points(keypoints)
            parts, garments = placing.labels(parts), placing.labels(garments)
        return self.network(image), parts, garments, keypoints
