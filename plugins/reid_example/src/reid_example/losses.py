"""The loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def stripe_of_rows(height: int, stripes: int) -> Tensor:
    """Return the stripe of every row of a map: int64 ``H``, from 0 at the top.

    Args:
        height: rows of the map.
        stripes: how many stripes there are; with fewer rows than stripes some stay empty.
    """
    return torch.arange(height) * stripes // height


def stripe_loss(logits: Tensor) -> Tensor:
    """Return the mean cross-entropy between every cell's logits and its stripe, in float32.

    Args:
        logits: ``B S H W``.
    """
    batch, stripes, height, width = logits.shape
    rows = stripe_of_rows(height, stripes).to(logits.device)
    return F.cross_entropy(logits.float(), rows[None, :, None].expand(batch, height, width))
