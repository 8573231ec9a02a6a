"""Where a network looks: Grad-CAM (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

import torch
from torch import Tensor


def grad_cam(score: Tensor, feature: Tensor) -> Tensor | None:
    """Weigh a map's channels by the mean gradient of a score.

    Args:
        score: ``B``, one per image, or their sum; computed from ``feature`` with gradients.
        feature: the map, ``B C h w``.

    Returns:
        ``B h w`` in 0 .. 1, the largest value of every image 1 (all 0 where nothing speaks for the
        score); None where the score does not depend on the map.
    """
    (gradient,) = torch.autograd.grad(score.sum(), feature, allow_unused=True)
    if gradient is None:
        return None
    weights = gradient.mean((2, 3), keepdim=True)
    evidence = (weights * feature).sum(1).relu().detach()
    return evidence / evidence.amax((1, 2), keepdim=True).clamp(min=1e-12)
