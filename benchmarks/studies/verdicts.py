"""What the rows of a comparison show: effect, interval, verdict, and what could have been seen.

Statistics are reid-search's: people and, apart from them, the seeds of both arms are resampled; all
queries of a person go together, and both arms answer the same ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid_search.comparing.statistics import Difference, Interval, difference
from studies.planning import Sides
from studies.table import Row, Table

Verdict = Literal["shown", "not shown", "refuted", "open"]

SEEDS = 5
"""Fewer seeds get no verdict."""

RESAMPLES = 1999

_POWER = 2.8
"""Standard errors of an effect that a two-sided test of 5 % sees in 80 % of repetitions."""

_WIDTH = 3.92
"""Standard errors in an interval of 95 %."""


@dataclass(frozen=True)
class Found:
    """What an arm does against another one.

    Args:
        seeds: of each.
        effects: by measure, in shares.
        up: in how many seeds the later arm's mAP is higher.
        verdict: of mAP; `verdict_of`.
        visible: smallest effect on mAP that so many people, queries and seeds would have shown in
            four of five repetitions, as a share; None where one seed says nothing of spread.
    """

    seeds: int
    effects: Mapping[str, Difference]
    up: int
    verdict: Verdict
    visible: float | None

    @property
    def interval(self) -> Interval:
        """Of mAP's effect."""
        return self.effects["mAP"].intervals.widest


def compared(table: Table, rows: Sides, protocol: str, paired: bool = False) -> Found | None:
    """Return what rows side by side show under a protocol; None where there are none.

    Args:
        table: has the queries' people.
        rows: of both arms.
        protocol: by which they are compared.
        paired: whether the arms of a seed begin with the same weights, as `Study` says.
    """
    if not rows.before:
        return None
    people = table.people(next(iter(rows.before.values())), protocol)
    effects = {
        measure: difference(
            _scores(rows.before, protocol, measure),
            _scores(rows.after, protocol, measure),
            people,
            paired=paired,
            resamples=RESAMPLES,
        )
        for measure in ("mAP", "rank1")
    }
    seeds = len(rows.before)
    up = sum(
        rows.after[seed].score(protocol, "mAP") > rows.before[seed].score(protocol, "mAP")
        for seed in rows.before
    )
    interval = effects["mAP"].intervals.widest
    visible = _POWER * (interval.high - interval.low) / _WIDTH if seeds > 1 else None
    return Found(seeds, effects, up, verdict_of(interval, seeds), visible)


def verdict_of(interval: Interval, seeds: int) -> Verdict:
    """Return what an interval says about 'it helps'.

    ``shown``: all of it is above 0. ``refuted``: all of it is below. ``not shown``: 0 is in it.
    ``open``: there are fewer than five seeds.
    """
    if seeds < SEEDS:
        return "open"
    if interval.low > 0:
        return "shown"
    return "refuted" if interval.high < 0 else "not shown"


def _scores(rows: Mapping[int, Row], protocol: str, measure: str) -> NDArray[np.float64]:
    return np.stack([rows[seed].of_queries(protocol, measure) for seed in sorted(rows)])


def spread(rows: Mapping[int, Row], protocol: str, measure: str) -> str:
    """Return mean and sample standard deviation over seeds, in per cent."""
    values = [100 * row.score(protocol, measure) for row in rows.values()]
    more = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{more}"
