"""What an encoder is. Needs torch at import, for authors subclass it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from reid_core.contract.model import Tap


class Encoder(nn.Module):
    """Base of all encoders: an image in, named feature maps out.

    Attributes:
        taps: what ``forward`` returns, from shallow to deep; the last one is ``encoder/map``.
    """

    taps: tuple[Tap, ...]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the maps by tap name.

        Args:
            image: ``B 3 H W``, ImageNet-normalised.
        """
        raise TypeError(f"{type(self).__name__} must define forward")

    def deploy_spec(self) -> dict[str, Any]:
        """Return ``{"factory": "module:Class", "kwargs": {...}}``, which rebuilds the encoder.

        The exported embedder stores it; loading makes the class and loads the weights.
        """
        raise TypeError(f"{type(self).__name__} must define deploy_spec to be exported")
