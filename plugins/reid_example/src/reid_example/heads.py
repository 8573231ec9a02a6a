"""The head."""

from __future__ import annotations

from torch import Tensor, nn


class StripeHead(nn.Module):
    """Classify every cell of a map.

    Args:
        channels: of the map.
        stripes: how many classes there are.
    """

    def __init__(self, channels: int, stripes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(channels, stripes, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``B S H W`` of a map ``B C H W``."""
        logits: Tensor = self.classify(features)
        return logits
