"""Rates at the chosen threshold by pair of cameras, and by whether clothes are the same.

A threshold is one for all, and the rates behind it are not: two cameras may see alike, or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_search.calibration.curves import Floats
from reid_search.calibration.intervals import Draws, Interval
from reid_search.calibration.pairs import PairBlock, Pairs

MOST_CAMERAS = 40
"""Cameras up to which every pair of them has its row."""


@dataclass(frozen=True)
class GroupRates:
    """Rates of one group of pairs at the chosen threshold.

    Args:
        name: ``cameras 0, 3``, ``camera 0``, ``same clothes``.
        same, different: how many pairs; None where the group has no pairs of that kind by nature.
        tpr, fpr: of these; None where there are none.
    """

    name: str
    same: int
    different: int | None
    tpr: Interval | None
    fpr: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "same_pairs": self.same,
            "different_pairs": self.different,
            "tpr": self.tpr.to_json() if self.tpr else None,
            "fpr": self.fpr.to_json() if self.fpr else None,
        }


class GroupCounts:
    """Count pairs by group, in the pass that `Resampling` makes.

    Args:
        pairs: those that a protocol counts.
        draws: of their people.
        level: the chosen threshold.
    """

    def __init__(self, pairs: Pairs, draws: Draws, level: int) -> None:
        self._pairs, self._draws, self._level = pairs, draws, level
        asked, offered = pairs.cameras or (np.empty(0, np.int64), np.empty(0, np.int64))
        self.cameras = np.unique(np.concatenate([asked, offered]))
        self.by_camera = 1 < len(self.cameras) <= MOST_CAMERAS
        self._asked, self._offered = (np.searchsorted(self.cameras, c) for c in (asked, offered))
        many = len(self.cameras) if self.by_camera else 0
        # The last axis: all pairs, and those that reach the threshold.
        self._same = np.zeros((pairs.count, many, many, 2), np.int64)
        self._clothes = np.zeros((pairs.count, 2, 2), np.int64)
        self._different = np.zeros((many, many, 2), np.int64)
        self._drawn = np.zeros((len(draws.weights), many, many, 2))

    def add(self, block: PairBlock, person: int, rows: NDArray[np.int64]) -> None:
        """Count the pairs of a person's queries.

        Args:
            block: pairs of some queries.
            person: who asks.
            rows: of that person in the block.
        """
        outfits, worn = self._pairs.clothes
        for row in rows.tolist():
            query, own = block.queries[row], block.same[row]
            reached = block.levels[row, own] >= self._level
            known = (outfits[query] >= 0) & (worn[own] >= 0)
            other = (worn[own] != outfits[query]).astype(np.int64)
            for place, chosen in ((0, known), (1, known & reached)):
                self._clothes[person, :, place] += np.bincount(other[chosen], minlength=2)
            if self.by_camera:
                seen, camera = self._offered[own], self._asked[query]
                many = len(self.cameras)
                self._same[person, camera, :, 0] += np.bincount(seen, minlength=many)
                self._same[person, camera, :, 1] += np.bincount(seen[reached], minlength=many)
        if self.by_camera:
            self._add_different(block, person, rows)

    def _add_different(self, block: PairBlock, person: int, rows: NDArray[np.int64]) -> None:
        units, weights = self._draws.units, self._draws.weights
        many, count = len(self.cameras), weights.shape[1]
        cells = units[self._pairs.gallery_people] * many + self._offered
        own = weights[:, units[person]]
        cameras = self._asked[block.queries[rows]]
        for camera in np.unique(cameras).tolist():
            chosen = rows[cameras == camera]
            mask = block.different[chosen]
            for place, counted in ((0, mask), (1, mask & (block.levels[chosen] >= self._level))):
                by_image = counted.sum(axis=0)
                by_cell = np.bincount(cells, by_image, minlength=count * many).reshape(count, many)
                self._different[camera, :, place] += by_cell.sum(axis=0).astype(np.int64)
                drawn = weights @ by_cell.astype(np.float32)
                self._drawn[:, camera, :, place] += own[:, None] * drawn

    def camera_rates(self, confidence: float) -> list[GroupRates]:
        """Return the rates of every pair of cameras that has pairs of images."""
        if not self.by_camera:
            return []
        drawn_same = self._draws.summed(self._same)
        found = []
        for first in range(len(self.cameras)):
            for second in range(first, len(self.cameras)):
                same = _both_ways(self._same.sum(0), first, second)
                different = _both_ways(self._different, first, second)
                if not same[0] and not different[0]:
                    continue
                a, b = self.cameras[first], self.cameras[second]
                name = f"camera {a}" if a == b else f"cameras {a}, {b}"
                known = int((_both_ways(self._same, first, second)[:, 0] > 0).sum())
                tpr = _rate(same, _both_ways(drawn_same, first, second), confidence, known)
                drawn = _both_ways(self._drawn, first, second)
                fpr = _rate(different, drawn, confidence, self._askers(first, second))
                found.append(GroupRates(name, int(same[0]), int(different[0]), tpr, fpr))
        return found

    def _askers(self, first: int, second: int) -> int:
        """Return how many people ask before one of two cameras."""
        return len(np.unique(self._pairs.query_people[np.isin(self._asked, (first, second))]))

    def clothes_rates(self, confidence: float) -> list[GroupRates]:
        """Return the TPR of pairs in the same and in other clothes, where outfits are known."""
        drawn = self._draws.summed(self._clothes)
        total = self._clothes.sum(0)
        return [
            GroupRates(
                name,
                int(total[place, 0]),
                None,
                _rate(
                    total[place],
                    drawn[:, place],
                    confidence,
                    int((self._clothes[:, place, 0] > 0).sum()),
                ),
                None,
            )
            for place, name in enumerate(("same clothes", "other clothes"))
            if total[place, 0]
        ]


def _both_ways(counts: NDArray[Any], first: int, second: int) -> NDArray[Any]:
    """Return counts ``... C C 2`` of two cameras, whichever of them asks: ``... 2``."""
    one = counts[..., first, second, :]
    return one if first == second else np.asarray(one + counts[..., second, first, :])


def _rate(
    counts: NDArray[np.int64], drawn: Floats, confidence: float, people: int
) -> Interval | None:
    """Return the share of pairs that reach the threshold.

    Args:
        counts: ``2``, all pairs and those that reach it.
        drawn: ``B 2``, the same of every draw.
        confidence: of the interval.
        people: whose pairs these are.
    """
    if not counts[0]:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        value, drawn = float(counts[1] / counts[0]), drawn[:, 1] / drawn[:, 0]
        return Interval.of(value, drawn, confidence, people)
