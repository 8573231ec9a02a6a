"""FSAM's losses as plain functions of the paper's equations 4, 8, 9 and 11. All in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import at_least_float32, inner_products
from reid_fsam.settings import Norm


def mask_drift(mask: Tensor, coarse: Tensor) -> Tensor:
    """Return how far masks are from the coarse ones (equation 4), per row ``B``.

    The squared Frobenius norm over all channels, divided by the number of pixels alone: 0 to 2 for
    probabilities. A mean over channels, too, would be as many times smaller.

    Args:
        mask, coarse: ``B C H W``.
    """
    pixels = mask.shape[2] * mask.shape[3]
    return (mask.float() - coarse.float()).square().sum((1, 2, 3)) / pixels


def similarity_matrix(vectors: Tensor) -> Tensor:
    """Return the cosines ``B B`` between rows of ``B D`` (equation 8)."""
    unit = F.normalize(at_least_float32(vectors), dim=1)
    return inner_products(unit)


def dense_similarity(
    appearance: Sequence[Tensor], shape: Sequence[Tensor], norm: Norm = "fro"
) -> Tensor:
    """Return the sum over all pairs of blocks of the distance between similarities (equation 9).

    Args:
        appearance, shape: pooled features of each stream's blocks, ``B D`` each.
        norm: ``fro`` is the Frobenius norm as the equation has it, ``sq`` its square as the
            sentence below has it, ``mean`` the square divided by ``B * B``.
    """
    theirs = [similarity_matrix(vectors) for vectors in shape]
    distances = []
    for vectors in appearance:
        ours = similarity_matrix(vectors)
        for other in theirs:
            gap = ours - other
            if norm == "fro":
                # Its gradient at 0 is 0; that of a root of a sum would be no number.
                distances.append(torch.linalg.matrix_norm(gap))
            else:
                distances.append(gap.square().sum() if norm == "sq" else gap.square().mean())
    return torch.stack(distances).sum()


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(first || second) of two predictions: summed over classes, mean over rows.

    Args:
        first, second: logits ``B K``.
    """
    ours, theirs = (F.log_softmax(at_least_float32(logits), 1) for logits in (first, second))
    return (ours.exp() * (ours - theirs)).sum(1).mean()


def mutual_divergence(appearance: Tensor, shape: Tensor, detach: bool = False) -> Tensor:
    """Return KL(p_a || p_s) + KL(p_s || p_a) (equation 11).

    Args:
        appearance, shape: logits ``B K`` of the two streams.
        detach: each divergence has its first distribution for a fixed target, as in deep mutual
            learning; the value is the same, the gradient of p_a's logits becomes p_a - p_s.
    """
    if detach:
        return divergence(appearance.detach(), shape) + divergence(shape.detach(), appearance)
    return divergence(appearance, shape) + divergence(shape, appearance)
