"""Memories that are contrasted with: one vector per cluster, or one per image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reid_baselines.clusters import means_of
from reid_core import Embedded, IdentityCriterion, IdentityOutput, inner_products
from reid_retrieval.clustering import count_of

if TYPE_CHECKING:
    from reid_core import Embedding


class MemorySettings(Protocol):
    """How a memory is contrasted with, and moves."""

    @property
    def temperature(self) -> float:
        """Divides the similarities (tau)."""

    @property
    def momentum(self) -> float:
        """Share of a memory that stays when it moves (m)."""


class ClusterMemorySettings(MemorySettings, Protocol):
    """The same of a memory of clusters."""

    @property
    def hard(self) -> bool:
        """Whether the image that is least like the cluster moves it alone."""


def info_nce(
    cosines: Tensor, labels: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Return the mean over rows of minus the log share of a row's own cluster.

    Args:
        cosines: ``B K``, similarities to all clusters.
        labels: int64 ``B``; rows with -1 are left out, and without any other the value is 0.
        temperature: tau.
        weights: of the rows, ``B``; None counts all alike.
    """
    rows = F.cross_entropy(cosines / temperature, labels, ignore_index=-1, reduction="none")
    counted = (labels >= 0).to(rows) if weights is None else weights * (labels >= 0)
    return (rows * counted).sum() / counted.sum().clamp(min=torch.finfo(rows.dtype).tiny)


class ClusterMemory(IdentityCriterion):
    """Cluster Contrast's memory dictionary: one vector per cluster.

    It begins every epoch as the mean of the cluster's images, and is moved once after every step by
    the vectors of all ranks.

    Args:
        embedding: what is supervised.
        dim: length of its unit vector.
        settings: temperature, momentum, and which images move a cluster.
    """

    memory: Tensor

    def __init__(self, embedding: Embedding, dim: int, settings: ClusterMemorySettings) -> None:
        super().__init__(embedding)
        self.settings = settings
        self.register_buffer("memory", torch.zeros(0, dim), persistent=False)

    def begin(self, labels: NDArray[np.int64], features: Callable[[], NDArray[np.float32]]) -> None:
        """Take the clusters' means; see `IdentityCriterion.begin`."""
        self.memory = torch.from_numpy(means_of(features(), labels)).to(self.memory.device)

    def logits(self, embedded: Embedded) -> Tensor:
        """Return similarities to the clusters over the temperature, ``B K``."""
        return inner_products(embedded.unit, self.memory) / self.settings.temperature

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return the term ``contrast`` (`info_nce`); soft targets are of fixed identities."""
        cosines = inner_products(embedded.unit, self.memory)
        loss = info_nce(cosines, labels, self.settings.temperature)
        return IdentityOutput({"contrast": loss}, cosines / self.settings.temperature)

    @torch.no_grad()
    def update(self, embedded: Embedded, labels: Tensor) -> None:
        """Move the clusters of the batch; see `IdentityCriterion.update`."""
        unit, kept = embedded.unit.float(), self.settings.momentum
        # A slot behind the clusters takes the rows of nobody: no masking that waits for the device.
        slots = torch.where(labels >= 0, labels, len(self.memory))
        longer = torch.cat([self.memory, self.memory.new_zeros(1, self.memory.shape[1])])
        if self.settings.hard:
            first, present = _least_alike((unit * longer[slots]).sum(1), slots, len(longer))
            moved = F.normalize(kept * longer + (1 - kept) * unit[first], dim=1)
            longer = torch.where(present[:, None], moved, longer)
        else:
            for slot, vector in zip(slots[:, None], unit[:, None], strict=True):
                moved = kept * longer.index_select(0, slot) + (1 - kept) * vector
                longer.index_copy_(0, slot, F.normalize(moved, dim=1))
        self.memory = longer[:-1]


def _least_alike(cosines: Tensor, slots: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each slot's row of smallest cosine (0 where it has none), and which have rows."""
    least = cosines.new_full((count,), torch.inf).scatter_reduce(0, slots, cosines, "amin")
    rows = torch.arange(len(slots), device=slots.device)
    candidates = torch.where(cosines == least[slots], rows, len(rows))
    first = rows.new_full((count,), len(rows)).scatter_reduce(0, slots, candidates, "amin")
    return torch.where(first < len(rows), first, 0), first < len(rows)


class HybridMemory(IdentityCriterion):
    """SpCL's hybrid memory: one vector per image; a cluster is the mean of its images' vectors.

    It is filled before the first epoch, kept over epochs and in checkpoints, and moved once after
    every step by the vectors of all ranks; outliers are clusters of one image.

    Args:
        embedding: what is supervised.
        dim: length of its unit vector.
        images: images of the main source.
        settings: temperature and momentum.
    """

    memory: Tensor
    filled: Tensor
    owners: Tensor
    sizes: Tensor

    def __init__(
        self, embedding: Embedding, dim: int, images: int, settings: MemorySettings
    ) -> None:
        super().__init__(embedding)
        self.settings = settings
        self.rows: Tensor | None = None
        """Which image each row of the running step shows, of all ranks."""
        self.register_buffer("memory", torch.zeros(images, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.bool))
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("sizes", torch.zeros(0, 1), persistent=False)

    def begin(self, labels: NDArray[np.int64], features: Callable[[], NDArray[np.float32]]) -> None:
        """Take over the epoch's clusters; see `IdentityCriterion.begin`."""
        device = self.memory.device
        if not self.filled:
            self.memory.copy_(torch.from_numpy(features()))
            self.filled.fill_(True)
        count = count_of(labels)
        self.owners = torch.from_numpy(np.where(labels >= 0, labels, count)).to(device)
        sizes = np.bincount(labels[labels >= 0], minlength=count)[:, None]
        self.sizes = torch.from_numpy(sizes.astype(np.float32)).to(device)

    def clusters(self) -> Tensor:
        """Return the mean of every cluster's vectors, ``K D``, which have no length of one."""
        count = len(self.sizes)
        sums = self.memory.new_zeros(count + 1, self.memory.shape[1])
        return sums.index_add(0, self.owners, self.memory)[:count] / self.sizes

    def logits(self, embedded: Embedded) -> Tensor:
        """Return similarities to the clusters over the temperature, ``B K``."""
        return inner_products(embedded.unit, self.clusters()) / self.settings.temperature

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return the term ``contrast`` (`info_nce`); soft targets are of fixed identities."""
        cosines = inner_products(embedded.unit, self.clusters())
        loss = info_nce(cosines, labels, self.settings.temperature, self.shares(labels))
        return IdentityOutput({"contrast": loss}, cosines / self.settings.temperature)

    def shares(self, labels: Tensor) -> Tensor:
        """Return the weight of every row, ``B``: 1, or its share of the rows of one image.

        An identity of one image has as many places in a batch as one of many. All of them together
        weigh what one does: otherwise, where most images are alone, hardly anything but telling
        them apart would be learnt.
        """
        alone = torch.cat([self.sizes[:, 0] == 1, self.sizes.new_zeros(1, dtype=torch.bool)])
        times = (labels[:, None] == labels[None, :]).sum(1).to(self.memory)
        return torch.where(alone[labels], 1 / times, torch.ones_like(times))

    @torch.no_grad()
    def update(self, embedded: Embedded, labels: Tensor) -> None:
        """Move the images of the batch; see `IdentityCriterion.update`.

        An image that a batch shows several times moves once, towards the mean.
        """
        assert self.rows is not None
        unit, images = embedded.unit.float(), len(self.memory)
        places = torch.where(labels >= 0, self.rows, images)
        sums = unit.new_zeros(images + 1, unit.shape[1]).index_add(0, places, unit)[:images]
        seen = unit.new_zeros(images + 1).index_add(0, places, torch.ones_like(unit[:, 0]))
        seen, kept = seen[:images, None], self.settings.momentum
        moved = F.normalize(kept * self.memory + (1 - kept) * sums / seen.clamp(min=1), dim=1)
        self.memory.copy_(torch.where(seen > 0, moved, self.memory))
