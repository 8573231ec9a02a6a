"""Estimates with intervals over people, and the draws that these come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from reid_search.calibration.curves import Floats

MOST_UNITS = 1000
"""Units that are drawn, at most; more people are put together by chance."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, None where the draws do not tell.

    Args:
        value: of the people as they are.
        low, high: quantiles over people drawn anew.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(
        cls, value: float, drawn: Floats, confidence: float, people: int | None = None
    ) -> Interval:
        """Return the percentile interval of draws ``B``; those without a value are left out.

        Where nobody differs, drawing people tells nothing: none of ten people failing leaves a
        rate of up to 31 %, not of 0. Then every person is taken for one trial, and the exact
        interval of Clopper and Pearson says what so many can tell.

        Args:
            value: the share that was found.
            drawn: float64 ``B``, the share in every draw.
            confidence: of the interval.
            people: whom a share of 0 or 1 rests on; None of other values than shares.
        """
        if people and value in (0.0, 1.0):
            found = binomtest(round(value * people), people).proportion_ci(confidence, "exact")
            return cls(value, float(found.low), float(found.high))
        drawn = drawn[np.isfinite(drawn)]
        if not len(drawn):
            return cls(value)
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        # Drawn rates between the thresholds that are watched may miss the value by a hair.
        return cls(value, min(float(low), value), max(float(high), value))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Draws:
    """People drawn with replacement, again and again.

    Args:
        units: int64 ``P``, the unit of every person: its own, or one that it shares.
        weights: float32 ``B U``, how often each unit is drawn; counts below 2^24 are exact.
    """

    units: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, people: int, draws: int, seed: int = 0) -> Draws:
        """Draw as many people as there are.

        Args:
            people: their number ``P``.
            draws: ``B``.
            seed: of the draws.
        """
        rng = np.random.default_rng([seed, people])
        count = min(people, MOST_UNITS)
        units = np.arange(people) if people == count else rng.permutation(people) % count
        weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        return cls(units, weights.astype(np.float32))

    def summed(self, counts: NDArray[np.int64]) -> Floats:
        """Return counts ``P ...`` of people, weighted and summed over them: float64 ``B ...``."""
        by_unit = np.zeros((self.weights.shape[1], *counts.shape[1:]))
        np.add.at(by_unit, self.units, counts)
        return np.tensordot(self.weights.astype(np.float64), by_unit, axes=1)
