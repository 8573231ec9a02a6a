"""Sampling: which rows make up the batches of an epoch.

A sampler draws the *global* batches of an epoch from (seed, epoch) alone; `shard` then gives every
rank its part. So the number of ranks never changes what is trained on. numpy only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid_core.data.draws import Draw
from reid_core.errors import ConfigError, DataError
from reid_core.moved import answer_former_names

Rows = NDArray[np.int64]
EpochBy = Literal["images", "identities"]

SAMPLERS = ("pk", "pk_camera", "random", "pairs", "twice")
"""Names that `make_sampler` knows."""


def make_sampler(
    name: str,
    pids: Rows | None,
    camids: Rows,
    batch_size: int,
    instances: int = 4,
    seed: int = 0,
    epoch_by: EpochBy = "images",
) -> Sampler:
    """Make a sampler over the rows of a source.

    - ``pk``: P identities with K images each, K = ``instances``, contiguous by identity. With
      ``images``, every identity's images are shuffled and cut into groups of K (leftovers wait for
      another epoch), and batches draw P identities until fewer than P have a group left. With
      ``identities``, every identity has one group. An identity of fewer than K images repeats some.
    - ``pk_camera``: the same, with as many different cameras in a group as there are.
    - ``random``: all rows, shuffled, without the last incomplete batch.
    - ``pairs``: row ``2 i`` is an anchor and row ``2 i + 1`` another image of its identity, or the
      same one where it is the only one. With ``images`` every row is an anchor once, with
      ``identities`` every identity has one anchor.
    - ``twice``: row ``2 i + 1`` is row ``2 i`` again; augmentation makes two views of the image.
      Identities play no part.

    Args:
        name: see above, one of `SAMPLERS`.
        pids: int64 ``N``; rows with pid ``-1`` are never drawn. None for a source without
            identities, which only ``random`` can sample.
        camids: int64 ``N``.
        batch_size: rows of a global batch, over all ranks; a multiple of `rows_together`.
        instances: images per identity, for ``pk`` and ``pk_camera``.
        seed: the run's seed.
        epoch_by: what ``pk``, ``pk_camera`` and ``pairs`` go through once per epoch.

    Raises:
        ConfigError: a batch that cannot be filled.
        DataError: no row has an identity, or no identity has two images.
    """
    if name in ("random", "twice"):
        rows = np.arange(len(camids)) if pids is None else np.flatnonzero(pids >= 0)
        return _RandomSampler(rows, batch_size, seed, copies=2 if name == "twice" else 1)
    if pids is None:
        raise DataError(f"sampler '{name}' needs identities, and the source has none; use 'random'")
    groups = _Identities.of(pids, camids)
    if name == "pairs":
        return _PairSampler(groups, batch_size, seed, epoch_by)
    return _PkSampler(groups, batch_size, instances, seed, epoch_by, cameras=name == "pk_camera")


def check_shares(source: str, sampler: str, batch_size: int, instances: int, world: int) -> None:
    """Refuse batches whose shares would tear apart rows that belong together.

    What looks at a row's partner within its rank (a pair, another image of the identity) would
    find another one, or none, than in one process.

    Args:
        source: for the message.
        sampler, batch_size, instances: as `make_sampler` takes them.
        world: the number of ranks.

    Raises:
        ConfigError: a batch cannot be divided, with the sizes that can.
    """
    together = rows_together(sampler, instances)
    unit = together * world
    if batch_size % unit:
        raise ConfigError(
            f"batches of {batch_size} rows of source '{source}' cannot be divided over {world} "
            f"processes, of which each takes whole groups of {together} row(s) (sampler "
            f"'{sampler}'); set the batch size to a multiple of {unit}, or start another number "
            "of processes"
        )


def rows_together(sampler: str, instances: int) -> int:
    """Return how many rows of a batch belong together."""
    return {"pk": instances, "pk_camera": instances, "pairs": 2, "twice": 2}.get(sampler, 1)


def shard(batches: Iterable[Rows], rank: int, world: int) -> Iterator[Draw]:
    """Yield a rank's share of every global batch: one contiguous block of equal size.

    Rows that belong together (an identity, a pair) lie contiguously in a batch, so a rank gets
    them whole where `check_shares` does not refuse it.

    Args:
        batches: global batches of one epoch, in order, of multiples of ``world`` rows.
        rank, world: which share of how many.
    """
    start = 0
    for rows in batches:
        share = len(rows) // world
        own = slice(rank * share, (rank + 1) * share)
        positions = np.arange(start, start + len(rows), dtype=np.int64)
        yield Draw(rows[own], positions[own])
        start += len(rows)


class Sampler(ABC):
    """Draw the global batches of an epoch.

    Args:
        batch_size: rows per batch.
        seed: the run's seed.
        batches: those of one pass; None where passes differ.
        notes: one line each about data that this sampler cannot use as one might expect.
    """

    def __init__(
        self, batch_size: int, seed: int, batches: int | None, notes: tuple[str, ...] = ()
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.batches = batches
        self.notes = notes

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Rows:
        """Return one pass over the data: int64 ``batches batch_size``."""

    def __len__(self) -> int:
        """Return the batches of one pass; raise TypeError where passes differ, see `count`."""
        if self.batches is None:
            raise TypeError("how many batches there are depends on the epoch: ask count(epoch)")
        return self.batches

    def epoch(self, number: int, steps: int | None = None) -> Iterator[Rows]:
        """Yield the batches of an epoch.

        Args:
            number: 0-based.
            steps: exactly so many batches, repeating or cutting passes over the data; None for one
                pass.

        Returns:
            int64 arrays of ``batch_size`` rows.
        """
        first = self._pass(number, 0)
        further = (self._pass(number, repeat) for repeat in count(1))
        batches = chain.from_iterable(chain([first], further))
        yield from islice(batches, len(first) if steps is None else steps)

    def count(self, number: int) -> int:
        """Return how many batches one pass of an epoch has, by drawing it where need be."""
        return len(self._pass(number, 0)) if self.batches is None else self.batches

    def _pass(self, number: int, repeat: int) -> Rows:
        return self._draw(np.random.default_rng([self.seed, number, repeat]))


@dataclass(frozen=True, eq=False)
class _Identities:
    """Rows with an identity, sorted by it.

    Args:
        rows: int64 ``M``, rows of the source.
        owner: int64 ``M``, which identity a row belongs to, ``0 .. N-1``, ascending.
        cameras: int64 ``M``.
        starts, counts: int64 ``N``, each identity's slice of ``rows``.
    """

    rows: Rows
    owner: Rows
    cameras: Rows
    starts: Rows
    counts: Rows

    @classmethod
    def of(cls, pids: Rows, camids: Rows) -> _Identities:
        rows = np.flatnonzero(pids >= 0)
        rows = rows[np.argsort(pids[rows], kind="stable")]
        if not len(rows):
            raise DataError("no image has an identity: there is nothing to sample")
        _, starts, owner, counts = np.unique(
            pids[rows], return_index=True, return_inverse=True, return_counts=True
        )
        if counts.max() < 2:
            raise DataError(
                f"no identity has two images ({len(counts)} identities, {len(rows)} images): there "
                "are no positive pairs to learn from"
            )
        return cls(rows, owner, camids[rows], starts, counts)

    def __len__(self) -> int:
        return len(self.counts)

    def shuffled(self, rng: np.random.Generator, spread_cameras: bool) -> Rows:
        """Return ``rows`` with each identity's slice shuffled.

        With ``spread_cameras`` a slice goes round by round through the identity's cameras, so
        that any of its first rows have as many different cameras as possible.
        """
        chance = rng.random(len(self.rows))
        if not spread_cameras:
            return self.rows[np.lexsort((chance, self.owner))]
        order = np.lexsort((chance, self.cameras, self.owner))
        owner, cameras = self.owner[order], self.cameras[order]
        fresh = np.r_[True, (owner[1:] != owner[:-1]) | (cameras[1:] != cameras[:-1])]
        place = np.arange(len(order))
        rounds = place - np.maximum.accumulate(np.where(fresh, place, 0))
        within = np.lexsort((rng.random(len(order)), rounds, owner))
        return self.rows[order[within]]


class _PkSampler(Sampler):
    def __init__(
        self,
        identities: _Identities,
        batch_size: int,
        instances: int,
        seed: int,
        epoch_by: EpochBy,
        cameras: bool,
    ) -> None:
        wanted = batch_size // instances
        if len(identities) < wanted:
            raise ConfigError(
                f"sampler: a batch of {batch_size} with {instances} images per identity needs "
                f"{wanted} identities, and there are {len(identities)}; "
                f"-s data.batch_size={len(identities) * instances} is the most that works"
            )
        few = int((identities.counts < instances).sum())
        note = (
            f"{few} of {len(identities)} identities have fewer than {instances} images; theirs are "
            "repeated within a batch"
        )
        batches = None if epoch_by == "images" else len(identities) // wanted
        super().__init__(batch_size, seed, batches, (note,) if few else ())
        self._identities = identities
        self._instances = instances
        self._per_batch = wanted
        self._cameras = cameras

    def _draw(self, rng: np.random.Generator) -> Rows:
        sizes = np.ones(len(self._identities), dtype=np.int64)
        if self.batches is None:
            sizes = np.maximum(1, self._identities.counts // self._instances)
        groups = self._groups(rng, sizes)
        first = np.cumsum(sizes) - sizes
        if self.batches is not None:
            chosen = rng.permutation(len(sizes))[: len(self) * self._per_batch]
            return groups[chosen].reshape(-1, self.batch_size)
        taken = np.zeros_like(sizes)
        left = np.arange(len(sizes))
        batches = []
        while len(left) >= self._per_batch:
            drawn = left[rng.choice(len(left), self._per_batch, replace=False)]
            batches.append(groups[first[drawn] + taken[drawn]].reshape(-1))
            taken[drawn] += 1
            left = left[taken[left] < sizes[left]]
        return np.stack(batches)

    def _groups(self, rng: np.random.Generator, sizes: Rows) -> Rows:
        """Return ``sizes[i]`` groups of K rows of each identity: int64 ``sum(sizes) K``."""
        rows = self._identities.shuffled(rng, self._cameras)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        turn = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = turn[:, None] * self._instances + np.arange(self._instances)
        counts = self._identities.counts[owner][:, None]
        # An identity with too few images: drawn with replacement, or in turn through its cameras.
        if self._cameras:
            place = place % counts
        else:
            few = (counts < self._instances)[:, 0]
            place[few] = rng.integers(0, counts[few], (int(few.sum()), self._instances))
        return rows[self._identities.starts[owner][:, None] + place]


class _RandomSampler(Sampler):
    def __init__(self, rows: Rows, batch_size: int, seed: int, copies: int) -> None:
        if len(rows) * copies < batch_size:
            raise ConfigError(
                f"sampler: a batch of {batch_size} cannot be drawn from {len(rows)} images; set "
                f"batch_size to {len(rows) * copies} or less"
            )
        super().__init__(batch_size, seed, len(rows) * copies // batch_size)
        self._rows = rows
        self._copies = copies

    def _draw(self, rng: np.random.Generator) -> Rows:
        chosen = rng.permutation(self._rows)[: len(self) * self.batch_size // self._copies]
        return np.repeat(chosen, self._copies).reshape(-1, self.batch_size)


class _PairSampler(Sampler):
    def __init__(
        self, identities: _Identities, batch_size: int, seed: int, epoch_by: EpochBy
    ) -> None:
        self._identities = identities
        self._by_images = epoch_by == "images"
        anchors = len(identities.rows) if self._by_images else len(identities)
        if anchors < batch_size // 2:
            raise ConfigError(
                f"sampler: a batch of {batch_size // 2} pairs cannot be drawn from {anchors} "
                f"{epoch_by}; -s data.batch_size={2 * anchors} is the most that works"
            )
        single = int((identities.counts < 2).sum())
        note = f"{single} of {len(identities)} identities have one image; it is paired with itself"
        batches = anchors // (batch_size // 2)
        super().__init__(batch_size, seed, batches, (note,) if single else ())

    def _draw(self, rng: np.random.Generator) -> Rows:
        groups = self._identities
        if self._by_images:
            owner = groups.owner
            anchor = np.arange(len(owner)) - groups.starts[owner]
        else:
            owner = np.arange(len(groups))
            anchor = rng.integers(0, groups.counts)
        counts = groups.counts[owner]
        # One of the others, counted on from the anchor; an identity of one image has none.
        other = (anchor + 1 + rng.integers(0, np.maximum(1, counts - 1))) % counts
        pairs = groups.rows[groups.starts[owner][:, None] + np.stack([anchor, other], axis=1)]
        chosen = rng.permutation(len(pairs))[: len(self) * (self.batch_size // 2)]
        return pairs[chosen].reshape(-1, self.batch_size)


answer_former_names(__name__)
