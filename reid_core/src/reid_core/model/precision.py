"""What is computed in float32 whatever the run's precision: all that compares features.

Mixed precision rounds what matrix products give to bfloat16, three significant digits, which is
enough for a layer of a network and not for a choice among rows: with features of norm 26 most of
the hardest negatives were the wrong ones. Losses that multiply features do it here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """Switch mixed precision off for a block on a tensor's device.

    What the block reads keeps its type: turn features from mixed precision into float32 first.

    Args:
        like: a tensor of the device.
    """
    return torch.autocast(like.device.type, enabled=False)


def at_least_float32(values: Tensor) -> Tensor:
    """Return values as float32, or as they are where they are float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def inner_products(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """Return the inner products of rows, never in half precision.

    Args:
        rows: ``... B D``, of any floating type.
        others: ``... N D``; None stands for the rows themselves.

    Returns:
        ``... B N``; float32, or float64 where the rows have it.
    """
    with full_precision(rows):
        ours = at_least_float32(rows)
        theirs = ours if others is None else others.to(ours.dtype)
        return ours @ theirs.transpose(-2, -1)
