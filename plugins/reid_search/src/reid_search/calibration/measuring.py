"""The whole calibration: count, choose, draw people anew, fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from reid_core import ConfigError
from reid_core.errors import own_errors
from reid_retrieval import Labels, Protocol, find_protocol
from reid_retrieval.features import FeatureSet
from reid_search.calibration.counting import Counted, count_pairs
from reid_search.calibration.curves import (
    FPRS,
    OperatingPoint,
    Roc,
    area_under,
    equal_error_rate,
)
from reid_search.calibration.groups import GroupCounts
from reid_search.calibration.intervals import Draws, Interval
from reid_search.calibration.open_set import FARS, OpenSet
from reid_search.calibration.pairs import Pairs, similarity_of
from reid_search.calibration.probability import METHODS, cross_reliability, fit
from reid_search.calibration.resampling import DrawnRates, resample, watched_levels
from reid_search.calibration.results import CalibrationResult, ChosenThreshold, RateAt

if TYPE_CHECKING:
    from reid_retrieval.features import FeatureArray
    from reid_retrieval.public import LabelSource


@own_errors()
def calibrate(
    query: FeatureArray,
    gallery: FeatureArray,
    query_labels: LabelSource,
    gallery_labels: LabelSource,
    protocol: Protocol | str = "standard",
    *,
    operating_point: str = "fpr=1e-3",
    method: str = "logistic",
    confidence: float = 0.95,
    draws: int = 500,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> CalibrationResult:
    """Measure how well similarities tell people apart, and choose a threshold.

    The people must be others than those that the features were trained on: trained people are more
    alike to themselves than strangers will be. Pairs are compared by the cosine, twice, a block at
    a time; memory grows with the images and the people, not with the pairs.

    Args:
        query, gallery: features ``Q D`` and ``G D``, arrays or tensors.
        query_labels, gallery_labels: as `reid_retrieval.evaluate` takes them.
        protocol: which pairs count, by name or as a `Protocol`.
        operating_point: what the threshold is chosen by, see `OperatingPoint`.
        method: ``logistic`` or ``isotonic``, how similarities become probabilities.
        confidence: of the intervals, in (0, 1).
        draws: how often people are drawn anew for them.
        seed: of the draws, and of the halves in which calibrations are compared.
        advance: is told how many more queries are done, of ``2 Q``.

    Raises:
        DataError: features or labels that do not fit, no pair of one person or none of different
            people, or people who are not told apart at all.
        ConfigError: an operating point that the data cannot tell, or a setting out of range.
    """
    point = OperatingPoint.parse(operating_point)
    if method not in METHODS:
        raise ConfigError(f"there is no calibration '{method}'; there are {', '.join(METHODS)}")
    if not 0 < confidence < 1 or draws < 1:
        raise ConfigError(
            f"intervals need a confidence between 0 and 1 and draws, not {confidence} and {draws}"
        )
    rule = protocol if isinstance(protocol, Protocol) else find_protocol(protocol)
    pairs = Pairs(
        FeatureSet(query, Labels.of(query_labels)),
        FeatureSet(gallery, Labels.of(gallery_labels)),
        rule,
    )
    counted = count_pairs(pairs, seed, advance)
    calibration = fit(counted.all, method)
    roc = Roc.of(counted.all)
    level = point.choose(roc, counted.searches, counted.all)
    people = Draws.of(pairs.count, draws, seed)
    groups = GroupCounts(pairs, people, level)
    drawn = resample(pairs, people, watched_levels(counted.all, [level]), groups, advance)
    known = counted.people_with_pairs
    compared = [cross_reliability(counted.halves, name) for name in ("similarity", *METHODS)]
    return CalibrationResult(
        protocol=rule.text,
        counts=counted.all,
        roc=roc,
        people=pairs.count,
        compared_people=known,
        queries=pairs.shape[0],
        gallery=pairs.shape[1],
        unknown_queries=int(counted.searches.absent.sum()),
        auc=Interval.of(
            float(area_under(roc.fpr, roc.tpr)),
            area_under(drawn.fpr, drawn.tpr),
            confidence,
            known,
        ),
        eer=Interval.of(
            float(equal_error_rate(roc.fpr, roc.tpr)),
            equal_error_rate(drawn.fpr, drawn.tpr),
            confidence,
            known,
        ),
        tpr_at_fpr=_rates_of_pairs(roc, counted, drawn, confidence),
        dir_at_far=_rates_of_searches(counted, people, confidence),
        chosen=_chosen(point, level, roc, counted, drawn, people, confidence),
        cameras=tuple(groups.camera_rates(confidence)),
        clothes=tuple(groups.clothes_rates(confidence)),
        calibration=calibration,
        reliability=tuple(one for one in compared if one is not None),
        confidence=confidence,
        draws=draws,
    )


def _rates_of_pairs(
    roc: Roc, counted: Counted, drawn: DrawnRates, confidence: float
) -> tuple[RateAt, ...]:
    """Return the TPR at every FPR that as many pairs of different people can tell."""
    people = counted.people_with_pairs
    found = []
    for fpr in FPRS:
        if fpr * counted.all.pairs[1] < 1:
            found.append(RateAt(fpr, None, None))
            continue
        place = roc.place_of_fpr(fpr)
        rates = drawn.tpr_at(fpr, counted.all.pairs[1])
        found.append(
            RateAt(
                fpr,
                similarity_of(int(roc.levels[place])),
                Interval.of(float(roc.tpr[place]), rates, confidence, people),
            )
        )
    return tuple(found)


def _rates_of_searches(counted: Counted, people: Draws, confidence: float) -> tuple[RateAt, ...]:
    """Return the DIR at every FAR that as many searches can tell."""
    open_set = OpenSet(counted.searches)
    known = counted.people_with_pairs
    found = []
    for far in FARS:
        level = open_set.level_at(far)
        if level is None:
            found.append(RateAt(far, None, None))
            continue
        rates = open_set.resampled_at(far, people)
        rate = Interval.of(open_set.dir_at(level), rates, confidence, known)
        found.append(RateAt(far, similarity_of(level), rate))
    return tuple(found)


def _chosen(
    point: OperatingPoint,
    level: int,
    roc: Roc,
    counted: Counted,
    drawn: DrawnRates,
    people: Draws,
    confidence: float,
) -> ChosenThreshold:
    open_set = OpenSet(counted.searches)
    values = (*roc.rates_at(level), open_set.dir_at(level), open_set.far_at(level))
    rates = (*drawn.at(level), *open_set.resampled_rates(level, people))
    asking = len(np.unique(counted.searches.people))
    known = counted.people_with_pairs
    fpr, tpr, dir_, far = (
        Interval.of(value, rate, confidence, count)
        for value, rate, count in zip(values, rates, (asking, known, known, asking), strict=True)
    )
    false = int(np.asarray(counted.all.different[level:]).sum())
    return ChosenThreshold(point.text, similarity_of(level), fpr, tpr, dir_, far, false)
