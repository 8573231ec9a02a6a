"""Means of scores of single queries, and differences of two models, with what chance leaves open.

Queries of one person are alike: whoever resamples them one by one believes in more people than were
searched for. Intervals and tests by identity resample, or swap, all queries of a person together;
with several seeds of a model they can be resampled, too, and the interval then also covers another
training. All are SciPy's percentile bootstrap and permutation test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, permutation_test

from reid_core import DataError

RESAMPLES = 9999
"""Resamples of every interval, and permutations of every test."""

LEVEL = 0.95
"""Confidence of the intervals."""

_CELLS_AT_ONCE = 4_000_000
"""Numbers resampled at once: 32 MB."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of what it is of."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Intervals of one mean.

    Args:
        queries: queries resampled one by one.
        identities: all queries of a person together.
        seeds: people and, apart from them, the seeds of every model, or of both together; None
            where each has one.
    """

    queries: Interval
    identities: Interval
    seeds: Interval | None

    @property
    def widest(self) -> Interval:
        """The one that covers most of what could have been otherwise, to be shown alone."""
        return self.seeds or self.identities


@dataclass(frozen=True)
class Difference:
    """By how much one model's mean score is above another's.

    Args:
        before, after: the means.
        value: ``after - before``.
        intervals: of ``value``.
        p_queries, p_identities: two-sided permutation tests of 'the models are alike': a query's
            two scores are swapped, or all those of a person together.
        better, worse, equal: how many queries score higher, lower, or the same.
    """

    before: float
    after: float
    value: float
    intervals: Intervals
    p_queries: float
    p_identities: float
    better: int
    worse: int
    equal: int


def mean_with_intervals(
    scores: ArrayLike,
    identities: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, Intervals]:
    """Return the mean of scores, and its intervals.

    Args:
        scores: ``Q``, or ``S Q`` of several seeds of a model.
        identities: ``Q``, whose query each one is.
        resamples: how many.
        level: confidence.
        seed: of the resampling.

    Raises:
        DataError: fewer than two identities, or arrays that do not fit.
    """
    rows = _rows(scores, identities)
    return float(rows.mean()), _intervals([rows], identities, resamples, level, seed)


def difference(
    before: ArrayLike,
    after: ArrayLike,
    identities: ArrayLike,
    *,
    paired: bool = False,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """Compare two models by the scores of the same queries.

    Args:
        before, after: ``Q``, or ``S Q`` of several seeds; the two may have different numbers.
        identities: ``Q``, whose query each one is.
        paired: seed for seed the two begin with the same weights, which differ from seed to seed:
            their seeds are resampled together.
        resamples: how many, also of the permutations; where fewer exist all are taken.
        level: confidence.
        seed: of the resampling.

    Raises:
        DataError: fewer than two identities, arrays that do not fit, or pairs of which one is
            missing.
    """
    first, second = _rows(before, identities), _rows(after, identities)
    if paired and len(first) != len(second):
        raise DataError(f"{len(first)} seeds cannot be paired with {len(second)}")
    change = second.mean(axis=0) - first.mean(axis=0)
    by_person, _ = _by_person(change[None], identities)
    return Difference(
        float(first.mean()),
        float(second.mean()),
        float(change.mean()),
        _intervals([first, second], identities, resamples, level, seed, paired),
        _permuted(change, resamples, seed),
        _permuted(by_person[0], resamples, seed),
        int((change > _SAME).sum()),
        int((change < -_SAME).sum()),
        int((abs(change) <= _SAME).sum()),
    )


_SAME = 1e-9
"""Scores that differ by less are equal: means over seeds round."""


def _rows(scores: ArrayLike, identities: ArrayLike) -> Array:
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    people = np.asarray(identities)
    if rows.ndim != 2 or rows.shape[1:] != people.shape:
        raise DataError(f"scores of shape {rows.shape} do not fit {len(people)} identities")
    if len(np.unique(people)) < 2:
        raise DataError("an interval needs the queries of two people or more")
    return rows


def _by_person(rows: Array, identities: ArrayLike) -> tuple[Array, Array]:
    """Return sums ``S P`` over every person's queries, and how many ``P`` each has."""
    _, person, counts = np.unique(np.asarray(identities), return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(person, row, len(counts)) for row in rows]).astype(np.float64)
    return sums, counts.astype(np.float64)


def _intervals(
    models: list[Array],
    identities: ArrayLike,
    resamples: int,
    level: float,
    seed: int,
    paired: bool = False,
) -> Intervals:
    """Return the intervals of the last model's mean less the first one's, if there are two."""
    means = [rows.mean(axis=0) for rows in models]
    scores = means[-1] - means[0] if len(means) == 2 else means[0]
    sums, counts = _by_person(scores[None], identities)

    def ratio(total: Array, count: Array, axis: int) -> Any:
        return total.sum(axis=axis) / count.sum(axis=axis)

    options: dict[str, Any] = {"resamples": resamples, "level": level, "seed": seed}
    by_seed = None
    if any(len(rows) > 1 for rows in models):
        by_seed = _seeds_too(models, identities, resamples, level, seed, paired)
    return Intervals(
        _bootstrap((scores,), np.mean, **options),
        _bootstrap((sums[0], counts), ratio, **options),
        by_seed,
    )


def _seeds_too(
    models: list[Array],
    identities: ArrayLike,
    resamples: int,
    level: float,
    seed: int,
    paired: bool,
) -> Interval:
    """Resample people and seeds, each model's on their own or pairs of them."""
    rng = np.random.default_rng(seed)
    sums = [_by_person(rows, identities)[0] for rows in models]
    _, counts = _by_person(models[0], identities)
    people = len(counts)
    found = []
    step = max(_CELLS_AT_ONCE // (people * max(map(len, models))), 1)
    # SciPy resamples axes of one array only; the drawing is the same.
    for start in range(0, resamples, step):
        number = min(step, resamples - start)
        chosen = rng.integers(people, size=(number, people))
        over = counts[chosen].sum(axis=1)
        means: list[Array] = []
        for model in sums:
            if not means or not paired:
                seeds = rng.integers(len(model), size=(number, len(model)))
            taken = model[seeds[:, :, None], chosen[:, None, :]]
            means.append(taken.sum(axis=2).mean(axis=1) / over)
        found.append(means[-1] - means[0] if len(means) == 2 else means[0])
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _bootstrap(
    samples: tuple[Array, ...], statistic: Any, *, resamples: int, level: float, seed: int
) -> Interval:
    if all((one == one[0]).all() for one in samples):  # nothing to resample
        value = float(statistic(*samples, axis=-1))
        return Interval(value, value)
    found = bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        batch=max(_CELLS_AT_ONCE // len(samples[0]), 1),
        vectorized=True,
        paired=True,
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def _permuted(change: Array, resamples: int, seed: int) -> float:
    # Of one sample, permuting pairs is flipping signs. What did not change has no sign.
    moved = change[abs(change) > _SAME]
    if len(moved) < 2:  # of one change, either sign is as extreme
        return 1.0
    found = permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(_CELLS_AT_ONCE // len(moved), 1),
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)
