"""From a similarity to the probability that two pictures show one person.

That probability depends on how likely it was before looking: among a million crops hardly any pair
shows one person. So the mapping is fitted as if both kinds of pairs were equally frequent (a prior
of one half), and another prior is put in afterwards by Bayes' rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from reid_core import ConfigError, DataError
from reid_search.calibration.counting import ScoreCounts
from reid_search.calibration.curves import Floats
from reid_search.calibration.pairs import COUNT, LEVELS

METHODS = ("logistic", "isotonic")
"""Kinds of calibration."""

MOST_KNOTS = 512
"""Knots of a stored isotonic calibration, at most."""

SIMILARITIES = (np.arange(COUNT) - LEVELS) / LEVELS
"""Least similarity of every level."""


@dataclass(frozen=True)
class Calibration:
    """A mapping from similarity to probability, as it is stored with an embedder.

    Args:
        method: ``logistic`` or ``isotonic``.
        slope, offset: of the logistic one: ``logit p = slope * similarity + offset``.
        knots, values: of the isotonic one: similarities, ascending, and the probability at each;
            straight lines between.
    """

    method: str
    slope: float = 0.0
    offset: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def probability(self, similarity: ArrayLike, prior: float = 0.5) -> Floats:
        """Return the probability that pictures of these similarities show one person.

        Args:
            similarity: cosines, any shape.
            prior: share of pairs that show one person, where nothing is known of them yet.

        Raises:
            ConfigError: the prior is not between 0 and 1.

        Example:
            >>> fitted = Calibration("logistic", slope=10.0, offset=-5.0)
            >>> fitted.probability([0.5, 0.7]).round(3).tolist()
            [0.5, 0.881]
            >>> fitted.probability([0.5, 0.7], prior=0.01).round(3).tolist()
            [0.01, 0.069]
        """
        if not 0 < prior < 1:
            raise ConfigError(f"a prior lies between 0 and 1, not at {prior}")
        given = np.asarray(similarity, np.float64)
        if self.method == "logistic":
            odds = self.slope * given + self.offset
        else:
            odds = logit(np.interp(given, self.knots, self.values))
        return np.asarray(expit(odds + logit(prior)))

    def to_json(self) -> dict[str, Any]:
        """Return plain data, read by `from_json`."""
        if self.method == "logistic":
            return {"method": self.method, "slope": self.slope, "offset": self.offset}
        return {"method": self.method, "knots": list(self.knots), "values": list(self.values)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Return the calibration that plain data describes.

        Raises:
            ConfigError: it describes none.
        """
        try:
            if content["method"] == "logistic":
                return cls("logistic", float(content["slope"]), float(content["offset"]))
            if content["method"] == "isotonic":
                knots, values = (tuple(map(float, content[k])) for k in ("knots", "values"))
                if knots and len(knots) == len(values) and min(values) > 0 and max(values) < 1:
                    return cls("isotonic", knots=knots, values=values)
        except (KeyError, TypeError, ValueError):
            pass
        raise ConfigError("the stored calibration cannot be read; calibrate again")


def fit(counts: ScoreCounts, method: str) -> Calibration:
    """Fit a calibration to counted pairs, both kinds weighing the same.

    Args:
        counts: pairs of one person and of different people, some of each.
        method: one of `METHODS`.

    Raises:
        DataError: pairs of one person are not more alike than those of different people.
        ConfigError: there is no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no calibration '{method}'; there are {', '.join(METHODS)}")
    there = np.flatnonzero(counts.same + counts.different)
    means = [np.average(SIMILARITIES[there], weights=c[there]) for c in _both(counts)]
    if means[0] <= means[1]:
        raise DataError(
            f"pictures of one person are no more alike (mean similarity {means[0]:.3f}) than those "
            f"of different people ({means[1]:.3f}): the embedder cannot tell the people of this "
            "data apart, so there is nothing to calibrate; train it, or look at the labels"
        )
    return _logistic(counts, there) if method == "logistic" else _isotonic(counts, there)


def _both(counts: ScoreCounts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return counts.same, counts.different


def _logistic(counts: ScoreCounts, there: NDArray[np.int64]) -> Calibration:
    """Fit Platt's logistic; his targets keep it finite where the two kinds do not overlap."""
    from sklearn.linear_model import LogisticRegression

    similarity = SIMILARITIES[there]
    centre, scale = similarity.mean(), max(float(similarity.std()), 1e-12)
    weights = []
    for one, other in (_both(counts), _both(counts)[::-1]):
        right, wrong = (one.sum() + 1) / (one.sum() + 2), 1 / (other.sum() + 2)
        weights.append(right * one[there] / one.sum() + wrong * other[there] / other.sum())
    # One sample per level and kind, weighing as much as its pairs.
    model = LogisticRegression(C=1e9, tol=1e-8, max_iter=1000)
    model.fit(
        np.tile((similarity - centre) / scale, 2)[:, None],
        np.repeat([1, 0], len(there)),
        # The size of the problem decides what the solver's tolerance means.
        sample_weight=np.concatenate(weights) * 1000,
    )
    slope = float(model.coef_[0, 0]) / scale
    return Calibration("logistic", slope, float(model.intercept_[0]) - slope * centre)


def _isotonic(counts: ScoreCounts, there: NDArray[np.int64]) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    # Neighbouring levels together, so that what is stored stays small.
    group = np.arange(len(there)) * (MOST_KNOTS // 2) // len(there)
    if len(there) < MOST_KNOTS // 2:
        group = np.arange(len(there))
    same, different = (np.bincount(group, c[there] / c.sum()) for c in _both(counts))
    mass = same + different
    pairs = (counts.same + counts.different)[there]
    similarity = np.bincount(group, SIMILARITIES[there] * pairs) / np.bincount(group, pairs)
    # No number of pairs makes anything certain.
    least, most = 1 / (counts.pairs[1] + 2), 1 - 1 / (counts.pairs[0] + 2)
    model = IsotonicRegression(y_min=least, y_max=most)
    model.fit(similarity, same / mass, sample_weight=mass)
    knots, values = model.X_thresholds_, model.y_thresholds_
    return Calibration("isotonic", knots=tuple(knots.tolist()), values=tuple(values.tolist()))


@dataclass(frozen=True)
class Reliability:
    """How predicted probabilities agree with what is true, at a prior of one half.

    Args:
        name: whose predictions.
        predicted, observed: mean prediction and share of pairs of one person, of every bin that
            holds pairs.
        share: of all pairs, by bin; they sum to 1.
        brier: mean squared error of the predictions.
    """

    name: str
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    share: tuple[float, ...]
    brier: float

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean distance of predicted and observed, by share."""
        gaps = np.abs(np.subtract(self.predicted, self.observed))
        return float(np.dot(self.share, gaps))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "expected_calibration_error": self.expected_error,
            "brier": self.brier,
            "predicted": list(self.predicted),
            "observed": list(self.observed),
            "share": list(self.share),
        }


def reliability(
    name: str,
    parts: Sequence[tuple[ScoreCounts, Callable[[Floats], Floats]]],
    bins: int = 15,
) -> Reliability:
    """Compare predictions with the truth.

    Args:
        name: whose predictions.
        parts: counted pairs, and what predicts probabilities of their similarities; of several
            parts each weighs the same, and so do both kinds of pairs in each.
        bins: of equal width over the probabilities.
    """
    sums = np.zeros((3, bins))
    brier = 0.0
    for counts, predict in parts:
        there = np.flatnonzero(counts.same + counts.different)
        predicted = predict(SIMILARITIES[there])
        same, different = (c[there] / (2 * c.sum() * len(parts)) for c in _both(counts))
        place = np.minimum((predicted * bins).astype(np.int64), bins - 1)
        mass = same + different
        for row, values in enumerate((mass, mass * predicted, same)):
            sums[row] += np.bincount(place, values, minlength=bins)
        brier += float(same @ (1 - predicted) ** 2 + different @ predicted**2)
    mass, predicted, same = sums[:, sums[0] > 0]
    return Reliability(
        name,
        tuple((predicted / mass).tolist()),
        tuple((same / mass).tolist()),
        tuple((mass / mass.sum()).tolist()),
        brier,
    )


def cross_reliability(halves: tuple[ScoreCounts, ScoreCounts], method: str) -> Reliability | None:
    """Fit on one half of the people and compare on the other, both ways.

    Args:
        halves: pairs within either half.
        method: one of `METHODS`, or ``similarity``: ``(1 + similarity) / 2`` taken for a
            probability, which is what is done without calibration.

    Returns:
        None where a half has not both kinds of pairs, or cannot be fitted.
    """
    if any(0 in half.pairs for half in halves):
        return None
    if method == "similarity":
        return reliability(method, [(half, lambda s: (1 + s) / 2) for half in halves])
    try:
        fitted = [fit(half, method) for half in halves]
    except DataError:
        return None
    return reliability(
        method, [(halves[1], fitted[0].probability), (halves[0], fitted[1].probability)]
    )
