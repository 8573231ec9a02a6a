"""Open-set identification: find people who are in the gallery, be silent about those who are not.

A search answers with the best gallery image if its similarity reaches the threshold. The detection
and identification rate (DIR) is the share of searches for known people that are answered with an
image of them; the false alarm rate (FAR) is the share of searches for unknown people that are
answered at all (Grother and Phillips, ISO/IEC 19795-1). An unknown person is one who is not in the
gallery; since most test sets have none, every query also asks with the images of its own person
left out. Both rates depend on the size of the gallery: the more strangers, the more alike is the
best of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_search.calibration.counting import Searches
from reid_search.calibration.curves import Floats, false_alarm_level
from reid_search.calibration.intervals import Draws

FARS = (1e-1, 1e-2, 1e-3)
"""False alarm rates at which the DIR is reported."""


@dataclass(frozen=True)
class OpenSet:
    """Known and unknown searches.

    Args:
        searches: the best images of every query.
    """

    searches: Searches

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which queries ``Q`` have an image of their person that counts."""
        return self.searches.own >= 0

    def dir_at(self, level: int) -> float:
        """Return the share of known searches that are answered rightly at a threshold."""
        right = self.searches.first & (self.searches.own >= level)
        return float(right[self.known].mean())

    def far_at(self, level: int) -> float:
        """Return the share of unknown searches that are answered at a threshold."""
        return float((self.searches.other >= level).mean())

    def level_at(self, far: float) -> int | None:
        """Return the lowest threshold of an FAR; None where there are too few searches for it."""
        if far * len(self.searches.other) < 1:
            return None
        return false_alarm_level(self.searches.other, far)

    def resampled_at(self, far: float, draws: Draws) -> Floats:
        """Return the DIR at an FAR, people weighted anew; the gallery stays as it is.

        Args:
            far: at which the threshold is chosen, anew in every row.
            draws: how often every person asks.

        Returns:
            float64 ``B``; NaN where no known person asks.
        """
        other, people = self.searches.other, self.searches.people
        order = np.argsort(-other, kind="stable")
        found = np.full(len(draws.weights), np.nan)
        known = people[self.known]
        right_level = np.where(self.searches.first, self.searches.own, -1)[self.known]
        for row, drawn in enumerate(draws.weights):
            weight = drawn[draws.units].astype(np.float64)
            asked = weight[people[order]]
            above = np.cumsum(asked)
            # The first search that would be one false alarm too many sets the threshold.
            place = int(np.searchsorted(above, far * above[-1] + 1e-9, side="right"))
            level = int(other[order[place]]) + 1 if place < len(order) else 0
            total = weight[known].sum()
            if total:
                found[row] = weight[known][right_level >= level].sum() / total
        return found

    def resampled_rates(self, level: int, draws: Draws) -> tuple[Floats, Floats]:
        """Return DIR and FAR at a threshold, people weighted anew: float64 ``B`` each."""
        right = self.searches.first & (self.searches.own >= level)
        answered = self.searches.other >= level
        people, asked = self.searches.people, np.ones(len(self.searches.people))
        counts = [
            np.bincount(people, kind, minlength=len(draws.units)).astype(np.int64)
            for kind in (right & self.known, self.known, answered, asked)
        ]
        right_, known, answered_, all_ = draws.summed(np.stack(counts, axis=1)).T
        with np.errstate(invalid="ignore"):
            return right_ / known, answered_ / all_
