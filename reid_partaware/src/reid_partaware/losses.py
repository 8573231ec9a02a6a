"""The class-balanced segmentation loss (paper, equations 8 and 9)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from reid_core import at_least_float32

IGNORED = -1
"""Label of pixels that no loss counts."""


def class_balanced_cross_entropy(
    logits: Tensor, labels: Tensor, total: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return the mean over the classes present of the mean loss over each class's pixels.

    Equation 8 averages the negative log-likelihood over the pixels of one class in the whole batch
    (not per image), equation 9 averages over the classes that the batch shows. It equals a
    cross-entropy weighted with one over each class's number of pixels.

    Args:
        logits: float ``B M h w``.
        labels: int64 ``B h w`` in ``0 .. M - 1``; `IGNORED` leaves a pixel out.
        total: sums values ``M`` over all ranks with their gradient, so that the batch is the whole
            one; None where there is one rank.

    Returns:
        A scalar with its graph, in float32 or better; 0 where every pixel is ignored.
    """
    valid = labels != IGNORED
    # Sums and products only: the kernels of nll_loss and bincount are not deterministic on CUDA.
    hot = F.one_hot(labels.clamp(min=0), logits.shape[1]).permute(0, 3, 1, 2) * valid[:, None]
    likelihood = F.log_softmax(at_least_float32(logits), 1)
    counts = hot.sum((0, 2, 3))
    surprise = -(likelihood * hot).sum((0, 2, 3))
    if total is not None:
        counts, surprise = total(counts), total(surprise)
    per_class = surprise / counts.clamp(min=1)  # eq. 8
    return per_class.sum() / (counts > 0).sum().clamp(min=1)  # eq. 9
