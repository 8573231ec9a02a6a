"""Losses of parsing networks: cross-entropy over pixels, and CE2P's edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_parsing.networks.parser import resized_logits


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over all pixels, logits resized to the labels.

    Args:
        logits: ``B K h w``; computed in float32.
        labels: int64 ``B H W``.
    """
    size = (labels.shape[1], labels.shape[2])
    return F.cross_entropy(resized_logits(logits.float(), size), labels)


def label_edges(labels: Tensor) -> Tensor:
    """Return which pixels lie beside another class, two pixels wide on either side.

    Args:
        labels: int64 ``B H W``.

    Returns:
        int64 ``B H W``, 1 on edges.
    """
    edges = torch.zeros_like(labels, dtype=torch.float32)
    down = (labels[:, 1:] != labels[:, :-1]).float()
    right = (labels[:, :, 1:] != labels[:, :, :-1]).float()
    edges[:, 1:] += down
    edges[:, :-1] += down
    edges[:, :, 1:] += right
    edges[:, :, :-1] += right
    return (F.max_pool2d(edges[:, None], 3, 1, 1)[:, 0] > 0).long()


def edge_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of edge logits, both classes weighing the same in all.

    Args:
        logits: ``B 2 h w``; computed in float32.
        labels: int64 ``B H W``, classes of a label map.

    Returns:
        Scalar; each pixel of a class has the share of the other class as its weight (CE2P).
    """
    edges = label_edges(labels)
    size = (labels.shape[1], labels.shape[2])
    found = F.cross_entropy(resized_logits(logits.float(), size), edges, reduction="none")
    share = edges.float().mean()
    weights = torch.where(edges > 0, 1 - share, share)
    return (weights * found).sum() / weights.sum().clamp(min=1e-12)
