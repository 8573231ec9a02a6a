"""The identity criterion: memories of clusters, contrasted with and moved after the step.

Nothing here is learned by gradient: memories are rebuilt at every epoch's start and moved by
`ClusterMemory.update`, which the core calls once after the optimisers' step with the vectors of all
ranks. So all ranks hold equal memories, and what a step contrasts with is what the step before
left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reid_core import Embedded, Embedding, IdentityCriterion, IdentityOutput, inner_products
from reid_unsup_cc.contrast import contrast
from reid_unsup_cc.divergence import divergences
from reid_unsup_cc.settings import HardMetric, MemorySettings


class ClusterMemory(IdentityCriterion):
    """Contrast the vectors of one embedding with memories of the epoch's clusters.

    Args:
        embedding: what is supervised.
        dim: length of its unit vector.
        settings: of the memories.
        draw: makes the generator that draws an epoch's first vectors, equal on all ranks.

    Attributes:
        average, hard: ``N D`` memories of the clusters; empty where the mode has none.
        instances: ``M D``, one vector per clustered image, in mode ``instance``.
        agreement: of the updates since `begin`, how many clusters' hardest vector by the chosen
            measure is also that of smallest cosine, and how many clusters there were.
    """

    average: Tensor
    hard: Tensor
    instances: Tensor
    places: Tensor
    owners: Tensor
    agreement: Tensor

    def __init__(
        self,
        embedding: Embedding,
        dim: int,
        settings: MemorySettings,
        draw: Callable[[], np.random.Generator],
    ) -> None:
        super().__init__(embedding)
        self.settings, self._draw = settings, draw
        self._count = 0
        self._rows: Tensor | None = None
        for name in ("average", "hard", "instances"):
            self.register_buffer(name, torch.zeros(0, dim), persistent=False)
        for name in ("places", "owners"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("agreement", torch.zeros(2), persistent=False)

    def begin(self, labels: NDArray[np.int64], features: Callable[[], NDArray[np.float32]]) -> None:
        """Rebuild the memories (equation 4); see `IdentityCriterion.begin`."""
        found, mode = features(), self.settings.mode
        self._count = int(labels.max()) + 1
        device = self.agreement.device
        self.agreement = torch.zeros(2, device=device)
        if mode == "instance":
            kept = np.flatnonzero(labels >= 0)
            places = np.full(len(labels), -1)
            places[kept] = np.arange(len(kept))
            self.places = torch.from_numpy(places).to(device)
            self.owners = torch.from_numpy(labels[kept]).to(device)
            self.instances = torch.from_numpy(found[kept]).to(device)
            return
        first = torch.from_numpy(self._first(labels, found)).to(device)
        if mode in ("both", "average"):
            self.average = first.clone()
        if mode in ("both", "hard"):
            self.hard = first

    def _first(self, labels: NDArray[np.int64], found: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what each cluster begins with, ``N D``: one of its members, or their mean."""
        if self.settings.start == "random":
            order = self._draw().permutation(np.flatnonzero(labels >= 0))
            _, first = np.unique(labels[order], return_index=True)
            members: NDArray[np.float32] = found[order[first]]
            return members
        kept = labels >= 0
        means = np.zeros((self._count, found.shape[1]), np.float32)
        np.add.at(means, labels[kept], found[kept])
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return np.asarray(means / np.maximum(norms, 1e-12), np.float32)

    def note_rows(self, rows: Tensor) -> None:
        """Note which images of the source the rows of the running step show, for mode ``instance``.

        Args:
            rows: int64 ``B``, of all ranks; a generated image counts as its donor.
        """
        self._rows = rows

    def clusters(self) -> list[Tensor]:
        """Return what is contrasted with, ``N D`` each: of two memories the average one first."""
        if self.settings.mode != "instance":
            return [memory for memory in (self.average, self.hard) if len(memory)]
        # A similarity to a cluster is the mean of those to its members.
        sums, sizes = _sums(self.instances, self.owners, self._count)
        return [sums / sizes]

    def logits(self, embedded: Embedded) -> Tensor:
        """Return similarities to the clusters over the temperature, ``B N``; the mean of two."""
        cosines = self._cosines(embedded)
        return torch.stack(cosines).mean(0) / self.settings.temperature

    def _cosines(self, embedded: Embedded) -> list[Tensor]:
        """Return similarities ``B N`` to each memory's vectors, never in half precision."""
        return [inner_products(embedded.unit, memory) for memory in self.clusters()]

    def forward(
        self, embedded: Embedded, labels: Tensor, soft_targets: Tensor | None = None
    ) -> IdentityOutput:
        """Return the term ``contrast`` (equation 8); see `IdentityCriterion.forward`.

        Soft targets are over fixed identities, which there are none of here.
        """
        settings = self.settings
        cosines = self._cosines(embedded)
        loss = contrast(cosines, labels, settings.temperature, settings.combine)
        return IdentityOutput(
            {"contrast": loss}, torch.stack(cosines).mean(0) / settings.temperature
        )

    @torch.no_grad()
    def update(self, embedded: Embedded, labels: Tensor) -> None:
        """Move the memories of the clusters in the batch (equations 6 and 7)."""
        settings, unit = self.settings, embedded.unit.float()
        if settings.mode == "instance":
            assert self._rows is not None
            # One step towards the mean of all rows that show the image: one after the other, its
            # images in other clothes would leave next to nothing of itself.
            places = torch.where(labels >= 0, self.places[self._rows], -1)
            self.instances = _averaged(self.instances, unit, places, settings)
            return
        if len(self.average):
            move = _moved_one_by_one if settings.average == "sequential" else _averaged
            self.average = move(self.average, unit, labels, settings)
        if len(self.hard):
            self._move_hard(unit, labels)

    def _move_hard(self, unit: Tensor, labels: Tensor) -> None:
        settings, memory = self.settings, self.hard
        own = memory[labels.clamp(min=0)]
        hardness = hardness_of(unit, own, settings.hardest, settings.temperature)
        chosen, present = hardest_rows(hardness, labels, len(memory))
        plain = hardness_of(unit, own, "cosine", settings.temperature)
        other, _ = hardest_rows(plain, labels, len(memory))
        same = (present & (chosen == other)).sum()
        self.agreement = self.agreement + torch.stack([same, present.sum()])
        self.hard = _moved(memory, unit[chosen], present[:, None], settings)


def hardness_of(vectors: Tensor, memory: Tensor, metric: HardMetric, temperature: float) -> Tensor:
    """Return how far each vector is from its cluster's memory, ``B``.

    Args:
        vectors, memory: unit vectors ``B D``.
        metric: ``kl`` and ``kl_unit`` are the divergence of the memory from the vector (the
            vector's distribution comes first, as in equation 6), over τ and over 1; ``cosine`` is
            minus the inner product.
        temperature: τ.
    """
    if metric == "cosine":
        return -(vectors * memory).sum(1)
    scale = temperature if metric == "kl" else 1.0
    return divergences(F.log_softmax(vectors / scale, 1), F.log_softmax(memory / scale, 1))


def hardest_rows(hardness: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each cluster's hardest row (0 where it has none), and which clusters have rows.

    Args:
        hardness: ``B``; of equal ones the first row counts.
        labels: int64 ``B``; rows with ``-1`` belong to nobody.
        count: number of clusters N.

    Returns:
        int64 and bool, ``N`` each.
    """
    # A slot behind the clusters takes the rows of nobody: no masking that waits for the device.
    slots = torch.where(labels >= 0, labels, count)
    most = hardness.new_full((count + 1,), -torch.inf).scatter_reduce(0, slots, hardness, "amax")
    rows = torch.arange(len(labels), device=labels.device)
    candidates = torch.where(hardness == most[slots], rows, len(labels))
    first = rows.new_full((count + 1,), len(labels)).scatter_reduce(0, slots, candidates, "amin")
    first = first[:count]
    return torch.where(first < len(labels), first, 0), first < len(labels)


def _sums(vectors: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    slots = torch.where(labels >= 0, labels, count)
    sums = vectors.new_zeros(count + 1, vectors.shape[1]).index_add(0, slots, vectors)
    sizes = vectors.new_zeros(count + 1).index_add(0, slots, torch.ones_like(vectors[:, 0]))
    return sums[:count], sizes[:count, None]


def _averaged(memory: Tensor, vectors: Tensor, places: Tensor, settings: MemorySettings) -> Tensor:
    """Move each place once, towards the mean of its vectors; a place of ``-1`` moves nothing."""
    sums, sizes = _sums(vectors, places, len(memory))
    return _moved(memory, sums / sizes.clamp(min=1), sizes > 0, settings)


def _moved(memory: Tensor, towards: Tensor, present: Tensor, settings: MemorySettings) -> Tensor:
    moved = settings.momentum * memory + (1 - settings.momentum) * towards
    if settings.renormalise:
        moved = F.normalize(moved, dim=1)
    return torch.where(present, moved, memory)


def _moved_one_by_one(
    memory: Tensor, vectors: Tensor, places: Tensor, settings: MemorySettings
) -> Tensor:
    """Move a memory towards one vector after the other; a place of ``-1`` moves nothing."""
    longer = torch.cat([memory, memory.new_zeros(1, memory.shape[1])])
    slots = torch.where(places >= 0, places, len(memory))
    for slot, vector in zip(slots[:, None], vectors[:, None], strict=True):
        moved = _moved(longer.index_select(0, slot), vector, slot >= 0, settings)
        longer.index_copy_(0, slot, moved)
    return longer[: len(memory)]
