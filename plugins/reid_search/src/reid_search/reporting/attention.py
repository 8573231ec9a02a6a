"""Where an embedder looks when two images are alike to it: Grad-CAM without a classifier."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core import ENCODER_MAP, ConfigError, Embedder, grad_cam


def similarity_attention(embedder: Embedder, images: Tensor, others: Tensor) -> Tensor:
    """Weigh the encoder's map by what makes every image similar to its other.

    The score is the cosine of the two features; the other's feature is held fixed. No identity and
    no classifier is needed, so that any embedder of the image alone can be looked into.

    Args:
        embedder: in evaluation mode.
        images, others: RGB ``B 3 H W`` of the embedder's size, in 0 .. 1, on its device.

    Returns:
        float32 ``B h w`` in 0 .. 1.

    Raises:
        ConfigError: the embedder does not depend on its encoder's last map.
    """
    kept: dict[str, Tensor] = {}

    def keep(module: torch.nn.Module, given: object, made: dict[str, Tensor]) -> None:
        kept["map"] = made[ENCODER_MAP]

    with torch.no_grad():
        towards = F.normalize(embedder(others), dim=1)
    handle = embedder.encoder.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            features = embedder(images.detach().clone().requires_grad_())
            score = (F.normalize(features, dim=1) * towards).sum(1)
            found = grad_cam(score, kept["map"])
    finally:
        handle.remove()
    if found is None:
        raise ConfigError("this embedder does not depend on the last map of its encoder")
    return found.float()
