"""Joint scaling, rotation and cropping of images and label maps, on the device."""

from __future__ import annotations

import math

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
    numbers = torch.rand(len(images), 4, device=images.device)
    factor = scale[0] + (scale[1] - scale[0]) * numbers[:, 0]
    angle = math.radians(rotation) * (2 * numbers[:, 1] - 1)
    size = (images.shape[2], images.shape[3])
    # Half of what is left over of the canvas, or of the row, is how far its middle may be off.
    room = [
        (factor * length - wanted).abs() / 2 for length, wanted in zip(size, canvas, strict=True)
    ]
    down, right = (room[axis] * (2 * numbers[:, 2 + axis] - 1) for axis in (0, 1))
    grid = sampling_grid(size, canvas, factor, angle, down, right)
    # Filled on the device: a copy from the host would wait for it.
    black = torch.stack(
        [
            grid.new_full((1, 1), -mean / std)
            for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)
        ]
    )
    moved = F.grid_sample(images.float() - black, grid, "bilinear", align_corners=False) + black
    found = F.grid_sample(labels[:, None].float(), grid, "nearest", align_corners=False)
    return moved, found[:, 0].long()


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
