"""The contrast of features with the memories of all clusters: InfoNCE, equation 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import inner_products

if TYPE_CHECKING:
    from reid_unsup_cc.settings import Combination


def similarities(unit: Tensor, memory: Tensor) -> Tensor:
    """Return inner products ``B N`` with the vectors of a memory, never in half precision."""
    return inner_products(unit, memory)


def info_nce(cosines: Tensor, labels: Tensor, temperature: float, printed: bool = False) -> Tensor:
    """Return the mean over rows of minus the log share of a row's own cluster (equation 8).

    Args:
        cosines: ``B N``, similarities to clusters.
        labels: int64 ``B``; rows with ``-1`` are left out, and without any other the value is 0.
        temperature: τ.
        printed: the equation as printed has τ outside the exponential, where it cancels: the value
            is that of τ = 1.
    """
    logits = cosines if printed else cosines / temperature
    rows = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return rows / (labels >= 0).sum().clamp(min=1)


def contrast(
    cosines: Sequence[Tensor],
    labels: Tensor,
    temperature: float,
    combine: Combination = "mean",
    printed: bool = False,
) -> Tensor:
    """Return L_q: the contrast with one memory, or with two as one loss.

    Args:
        cosines: ``B N`` for each memory; of two the average one first.
        labels: int64 ``B``.
        temperature: τ.
        combine: ``mean`` or ``sum`` of the losses; ``union`` is one softmax over the 2 N vectors
            with each memory's positive in turn; ``hhcl`` is ``(hard + average / 2) / 2``, which the
            public code of hybrid memories computes where its paper says ``(hard + average) / 2``.
        printed: see `info_nce`.
    """
    if len(cosines) == 1:
        return info_nce(cosines[0], labels, temperature, printed)
    if combine == "union":
        both, count = torch.cat(tuple(cosines), 1), cosines[0].shape[1]
        further = torch.where(labels >= 0, labels + count, labels)
        first, second = (info_nce(both, y, temperature, printed) for y in (labels, further))
        return (first + second) / 2
    average, hard = (info_nce(c, labels, temperature, printed) for c in cosines)
    if combine == "hhcl":
        return 0.5 * (hard + 0.5 * average)
    return average + hard if combine == "sum" else (average + hard) / 2
