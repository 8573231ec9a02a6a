"""CAL's classifier of outfits, its two losses, and its pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core import identity_cross_entropy, inner_products


class OutfitClassifier(nn.Module):
    """Compare vectors with one direction per outfit.

    Args:
        dim: length of the vectors.
        wearer: identity of every outfit; -1 where it is nobody's.

    Attributes:
        wearer: the same as int64 ``K``.
    """

    wearer: Tensor

    def __init__(self, dim: int, wearer: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(2 * torch.rand(len(wearer), dim) - 1, dim=1))
        self.register_buffer("wearer", torch.tensor(wearer), persistent=False)

    def forward(self, vector: Tensor, fixed: bool = False) -> Tensor:
        """Return the cosines ``B K`` in float32.

        Args:
            vector: ``B D``.
            fixed: whether the directions get no gradient.
        """
        weight = self.weight.detach() if fixed else self.weight
        return inner_products(
            F.normalize(vector.float(), dim=1), F.normalize(weight.float(), dim=1)
        )


def outfit_cross_entropy(logits: Tensor, clothes: Tensor) -> Tensor:
    """Return the classifier's cross-entropy, the mean over the rows whose outfit is known.

    Args:
        logits: ``B K``, scaled cosines.
        clothes: int64 ``B``; ``-1`` is unknown.
    """
    return identity_cross_entropy(logits, clothes)


def outfit_loss(logits: Tensor, clothes: Tensor, wearer: Tensor, epsilon: float) -> Tensor:
    """Return the clothes-based adversarial loss of Gu et al.

    All outfits of a row's person are positive, and each is compared with those of other people
    alone. The row's own has the weight ``1 - epsilon + epsilon / n``, its ``n - 1`` others
    ``epsilon / n`` each.

    Args:
        logits: ``B K``, scaled cosines; computed in float32.
        clothes: int64 ``B``; rows of ``-1`` do not count.
        wearer: int64 ``K``, identity of every outfit; -1 where it is nobody's.
        epsilon: share that is spread.

    Returns:
        Scalar; 0 (with a graph) when no row counts.
    """
    logits = logits.float()
    known = clothes >= 0
    own = clothes.clamp(min=0)
    positive = wearer[own][:, None] == wearer[None, :]
    nobody = wearer < 0
    # The lowest number in place of minus infinity: with one person there are no others.
    lowest = torch.finfo(logits.dtype).min
    others = logits.masked_fill(positive | nobody, lowest).logsumexp(1, keepdim=True)
    chances = logits - torch.logaddexp(logits, others)
    share = epsilon / positive.sum(1, keepdim=True)
    weights = share * positive + (1 - epsilon) * F.one_hot(own, logits.shape[1])
    values = -(weights * chances).sum(1)
    counts = known.float()
    return (values * counts).sum() / counts.sum().clamp(min=1)


class MaxAvgPool(nn.Module):
    """Pool a map ``B C H W`` to its maximum and its mean, ``B 2C``."""

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``B 2C``: the maxima, then the means."""
        return torch.cat([feature.amax((2, 3)), feature.mean((2, 3))], 1)

    def deploy_spec(self) -> dict[str, Any]:
        """Return how the exported embedder rebuilds it."""
        return {"factory": "reid_baselines.cal_modules:MaxAvgPool", "kwargs": {}}
