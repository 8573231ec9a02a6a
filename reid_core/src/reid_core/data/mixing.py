"""Batches of which every one of several data sets gets its share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from reid_core.data.sampling import EpochBy, Rows, Sampler, make_sampler, rows_together
from reid_core.errors import ReidError


def make_mixed_sampler(
    name: str,
    pids: Rows | None,
    camids: Rows,
    sets: Rows,
    weights: Mapping[str, float],
    batch_size: int,
    instances: int = 4,
    seed: int = 0,
    epoch_by: EpochBy = "images",
) -> Sampler:
    """Make a sampler of whose batches every data set gets its share.

    The unit is what the sampler draws at once: an identity with its images (``pk``), a pair, a row.
    Of ``U`` units in a batch, a set of the share ``w`` of all weights has ``U w``, rounded up or
    down at random so that its mean is exact. An epoch has as many batches as without shares; a
    small set is gone through again within it.

    Args:
        name, pids, camids, batch_size, instances, seed, epoch_by: see `make_sampler`.
        sets: int64 ``N``, which of the sets a row is from.
        weights: by name of the sets, in the order of their numbers; above 0.

    Raises:
        ConfigError: see `make_sampler`; or a set has fewer identities than its share.
        DataError: see `make_sampler`, of all rows or of those of one set.
    """
    whole = make_sampler(name, pids, camids, batch_size, instances, seed, epoch_by)
    unit = rows_together(name, instances)
    units = batch_size // unit
    shares = [Fraction(weight).limit_denominator(1000) for weight in weights.values()]
    scale = math.lcm(*(share.denominator for share in shares))
    parts, counts = [], np.array([int(share * scale) for share in shares])
    drawn = np.zeros(len(camids), np.int64) if pids is None else pids
    for number, title in enumerate(weights):
        most = -(-units * int(counts[number]) // int(counts.sum()))
        own = np.where(sets == number, drawn, -1)
        try:
            part = make_sampler(name, own, camids, most * unit, instances, seed, epoch_by)
        except ReidError as error:
            raise type(error)(
                f"data.mixture gives '{title}' up to {most} of the {units} "
                f"{'rows' if unit == 1 else 'groups'} of a batch: {error}"
            ) from error
        parts.append(part)
    return _MixedSampler(whole, parts, counts, unit)


class _MixedSampler(Sampler):
    """Give every one of several sets its share of every batch.

    Args:
        whole: over all rows; says how many batches an epoch has.
        parts: over the rows of each set; their batches have the most that a set gets of one.
        counts: int64, one per set: the shares are as these numbers.
        unit: rows that belong together.
    """

    def __init__(self, whole: Sampler, parts: Sequence[Sampler], counts: Rows, unit: int) -> None:
        notes = dict.fromkeys(note for part in parts for note in part.notes)
        super().__init__(whole.batch_size, whole.seed, whole.batches, tuple(notes))
        self._whole, self._parts, self._counts, self._unit = whole, parts, counts, unit

    def _draw(self, rng: np.random.Generator) -> Rows:
        batches = len(self._whole._draw(rng)) if self.batches is None else self.batches
        units, total = self.batch_size // self._unit, int(self._counts.sum())
        # One number decides how all sets of a batch are rounded, so that they sum up to it.
        turn = rng.integers(total, size=(batches, 1))
        ends = (units * np.r_[0, np.cumsum(self._counts)] + turn) // total
        sizes = np.diff(ends, axis=1)
        mixed = np.empty((batches, units, self._unit), np.int64)
        for number, part in enumerate(self._parts):
            drawn = _batches(part, batches, rng).reshape(batches, -1, self._unit)
            for batch, (start, size) in enumerate(
                zip((ends[:, number] - ends[:, 0]).tolist(), sizes[:, number].tolist(), strict=True)
            ):
                mixed[batch, start : start + size] = drawn[batch, :size]
        # Ranks take blocks of a batch: without this, each would get its own set.
        order = rng.random((batches, units)).argsort(axis=1)
        return np.take_along_axis(mixed, order[..., None], axis=1).reshape(batches, -1)


def _batches(sampler: Sampler, count: int, rng: np.random.Generator) -> Rows:
    """Return so many batches of a sampler, in as many passes as they take."""
    passes: list[Rows] = []
    while sum(map(len, passes)) < count:
        passes.append(sampler._draw(rng))
    return np.concatenate(passes)[:count]
