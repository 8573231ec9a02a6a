"""Temporal attention (Gao and Nevatia, arXiv:1805.02104, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class TemporalAttention(nn.Module):
    """Weigh the vectors of a tracklet's frames by scores of their own, ``B T D`` to ``B D``.

    Each vector is brought to ``width`` values, a convolution over three neighbouring frames makes a
    score of them, and a softmax over all frames the weights, of which there may be any number.

    Args:
        channels: ``D``.
        width: values of a frame from which its score is made.
    """

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.kwargs = {"channels": channels, "width": width}
        self.reduce = nn.Linear(channels, width)
        self.score = nn.Conv1d(width, 1, 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return ``B D``."""
        return (self.weights(vectors)[:, :, None].to(vectors.dtype) * vectors).sum(1)

    def weights(self, vectors: Tensor) -> Tensor:
        """Return the weights of frames, float32 ``B T``; those of a tracklet sum to one."""
        reduced = F.relu(self.reduce(vectors)).transpose(1, 2)
        return F.relu(self.score(reduced))[:, 0].float().softmax(1)

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {
            "factory": "reid_baselines.temporal_attention:TemporalAttention",
            "kwargs": self.kwargs,
        }
