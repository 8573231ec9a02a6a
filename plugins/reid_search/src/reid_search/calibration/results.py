"""What a calibration finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reid_search.calibration.counting import ScoreCounts
from reid_search.calibration.curves import Roc, plain
from reid_search.calibration.groups import GroupRates
from reid_search.calibration.intervals import Interval
from reid_search.calibration.probability import Calibration, Reliability


@dataclass(frozen=True)
class RateAt:
    """A rate at the threshold that another rate chooses.

    Args:
        target: the chosen rate (FPR, FAR).
        threshold: the similarity at which it is met; above 1 where none meets it.
        rate: the other rate (TPR, DIR); None where there are too few pairs or searches.
    """

    target: float
    threshold: float | None
    rate: Interval | None

    def to_json(self, target: str, rate: str) -> dict[str, Any]:
        """Return plain data; ``target`` and ``rate`` name the rates."""
        found = self.rate.to_json() if self.rate else None
        return {target: self.target, "threshold": self.threshold, rate: found}


@dataclass(frozen=True)
class ChosenThreshold:
    """The operating point.

    Args:
        text: what it was chosen by, ``fpr=0.001``.
        threshold: the least similarity at which two pictures are taken for one person.
        fpr, tpr: of pairs, there.
        dir, far: of searches, there.
        false_pairs: pairs of different people that reach it.
    """

    text: str
    threshold: float
    fpr: Interval
    tpr: Interval
    dir: Interval
    far: Interval
    false_pairs: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        rates = {name: getattr(self, name).to_json() for name in ("fpr", "tpr", "dir", "far")}
        return {
            "operating_point": self.text,
            "threshold": self.threshold,
            **rates,
            "false_pairs": self.false_pairs,
        }


@dataclass(frozen=True)
class CalibrationResult:
    """Everything that `calibrate` finds.

    Args:
        protocol: its one-line description.
        counts: pairs by similarity, for histograms.
        roc: of these pairs.
        people, compared_people: how many there are, and of how many pairs of pictures count.
        queries, gallery, unknown_queries: images, and queries whose person is not in the gallery.
        auc, eer: area under the curve and equal error rate.
        tpr_at_fpr: TPR at every FPR of `FPRS`.
        dir_at_far: DIR at every FAR of `FARS`.
        chosen: the operating point.
        cameras, clothes: rates there, by group.
        calibration: fitted to all pairs.
        reliability: of predictions for people that they were not fitted to, by name.
        confidence, draws: of the intervals.
    """

    protocol: str
    counts: ScoreCounts
    roc: Roc
    people: int
    compared_people: int
    queries: int
    gallery: int
    unknown_queries: int
    auc: Interval
    eer: Interval
    tpr_at_fpr: tuple[RateAt, ...]
    dir_at_far: tuple[RateAt, ...]
    chosen: ChosenThreshold
    cameras: tuple[GroupRates, ...]
    clothes: tuple[GroupRates, ...]
    calibration: Calibration
    reliability: tuple[Reliability, ...]
    confidence: float
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, the curve at 400 points."""
        same, different = self.counts.pairs
        edges, same_bins, different_bins = self.counts.histogram()
        return {
            "protocol": self.protocol,
            "similarity": "cosine",
            "people": self.people,
            "people_with_pairs": self.compared_people,
            "queries": self.queries,
            "gallery_images": self.gallery,
            "unknown_queries": self.unknown_queries,
            "same_pairs": same,
            "different_pairs": different,
            "intervals": {"confidence": self.confidence, "draws": self.draws, "unit": "person"},
            "auc": self.auc.to_json(),
            "eer": self.eer.to_json(),
            "tpr_at_fpr": [one.to_json("fpr", "tpr") for one in self.tpr_at_fpr],
            "dir_at_far": [one.to_json("far", "dir") for one in self.dir_at_far],
            "chosen": self.chosen.to_json(),
            "cameras": [one.to_json() for one in self.cameras],
            "clothes": [one.to_json() for one in self.clothes],
            "calibration": {"prior": 0.5, **self.calibration.to_json()},
            "reliability": {one.name: one.to_json() for one in self.reliability},
            "roc": plain(self.roc.thinned()),
            "histogram": {
                "edges": edges.tolist(),
                "same": same_bins.tolist(),
                "different": different_bins.tolist(),
            },
        }

    def stored(self) -> dict[str, Any]:
        """Return what is kept with the embedder: threshold, mapping, and what they rest on."""
        same, different = self.counts.pairs
        return {
            "threshold": self.chosen.threshold,
            "operating_point": self.chosen.text,
            "similarity": "cosine",
            "fpr": self.chosen.fpr.value,
            "tpr": self.chosen.tpr.value,
            "far": self.chosen.far.value,
            "gallery_images": self.gallery,
            "probability": {"prior": 0.5, **self.calibration.to_json()},
            "protocol": self.protocol,
            "people": self.compared_people,
            "same_pairs": same,
            "different_pairs": different,
        }
