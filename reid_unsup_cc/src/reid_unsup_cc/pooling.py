"""Generalised-mean pooling (Radenovic et al., TPAMI 2019), which cluster contrast prefers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEAST = 1e-6


class GeneralisedMean(nn.Module):
    """Pool a map ``B C H W`` to ``B C``: the p-th root of the mean of p-th powers.

    Args:
        exponent: p at the start; 1 is the mean, and large values approach the maximum.
    """

    def __init__(self, exponent: float = 3.0) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor([exponent]))

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``B C``, float32; values below 1e-6 count as that."""
        powers = feature.float().clamp(min=_LEAST).pow(self.exponent.float())
        return powers.mean((2, 3)).pow(1 / self.exponent.float())

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_unsup_cc.pooling:GeneralisedMean", "kwargs": {}}
