"""Rates of people drawn anew: a bootstrap whose unit is the person, not the pair.

Pairs that share a person are not independent, so drawing pairs makes intervals far too narrow. Here
people are drawn with replacement; a pair of one person counts as often as the person was drawn, a
pair of two people as often as both together (the vertex bootstrap: Snijders and Borgatti 1999;
recommended for error rates of face matching by Fogliato et al., IJCV 2024). One pass over the
pairs serves all draws: the counts of every person against everybody are multiplied by the weights
as they arise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_search.calibration.counting import ScoreCounts
from reid_search.calibration.curves import Floats
from reid_search.calibration.groups import GroupCounts
from reid_search.calibration.intervals import Draws
from reid_search.calibration.pairs import COUNT, PairBlock, Pairs

_POINTS = 96
"""Thresholds that follow the FPR; a third as many more follow the TPR."""

_SINGLE = 64
"""Pairs of different people, from the most alike on, between which every threshold is watched."""


def watched_levels(counts: ScoreCounts, levels: list[int]) -> NDArray[np.int64]:
    """Return the thresholds at which drawn rates are computed, ascending.

    Args:
        counts: all pairs.
        levels: thresholds that must be among them.
    """
    reached = np.cumsum(counts.different[::-1])[::-1]
    wanted = np.concatenate([np.arange(_SINGLE), np.geomspace(1, reached[0], _POINTS)])
    # The lowest level that at most so many pairs reach; their numbers descend with the level.
    follow = np.searchsorted(-reached, -np.floor(wanted), side="left")
    found = np.cumsum(counts.same)
    tprs = np.linspace(0, 1, _POINTS // 3)
    more = np.searchsorted(found, tprs * found[-1], side="left")
    return np.unique(np.clip([*follow, *more, *levels, 0], 0, COUNT - 1))


@dataclass(frozen=True)
class DrawnRates:
    """Rates at some thresholds, for every draw.

    Args:
        levels: int64 ``T``, ascending.
        fpr, tpr: float64 ``B T + 1`` at the thresholds from the highest to the lowest, after 0.
    """

    levels: NDArray[np.int64]
    fpr: Floats
    tpr: Floats

    def at(self, level: int) -> tuple[Floats, Floats]:
        """Return FPR and TPR ``B`` at one of the thresholds."""
        place = len(self.levels) - int(np.searchsorted(self.levels, level))
        return self.fpr[:, place], self.tpr[:, place]

    def tpr_at(self, fpr: float, pairs: int) -> Floats:
        """Return the TPR ``B`` at an FPR.

        Args:
            fpr: at which the threshold is chosen, anew in every draw.
            pairs: of different people that there are. Where few of them may be taken for one
                person, every threshold that counts is watched; otherwise the straight line between
                two of them is closer.
        """
        if fpr * pairs > _SINGLE / 2:
            return np.array([np.interp(fpr, f, t) for f, t in zip(self.fpr, self.tpr, strict=True)])
        last = (self.fpr <= fpr + 1e-12).sum(axis=1) - 1
        return np.asarray(self.tpr[np.arange(len(self.tpr)), np.maximum(last, 0)])


def resample(
    pairs: Pairs,
    draws: Draws,
    levels: NDArray[np.int64],
    groups: GroupCounts | None = None,
    advance: Callable[[int], None] | None = None,
) -> DrawnRates:
    """Return the rates of people drawn anew, by one walk through the pairs.

    Args:
        pairs: those that a protocol counts.
        draws: of their people.
        levels: int64 ``T``, thresholds to watch, ascending, from 0 on; see `watched_levels`.
        groups: counts by camera and clothes, to be filled on the way; or None.
        advance: is told how many more queries are done.
    """
    bins, (count, units) = len(levels), draws.weights.shape
    bin_of = np.zeros(COUNT, np.int64)
    bin_of[levels] = 1
    bin_of = np.cumsum(bin_of) - 1
    different = np.zeros((count, bins))
    same = np.zeros((units, bins), np.int64)
    first = draws.units[pairs.gallery_people] * bins
    for block in pairs.blocks():
        coarse = bin_of[block.levels]
        for person, rows in _people_of(block, pairs):
            own = np.concatenate([coarse[row, block.same[row]] for row in rows])
            same[draws.units[person]] += np.bincount(own, minlength=bins)
            cells = (first + coarse[rows])[block.different[rows]]
            counts = np.bincount(cells, minlength=units * bins).reshape(units, bins)
            others = draws.weights @ counts.astype(np.float32)
            different += draws.weights[:, draws.units[person], None] * others
            if groups is not None:
                groups.add(block, person, rows)
        if advance:
            advance(len(block.queries))
    drawn = draws.weights.astype(np.float64) @ same
    return DrawnRates(levels, _cumulative(different), _cumulative(drawn))


def _people_of(block: PairBlock, pairs: Pairs) -> list[tuple[int, NDArray[np.int64]]]:
    """Return the people who ask in a block, and their rows in it."""
    asked = pairs.query_people[block.queries]
    known, starts = np.unique(asked, return_index=True)
    rows = np.split(np.arange(len(asked)), starts[1:])
    return [(int(person), own) for person, own in zip(known, rows, strict=True)]


def _cumulative(counts: Floats) -> Floats:
    """Return shares that reach each threshold, the highest first, after 0; NaN where none count."""
    reached = np.cumsum(counts[:, ::-1].astype(np.float64), axis=1)
    with np.errstate(invalid="ignore"):
        shares = reached / reached[:, -1:]
    return np.concatenate([np.zeros((len(shares), 1)), shares], axis=1)
