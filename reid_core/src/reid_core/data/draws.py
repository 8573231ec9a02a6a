"""Rows to load and the random numbers that belong to them.

Every random number of a row is a function of (seed, purpose, source, epoch, position): the row's
place in the epoch's global order keys a counter-based generator. So neither the number of threads,
nor prefetching, nor how a batch is divided over ranks can change what a row looks like, and
switching one augmentation on leaves the draws of the others as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NUMBERS_PER_COUNT = 4
"""One count of Philox 4x64 yields four 64-bit numbers, and each gives one double."""


@dataclass(frozen=True, eq=False)
class Draw:
    """One batch to load, or a rank's share of it.

    Args:
        rows: int64 ``B``, rows of the source.
        positions: int64 ``B``, places of the rows in the epoch's global order, counted over all
            ranks.
        frames: int64 ``B T``, which frames of tracklets; None leaves that to the loader.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    frames: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)


def in_order(count: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Draw]:
    """Yield every row once, in order, for evaluation.

    Each rank owns one contiguous block of rows, so the ranks' results concatenated are the whole,
    nothing is repeated, and blocks differ by one row at most. The last batch may be shorter.

    Args:
        count: number of rows.
        batch_size: rows per batch.
        rank, world: which share of how many.
    """
    first, last = count * rank // world, count * (rank + 1) // world
    for start in range(first, last, batch_size):
        rows = np.arange(start, min(start + batch_size, last), dtype=np.int64)
        yield Draw(rows, rows)


def row_uniforms(
    seed: int, purpose: str, source: str, epoch: int, positions: NDArray[np.int64], width: int
) -> NDArray[np.float64]:
    """Return ``width`` uniform numbers in [0, 1) for every position.

    Position ``p`` owns the numbers ``p * stride .. p * stride + width - 1`` of the stream (Philox
    4x64-10, Salmon et al. 2011) that the other arguments key.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for; each purpose has a stream of its own.
        source: name of the source.
        epoch: 0-based.
        positions: int64 ``B``, non-negative.
        width: numbers per position.

    Returns:
        float64 ``B width``.
    """
    text = f"{seed}|{purpose}|{source}|{epoch}".encode()
    key = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), dtype="<u8")
    counts = -(-width // _NUMBERS_PER_COUNT)
    out = np.empty((len(positions), counts * _NUMBERS_PER_COUNT))
    # Positions mostly come as one contiguous run: one generator serves each run.
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    for run in np.split(np.arange(len(positions)), breaks):
        if len(run):
            stream = np.random.Philox(key=key).advance(int(positions[run[0]]) * counts)
            np.random.Generator(stream).random(out=out[run[0] : run[-1] + 1])
    return out[:, :width]
