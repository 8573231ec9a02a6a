"""Whose images are composed with whose, outside of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid_core import PICTURE_SUFFIXES, ConfigError, RunContext, Sample
from reid_core.data.sidecars import files_below

Split = Literal["train", "query", "gallery"]


def samples_of(ctx: RunContext, split: Split = "train") -> Sequence[Sample]:
    """Return the images of a split of a run's data set."""
    dataset = ctx.dataset
    return {"train": ctx.main.samples, "query": dataset.query, "gallery": dataset.gallery}[split]


def samples_in(folder: Path) -> list[Sample]:
    """Return the images below a folder in the order of their names, each a person of his own.

    Raises:
        ConfigError: there is no such folder, or it holds no image.
    """
    if not folder.is_dir():
        raise ConfigError(f"--images {folder}: there is no such folder")
    found = files_below(folder)
    paths = sorted(path for path in found if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise ConfigError(
            f"--images {folder}: there is no image in it ({', '.join(PICTURE_SUFFIXES)})"
        )
    return [Sample(path, number, 0) for number, path in enumerate(paths)]


def identities_of(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return the identities of samples: int64 ``N``."""
    return np.array([sample.pid for sample in samples], dtype=np.int64)


def different_people(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return samples of different people, spread evenly over all of them.

    Args:
        samples: to choose from.
        count: how many; fewer where there are not as many people.
    """
    firsts = {sample.pid: sample for sample in reversed(samples) if sample.pid >= 0}
    people = sorted(firsts)
    chosen = min(count, len(people))
    return [firsts[people[number * len(people) // chosen]] for number in range(chosen)]


def other_people(
    pids: NDArray[np.int64], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return for each of some rows a random row of another identity: int64 ``M``.

    Every row of another identity is as likely as any other.

    Args:
        pids: int64 ``N``; all rows with ``-1`` count as one identity.
        rows: int64 ``M``, rows of them.
        rng: what draws.

    Raises:
        ConfigError: there is one identity alone.
    """
    order = np.argsort(pids, kind="stable")
    kinds, starts, kind, counts = np.unique(
        pids[order], return_index=True, return_inverse=True, return_counts=True
    )
    if len(kinds) < 2:
        raise ConfigError("all images are of one person: there is nobody to swap codes with")
    own = np.empty_like(order)
    own[order] = kind
    own = own[rows]
    drawn = rng.integers(len(pids) - counts[own])
    return order[np.where(drawn < starts[own], drawn, drawn + counts[own])]
