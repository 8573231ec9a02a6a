"""Losses whose targets are another model's outputs (Ge et al., Mutual Mean-Teaching, ICLR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_core import inner_products


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy between two predictions, the mean over the rows.

    Args:
        logits: ``B K``; computed in float32.
        targets: ``B K``, logits of the teacher, which get no gradient.
    """
    wanted = targets.detach().float().softmax(1)
    return -(wanted * logits.float().log_softmax(1)).sum(1).mean()


def soft_triplet(vectors: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Return the softmax-triplet loss with the teacher's ratio as its target.

    Every anchor has its farthest positive and its nearest negative by ``vectors``. The ratio is
    ``exp(d_n) / (exp(d_p) + exp(d_n))`` of the Euclidean distances, and the loss the binary
    cross-entropy between the ratios of both. Anchors without a positive or a negative, and rows
    with label -1, do not count.

    Args:
        vectors: ``B D``; computed in float32.
        targets: ``B E`` of the teacher, which get no gradient.
        labels: int64 ``B``.

    Returns:
        Scalar; 0 (with a graph) when no anchor counts.
    """
    vectors, targets = vectors.float(), targets.detach().float()
    known = labels >= 0
    both = known[:, None] & known[None, :]
    same = (labels[:, None] == labels[None, :]) & both
    same.fill_diagonal_(False)
    other = (labels[:, None] != labels[None, :]) & both
    with torch.no_grad():
        squares = vectors.square().sum(1)
        apart = squares[:, None] + squares[None, :] - 2 * inner_products(vectors)
        positive = apart.masked_fill(~same, -torch.inf).argmax(1)
        negative = apart.masked_fill(~other, torch.inf).argmin(1)
        counts = (same.any(1) & other.any(1)).float()

    def pairs(rows: Tensor) -> Tensor:
        found = [
            (rows - rows[chosen]).square().sum(1).clamp(min=1e-12).sqrt()
            for chosen in (positive, negative)
        ]
        return torch.stack(found, 1)

    values = -(pairs(targets).softmax(1) * pairs(vectors).log_softmax(1)).sum(1)
    return (values * counts).sum() / counts.sum().clamp(min=1)
