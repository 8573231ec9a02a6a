"""Identity losses as plain functions; no loop over samples, no device synchronisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.model.precision import inner_products


def batch_hard_triplet(
    vectors: Tensor, labels: Tensor, margin: float = 0.3, soft_margin: bool = False
) -> Tensor:
    """Return the batch-hard triplet loss of Hermans et al. (2017), eq. 5.

    For every anchor the farthest positive and the nearest negative are found from the Gram matrix
    without gradient; only the chosen pairs are then computed again, exactly and with gradient.
    Euclidean distances, not squared. Anchors without a negative, and rows with label -1, do not
    count; an anchor without another positive is its own (distance 0).

    Args:
        vectors: ``B D``; computed in float32.
        labels: int64 ``B``; ``-1`` marks rows without identity.
        margin: added to the difference of the two distances.
        soft_margin: ``softplus`` of the difference in place of the hinge.

    Returns:
        Scalar, the mean over the anchors that count; 0 (with a graph) when none does.
    """
    vectors = vectors.float()
    known = labels >= 0
    same = (labels[:, None] == labels[None, :]) & known[:, None] & known[None, :]
    other = (labels[:, None] != labels[None, :]) & known[:, None] & known[None, :]
    with torch.no_grad():
        squares = vectors.square().sum(1)
        distances = squares[:, None] + squares[None, :] - 2 * inner_products(vectors)
        own = torch.arange(len(labels), device=labels.device)
        # An anchor may be its own positive only where there is no other one.
        far = distances.masked_fill(~same, -torch.inf)
        far[own, own] = far[own, own].clamp(max=-1e30)
        positive = far.argmax(1)
        negative = distances.masked_fill(~other, torch.inf).argmin(1)
        counts = (known & other.any(1)).float()
    # The offset keeps the root differentiable where an anchor is its own positive.
    to_positive = (vectors - vectors[positive]).square().sum(1).clamp(min=1e-12).sqrt()
    to_negative = (vectors - vectors[negative]).square().sum(1).clamp(min=1e-12).sqrt()
    difference = to_positive - to_negative
    losses = F.softplus(difference) if soft_margin else F.relu(difference + margin)
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def identity_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    soft_targets: Tensor | None = None,
) -> Tensor:
    """Return cross-entropy over identities, the mean over the rows that have one.

    Args:
        logits: ``B K``; computed in float32.
        labels: int64 ``B``; ``-1`` leaves a row out.
        label_smoothing: share spread evenly over all ``K`` classes.
        soft_targets: float ``B K``; a row of them whose sum is positive replaces its label.

    Returns:
        Scalar; 0 (with a graph) when no row counts.
    """
    logits = logits.float()
    hard = F.cross_entropy(
        logits, labels, ignore_index=-1, label_smoothing=label_smoothing, reduction="none"
    )
    counts = (labels >= 0).float()
    if soft_targets is not None:
        given = soft_targets.sum(1) > 0
        soft = -(soft_targets * F.log_softmax(logits, 1)).sum(1)
        hard, counts = torch.where(given, soft, hard), torch.where(given, 1.0, counts)
    return (hard * counts).sum() / counts.sum().clamp(min=1)
