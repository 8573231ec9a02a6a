"""Joints as heatmaps: where a network thinks each of them is, and how that is supervised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.contract.fields import COCO_JOINTS

JOINTS = len(COCO_JOINTS)
"""Points of the field ``keypoints``."""


def joint_cross_entropy(logits: Tensor, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean cross-entropy of finding each joint among all places of a heatmap.

    Args:
        logits: ``B J h w``; computed in float32.
        keypoints: float ``B J 3``: x and y in pixels of the image, visibility; a joint of
            visibility 0 has no place and counts nowhere, a hidden one (0.5) counts half.
        size: height and width of the image.
    """
    height, width = logits.shape[2:]
    # (0, 0) is the middle of the first pixel.
    column = ((keypoints[..., 0] + 0.5) * (width / size[1])).floor().long().clamp(0, width - 1)
    row = ((keypoints[..., 1] + 0.5) * (height / size[0])).floor().long().clamp(0, height - 1)
    place = (row * width + column).flatten()
    loss = F.cross_entropy(logits.float().flatten(2).flatten(0, 1), place, reduction="none")
    weight = keypoints[..., 2].flatten()
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


def found_joints(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where heatmaps have their joints: the mean of the places around the likeliest one.

    Args:
        logits: ``B J h w``.
        size: height and width of the image.

    Returns:
        float32 ``B J 3``: x and y in pixels of the image, and the probability of the places that
        were averaged, in 0..1.
    """
    height, width = logits.shape[2:]
    probability = logits.float().flatten(2).softmax(2).view(logits.shape)
    around = F.avg_pool2d(probability, 3, 1, 1, divisor_override=1)
    best = around.flatten(2).argmax(2)
    row, column = best // width, best % width
    rows = torch.arange(height, device=logits.device).view(1, 1, height, 1)
    columns = torch.arange(width, device=logits.device).view(1, 1, 1, width)
    near = (rows - row[..., None, None]).abs().le(1) & (columns - column[..., None, None]).abs().le(1)
    local = probability * near
    mass = local.sum((2, 3))
    y = (local * (rows + 0.5)).sum((2, 3)) / mass.clamp(min=1e-12) * (size[0] / height) - 0.5
    x = (local * (columns + 0.5)).sum((2, 3)) / mass.clamp(min=1e-12) * (size[1] / width) - 0.5
    return torch.stack([x, y, mass.clamp(max=1)], 2)
