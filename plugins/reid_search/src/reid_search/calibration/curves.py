"""ROC, equal error rate and operating points of counted similarities.

Two pictures are taken for one person where their similarity reaches a threshold. The false positive
rate (FPR; false match rate in biometrics) is the share of pairs of different people that do, the
true positive rate (TPR) that of pairs of one person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from reid_core import ConfigError
from reid_search.calibration.counting import ScoreCounts, Searches
from reid_search.calibration.pairs import COUNT, level_of, similarity_of

Floats = NDArray[np.float64]

FPRS = (1e-1, 1e-2, 1e-3, 1e-4)
"""False positive rates at which the true positive rate is reported."""


@dataclass(frozen=True)
class Roc:
    """Rates at every threshold at which one of them changes.

    Args:
        levels: int64 ``T``, thresholds as levels, descending; the first is above all similarities.
        fpr, tpr: float64 ``T``, ascending from 0 to 1.
    """

    levels: NDArray[np.int64]
    fpr: Floats
    tpr: Floats

    @classmethod
    def of(cls, counts: ScoreCounts) -> Roc:
        """Return the curve of counted pairs; there must be some of both kinds."""
        there = np.flatnonzero(counts.same + counts.different)[::-1]
        same, different = (
            np.concatenate([[0.0], np.cumsum(c[there])]) for c in (counts.same, counts.different)
        )
        return cls(
            np.concatenate([[there[0] + 1], there]), different / different[-1], same / same[-1]
        )

    @property
    def thresholds(self) -> Floats:
        """The thresholds as similarities; the first may lie above 1."""
        return np.array([similarity_of(int(level)) for level in self.levels])

    def place_of_fpr(self, fpr: float) -> int:
        """Return the place of the lowest threshold at which the FPR is at most ``fpr``."""
        return int(np.searchsorted(self.fpr, fpr, side="right")) - 1

    def place_of_tpr(self, tpr: float) -> int:
        """Return the place of the highest threshold at which the TPR is at least ``tpr``."""
        return int(np.searchsorted(self.tpr, tpr, side="left"))

    def place_of_eer(self) -> int:
        """Return the place where FPR and FNR are closest; of equals, the highest threshold."""
        return int(np.abs(self.fpr - (1 - self.tpr)).argmin())

    def rates_at(self, level: int) -> tuple[float, float]:
        """Return FPR and TPR at a threshold, given as a level."""
        place = int(np.searchsorted(-self.levels, -level, side="right")) - 1
        return float(self.fpr[max(place, 0)]), float(self.tpr[max(place, 0)])

    def thinned(self, points: int = 400) -> Roc:
        """Return the curve at some of its points, as many at low as at high FPR."""
        if len(self.levels) <= points:
            return self
        wanted = np.concatenate(
            [np.geomspace(max(self.fpr[self.fpr > 0].min(), 1e-9), 1, points // 2), [0.0]]
        )
        places = np.searchsorted(self.fpr, wanted, side="right") - 1
        more = np.searchsorted(self.tpr, np.linspace(0, 1, points - len(wanted)), side="left")
        kept = np.unique(np.concatenate([places, more]))
        return Roc(self.levels[kept], self.fpr[kept], self.tpr[kept])


def area_under(fpr: Floats, tpr: Floats) -> Floats:
    """Return the area under curves ``... T``, ties counted half (the trapezoid rule)."""
    return np.asarray(trapezoid(tpr, fpr, axis=-1))


def equal_error_rate(fpr: Floats, tpr: Floats) -> Floats:
    """Return where the false positive and the false negative rate meet, of curves ``... T``.

    Between two points of a curve, the straight line is taken.
    """
    gap = fpr - (1 - tpr)  # ascending, from -1 to 1
    after = np.argmax(gap >= 0, axis=-1)[..., None]
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(gap, at, -1) for at in (before, after))
    step = np.divide(-low, high - low, out=np.zeros_like(low), where=high > low)
    left, right = (np.take_along_axis(fpr, at, -1) for at in (before, after))
    return np.asarray((left + step * (right - left))[..., 0])


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold is chosen by.

    Args:
        kind: ``fpr``, ``tpr``, ``far``, ``eer`` or ``similarity``.
        value: the rate or the similarity; 0 for ``eer``.
    """

    kind: str
    value: float

    @property
    def text(self) -> str:
        """As it is written on the command line."""
        return self.kind if self.kind == "eer" else f"{self.kind}={self.value:g}"

    @classmethod
    def parse(cls, text: str) -> OperatingPoint:
        """Read ``fpr=1e-3``, ``tpr=0.95``, ``far=0.01``, ``eer`` or ``similarity=0.6``.

        Raises:
            ConfigError: it is none of these, or a value out of range.
        """
        kind, equals, written = text.strip().partition("=")
        if kind == "eer" and not equals:
            return cls("eer", 0.0)
        try:
            value = float(written)
        except ValueError:
            value = np.nan
        least = -1 if kind == "similarity" else 0
        if kind not in ("fpr", "tpr", "far", "similarity") or not (least < value < 1):
            raise ConfigError(
                f"--operating-point {text}: expected fpr=RATE or tpr=RATE (of pairs), far=RATE (of "
                "searches for people who are not in the gallery), each between 0 and 1, "
                "similarity=VALUE between -1 and 1, or eer"
            )
        return cls(kind, value)

    def choose(self, roc: Roc, searches: Searches, counts: ScoreCounts) -> int:
        """Return the threshold as a level.

        Raises:
            ConfigError: the data cannot tell such a rate, or no threshold has it.
        """
        if self.kind == "similarity":
            level = int(level_of(np.array([self.value]))[0])
            # The least level that a similarity has to reach, not the one below it.
            return level if similarity_of(level) >= self.value else level + 1
        if self.kind == "eer":
            level = int(roc.levels[roc.place_of_eer()])
        elif self.kind == "tpr":
            level = int(roc.levels[roc.place_of_tpr(self.value)])
        elif self.kind == "far":
            self._require("searches", len(searches.people))
            level = false_alarm_level(searches.other, self.value)
        else:
            self._require("pairs of different people", counts.pairs[1])
            level = int(roc.levels[roc.place_of_fpr(self.value)])
        if level >= COUNT:
            raise ConfigError(
                f"--operating-point {self.text}: no threshold has this rate, for more pairs of "
                "different people than that have the highest similarity there is; look for images "
                "that are the same file or have no content, or take a higher rate"
            )
        return level

    def _require(self, what: str, there: int) -> None:
        if there * self.value < 1:
            raise ConfigError(
                f"--operating-point {self.text}: {there} {what} cannot tell a rate below "
                f"{1 / there:.2g}; take a higher rate or more data"
            )


def false_alarm_level(other: NDArray[np.int64], far: float) -> int:
    """Return the lowest level that at most a share ``far`` of searches' best strangers reach.

    Args:
        other: int64 ``Q``, level of the best image of anybody else; -1 where there is none.
        far: the share.
    """
    allowed = int(np.floor(far * len(other) + 1e-9))
    best = np.sort(other)[::-1]
    return int(best[allowed]) + 1 if allowed < len(best) else 0


def plain(roc: Roc) -> dict[str, Any]:
    """Return a curve as plain data for JSON."""
    return {
        "threshold": roc.thresholds.tolist(),
        "fpr": roc.fpr.tolist(),
        "tpr": roc.tpr.tolist(),
    }
