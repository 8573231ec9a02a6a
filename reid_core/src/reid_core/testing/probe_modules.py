"""Networks and criteria of the probe plugins; tiny, and nothing of them is good for anything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from reid_core.contract.criterion import IdentityCriterion, IdentityOutput
from reid_core.contract.model import Embedding
from reid_core.contract.vectors import Embedded
from reid_core.model.precision import inner_products


class PartHead(nn.Sequential):
    """Dropout and a 1x1 convolution to class logits; the dropout shows that scopes hold."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.2) -> None:
        super().__init__(nn.Dropout(dropout), nn.Conv2d(channels, classes, 1))


class IdleHead(PartHead):
    """A head with a layer that nothing uses, for the check that looks for such layers."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.2) -> None:
        super().__init__(channels, classes, dropout)
        self.idle = nn.Linear(2, 2)

    def forward(self, feature: Tensor) -> Tensor:
        """Run the convolution alone."""
        return self[1](self[0](feature))  # type: ignore[no-any-return]


class Stream(nn.Module):
    """A second stream: two convolutions on the image; returns the map and its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``B 16 H/8 W/8`` and ``B 16``."""
        feature = self.layers(image)
        return feature, feature.mean((2, 3))


class Generator(nn.Module):
    """Recolour an image by a learned mixture of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``B 3 H W``."""
        return self.mix(image)  # type: ignore[no-any-return]


class Discriminator(nn.Sequential):
    """One score per patch."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 4, 4), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 1))


class Teacher(nn.Module):
    """An encoder and the mean of its map."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        """Return ``B C``."""
        return self.encoder(image)["encoder/map"].mean((2, 3))  # type: ignore[no-any-return]


class ClusterMemory(IdentityCriterion):
    """Contrast every vector with one memory per cluster, moved after the step.

    Args:
        embedding: what is supervised.
        dim: length of its unit vector.
        momentum: share of the old memory that stays.
    """

    memory: Tensor

    def __init__(self, embedding: Embedding, dim: int, momentum: float) -> None:
        super().__init__(embedding)
        self.momentum = momentum
        self.register_buffer("memory", torch.zeros(1, dim), persistent=False)

    def begin(self, labels: NDArray[np.int64], features: Callable[[], NDArray[np.float32]]) -> None:
        """Start from the clusters' means."""
        found = features()
        means = np.stack([found[labels == k].mean(0) for k in range(labels.max() + 1)])
        rows = torch.from_numpy(means.astype(np.float32)).to(self.memory.device)
        self.memory = F.normalize(rows, dim=1)

    def logits(self, embedded: Embedded) -> Tensor:
        """Return similarities to the memories, divided by the temperature."""
        return inner_products(embedded.unit, self.memory) / 0.05

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return the term ``contrast``."""
        logits = self.logits(embedded)
        return IdentityOutput({"contrast": F.cross_entropy(logits, labels)}, logits)

    def update(self, embedded: Embedded, labels: Tensor) -> None:
        """Move the memories of the clusters in the batch towards their rows' mean."""
        count = len(self.memory)
        ones = F.one_hot(labels, count).to(embedded.unit)
        sizes = ones.sum(0)[:, None]
        means = ones.T @ embedded.unit / sizes.clamp(min=1)
        moved = F.normalize(self.momentum * self.memory + (1 - self.momentum) * means, dim=1)
        self.memory = torch.where(sizes > 0, moved, self.memory)
