"""Joint scaling, rotation and cropping of images and label maps, on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD


def warped(
    images: Tensor,
    labels: Tensor,
    canvas: tuple[int, int],
    scale: tuple[float, float],
    rotation: float,
) -> tuple[Tensor, Tensor]:
    """Scale, rotate and place every row at random; images bilinear, labels nearest.

    A row is scaled by a factor and turned about its middle. Along each axis it then lies anywhere
    in the canvas where it is smaller, and the canvas anywhere in it where it is larger. What is
    uncovered is black (before normalisation) and class 0. Random numbers are torch's.

    Args:
        images: ``B 3 h w``, ImageNet-normalised.
        labels: integers ``B h w``.
        canvas: height and width of the result.
        scale: smallest and largest factor.
        rotation: largest angle either way, in degrees.

    Returns:
        Images ``B 3 H W`` and labels int64 ``B H W``.
    """
    placing = Placing.drawn(images, canvas, scale, rotation)
    return placing.images(images), placing.labels(labels)


@dataclass(frozen=True)
class Placing:
    """Where every row of a batch lies in a canvas: what moves images, labels and points alike.

    Args:
        size, canvas: height and width of rows and of the canvas.
        factor, angle: ``B``: scaling, and rotation in radians.
        down, right: ``B``: offset of the row's middle from the canvas', in canvas pixels.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    factor: Tensor
    angle: Tensor
    down: Tensor
    right: Tensor

    @classmethod
    def drawn(
        cls,
        images: Tensor,
        canvas: tuple[int, int],
        scale: tuple[float, float],
        rotation: float,
    ) -> Placing:
        """Draw one for every row of ``B C h w``; see `warped`."""
        numbers = torch.rand(len(images), 4, device=images.device)
        factor = scale[0] + (scale[1] - scale[0]) * numbers[:, 0]
        angle = math.radians(rotation) * (2 * numbers[:, 1] - 1)
        size = (images.shape[2], images.shape[3])
        # Half of what is left over of the canvas, or of the row, is how far its middle may be off.
        room = [
            (factor * length - wanted).abs() / 2
            for length, wanted in zip(size, canvas, strict=True)
        ]
        down, right = (room[axis] * (2 * numbers[:, 2 + axis] - 1) for axis in (0, 1))
        return cls(size, canvas, factor, angle, down, right)

    def images(self, images: Tensor) -> Tensor:
        """Return moved images ``B 3 H W``, bilinear; what is uncovered is black."""
        # Filled on the device: a copy from the host would wait for it.
        black = torch.stack(
            [
                images.new_full((1, 1), -mean / std, dtype=torch.float32)
                for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)
            ]
        )
        moved = F.grid_sample(images.float() - black, self._grid(), align_corners=False)
        return moved + black

    def labels(self, labels: Tensor) -> Tensor:
        """Return moved labels int64 ``B H W``, nearest; what is uncovered is class 0."""
        grid = self._grid()
        found = F.grid_sample(labels[:, None].float(), grid, "nearest", align_corners=False)
        return found[:, 0].long()

    def points(self, points: Tensor) -> Tensor:
        """Return moved points ``B N 3``; what has left the canvas has visibility 0."""
        height, width = self.canvas
        x = points[..., 0] + 0.5 - self.size[1] / 2
        y = points[..., 1] + 0.5 - self.size[0] / 2
        cosine = (self.angle.cos() * self.factor)[:, None]
        sine = (self.angle.sin() * self.factor)[:, None]
        to_x = cosine * x - sine * y + self.right[:, None] + width / 2 - 0.5
        to_y = sine * x + cosine * y + self.down[:, None] + height / 2 - 0.5
        inside = (to_x > -0.5) & (to_x < width - 0.5) & (to_y > -0.5) & (to_y < height - 0.5)
        return torch.stack([to_x, to_y, points[..., 2] * inside], 2)

    def _grid(self) -> Tensor:
        return sampling_grid(self.size, self.canvas, self.factor, self.angle, self.down, self.right)


def sampling_grid(
    size: tuple[int, int],
    canvas: tuple[int, int],
    factor: Tensor,
    angle: Tensor,
    down: Tensor,
    right: Tensor,
) -> Tensor:
    """Return where every pixel of the canvas lies in the image, for ``grid_sample``.

    Args:
        size, canvas: height and width of image and canvas.
        factor, angle: ``B``: scaling, and rotation in radians.
        down, right: ``B``: offset of the image's middle from the canvas', in canvas pixels.

    Returns:
        ``B H W 2`` (x, y), -1 and 1 being the image's edges.
    """
    height, width = canvas
    rows = torch.arange(height, device=factor.device) + 0.5 - height / 2
    columns = torch.arange(width, device=factor.device) + 0.5 - width / 2
    y = rows[None, :, None] - down[:, None, None]
    x = columns[None, None, :] - right[:, None, None]
    cosine = (angle.cos() / factor)[:, None, None]
    sine = (angle.sin() / factor)[:, None, None]
    at_x, at_y = cosine * x + sine * y, cosine * y - sine * x
    return torch.stack([at_x / (size[1] / 2), at_y / (size[0] / 2)], dim=3)
