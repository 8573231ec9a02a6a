"""The appearance encoder E_a is the run's encoder; here is its code, and its embeddings' layer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from reid_dgnet.networks.decoder import STRIPES


def appearance_code(maps: Tensor) -> Tensor:
    """Return the appearance code ``B 4C`` of the encoder's map ``B C H W``.

    The map is max-pooled to four stripes and flattened channel by channel, so the stripe is the
    index that runs fastest.
    """
    return F.adaptive_max_pool2d(maps, (STRIPES, 1)).flatten(1)


class EmbeddingLayer(nn.Module):
    """A linear layer and batch normalisation; the embedding is what comes out.

    Args:
        channels: of the pooled map.
        dim: of the embedding; the paper's is 512.
    """

    def __init__(self, channels: int, dim: int = 512) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, dim)
        self.norm = nn.BatchNorm1d(dim)
        nn.init.kaiming_normal_(self.linear.weight, a=0, mode="fan_out")
        nn.init.zeros_(self.linear.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return ``B D`` of ``B C``."""
        embedded: Tensor = self.norm(self.linear(pooled))
        return embedded

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        sizes = {"channels": self.linear.in_features, "dim": self.linear.out_features}
        return {"factory": "reid_dgnet.networks.appearance:EmbeddingLayer", "kwargs": sizes}
