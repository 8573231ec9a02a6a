"""The contrast of features with the memories of all clusters: InfoNCE, equation 8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_unsup_cc.settings import Combination


def info_nce(cosines: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of minus the log share of a row's own cluster (equation 8).

    Args:
        cosines: ``B N``, similarities to clusters.
        labels: int64 ``B``; rows with ``-1`` are left out, and without any other the value is 0.
        temperature: τ. The equation as printed has it outside the exponential, where it cancels.
    """
    rows = F.cross_entropy(cosines / temperature, labels, ignore_index=-1, reduction="sum")
    return rows / (labels >= 0).sum().clamp(min=1)


def contrast(
    cosines: Sequence[Tensor],
    labels: Tensor,
    temperature: float,
    combine: Combination = "mean",
) -> Tensor:
    """Return L_q: the contrast with one memory, or with two as one loss.

    Args:
        cosines: ``B N`` for each memory.
        labels: int64 ``B``.
        temperature: τ.
        combine: ``mean`` of the losses; ``union`` is one softmax over the 2 N vectors with each
            memory's positive in turn.
    """
    if len(cosines) == 1:
        return info_nce(cosines[0], labels, temperature)
    if combine == "union":
        both, count = torch.cat(tuple(cosines), 1), cosines[0].shape[1]
        further = torch.where(labels >= 0, labels + count, labels)
        return (info_nce(both, labels, temperature) + info_nce(both, further, temperature)) / 2
    return torch.stack([info_nce(one, labels, temperature) for one in cosines]).mean()
