"""Results of an evaluation: numbers, what they mean, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.labels import BoolArray, IntArray
from reid_retrieval.ranks import AP_DEFINITIONS, TIE_RULE

if TYPE_CHECKING:
    from reid_retrieval.features import FeatureSet

_MANY_TIES = 0.05
"""Share of queries from which on ties are mentioned: the order of files then makes the score."""


@dataclass(frozen=True)
class Provenance:
    """What a result is of, as far as the features themselves do not tell.

    Args:
        flip: how features of the mirrored images were added (``sum``, ``unit-sum``), or ``off``.
        fingerprint: of the data, `DataSet.fingerprint`.
        features: which vectors were compared: ``unit core/global``.
        data: name of the data set, where results of several stand side by side.
        batch_norm: ``camera`` where the network took the statistics of each camera's test images
            for its batch normalisation; empty where it computed features as it is.
    """

    flip: str = "off"
    fingerprint: str = ""
    features: str = ""
    data: str = ""
    batch_norm: str = ""


@dataclass(frozen=True)
class RankedHead:
    """The head of one query's ranking, and where its matches stand; junk is left out.

    Of a single-shot protocol the first gallery is ranked, of the mean over all such galleries the
    whole one.

    Args:
        gallery: int64 ``k``, rows of the gallery, the closest first.
        matches: bool ``k``, which of them show the query's identity.
        ranks: int64 ``P``, of all its matches, 1-based, ascending.
        matched: int64 ``P``, rows of those matches in the gallery.
    """

    gallery: IntArray
    matches: BoolArray
    ranks: IntArray
    matched: IntArray


@dataclass(frozen=True)
class QueryScores:
    """Scores of the ``V`` valid queries; means over the trials where there are several.

    Args:
        rows: int64 ``V``, rows of the query set, ascending.
        first_hit: float64 ``V``, rank of the first match, 1-based.
        average_precision, average_precision_trapezoid, inverse_negative_penalty: float64 ``V``.
        heads: of the rankings, one per query; empty where they were not asked for.
    """

    rows: IntArray
    first_hit: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    average_precision_trapezoid: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    heads: tuple[RankedHead, ...] = ()


@dataclass(frozen=True)
class Spread:
    """Population standard deviations over the trials of a single-shot protocol."""

    cmc: tuple[float, ...]
    mean_ap: float


@dataclass(frozen=True)
class RetrievalResult:
    """Scores under one protocol, with everything that is needed to compare them. Shares in 0 .. 1.

    Args:
        protocol: its name.
        protocol_text: its one-line description.
        ranks: the ranks to show.
        cmc: ``cmc[k - 1]`` is the share of queries with a match among the first ``k``.
        mean_ap: mean average precision; of a single-shot gallery it is the mean reciprocal rank,
            and is called MRR wherever it is shown.
        mean_ap_trapezoid: the same with the trapezoid rule (`AP_DEFINITIONS`).
        mean_inp: mean inverse negative penalty.
        valid_queries: queries with at least one match.
        total_queries, gallery_images: how many take part.
        tied_queries: valid queries that have a match exactly as close as another image.
        distance, reranking: how images were compared.
        products: which library multiplied the features; results that differ in it alone are equal.
        provenance: what the features are of.
        trials: number of single-shot galleries that were drawn.
        spread: over those trials; None where there are none.
        drawn: where single-shot galleries come from: ``seed`` (the protocol's), ``given``, or
            ``every``, the exact mean over all of them; None where the whole gallery was searched.
        denominator: what means are taken over: the ``valid`` queries or ``all``.
        per_query: scores of single queries, if they were asked for; not part of `to_json`.
    """

    protocol: str
    protocol_text: str
    ranks: tuple[int, ...]
    cmc: tuple[float, ...]
    mean_ap: float
    mean_ap_trapezoid: float
    mean_inp: float
    valid_queries: int
    total_queries: int
    gallery_images: int
    tied_queries: int
    distance: str
    reranking: str = "none"
    provenance: Provenance = field(default_factory=Provenance)
    trials: int = 0
    spread: Spread | None = None
    drawn: str | None = None
    denominator: str = "valid"
    per_query: QueryScores | None = None
    products: str = field(default="none", compare=False)

    @property
    def ap_name(self) -> str:
        """What the average precision is called: ``mAP``, or ``MRR`` of single-shot galleries."""
        return "MRR" if self.drawn else "mAP"

    @property
    def label(self) -> str:
        """The protocol's name, with ``+rerank`` where the ranking was changed.

        Where results of several data sets stand side by side, ``DATA/`` is in front.
        """
        data = f"{self.provenance.data}/" if self.provenance.data else ""
        return f"{data}{self.protocol}{'' if self.reranking == 'none' else '+rerank'}"

    @property
    def text(self) -> str:
        """The protocol and everything else that the numbers depend on, in one line."""
        galleries = "; galleries given" if self.drawn == "given" else ""
        return (
            f"{self.protocol_text}{galleries}; {self.comparison}; ties by {TIE_RULE}; "
            f"{self.valid_queries}/{self.total_queries} queries valid"
        )

    def metrics(self) -> dict[str, float]:
        """Return the numbers by name: ``mAP``, ``rank1``, ...; or ``MRR`` and ``..._std``."""
        found = {self.ap_name: self.mean_ap}
        if not self.drawn:
            found |= {"mAP_trapezoid": self.mean_ap_trapezoid, "mINP": self.mean_inp}
        found |= {f"rank{rank}": self.cmc[rank - 1] for rank in self.ranks}
        if self.spread is not None:
            found[f"{self.ap_name}_std"] = self.spread.mean_ap
            found |= {f"rank{rank}_std": self.spread.cmc[rank - 1] for rank in self.ranks}
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`: numbers, their definitions, what they are of."""
        definitions = {} if self.drawn else AP_DEFINITIONS
        beside = {"data": self.provenance.data, "batch_norm": self.provenance.batch_norm}
        return {
            **{name: value for name, value in beside.items() if value},
            "protocol": self.protocol,
            "text": self.text,
            "rules": self.protocol_text,
            "metrics": self.metrics(),
            "cmc": list(self.cmc),
            "definitions": definitions or {"MRR": "mean of 1 / rank of the only match"},
            "denominator": self.denominator,
            "valid_queries": self.valid_queries,
            "total_queries": self.total_queries,
            "gallery_images": self.gallery_images,
            "tied_queries": self.tied_queries,
            "ties": TIE_RULE,
            "distance": self.distance,
            "reranking": self.reranking,
            "products": self.products,
            "flip": self.provenance.flip,
            "features": self.provenance.features,
            "fingerprint": self.provenance.fingerprint,
            "trials": self.trials,
            "drawn": self.drawn,
        }

    @property
    def comparison(self) -> str:
        """How images were compared, in a few words."""
        of = f" of {self.provenance.features}" if self.provenance.features else ""
        norm = ", batch norm by each camera's test images" if self.provenance.batch_norm else ""
        reranking = f"re-ranking {self.reranking}"
        return f"{self.distance}{of}, flip {self.provenance.flip}{norm}, {reranking}"

    def summary(self) -> str:
        """Return the scores in one line, in per cent."""
        metrics = self.metrics()
        named = {self.ap_name: self.ap_name, "mAP_trapezoid": "mAP(trapezoid)", "mINP": "mINP"}
        named |= {f"rank{rank}": f"R{rank}" for rank in self.ranks}
        shown = [
            f"{name} {percent(metrics[key], metrics.get(f'{key}_std'))}"
            for key, name in named.items()
            if key in metrics
        ]
        trials = f", {self.trials} galleries" if self.trials else ""
        trials = ", all galleries" if self.drawn == "every" else trials
        ties = ""
        if self.tied_queries > _MANY_TIES * self.valid_queries:
            ties = f", ties in {self.tied_queries} queries"
        scale = (
            f"{self.valid_queries}/{self.total_queries} queries valid in {self.gallery_images} "
            f"images, means over {self.denominator}"
        )
        return f"{self.label}: {', '.join(shown)} ({scale}, {self.comparison}{trials}{ties})"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, and of what.

    Args:
        results: one per protocol, the data set's first one first; re-ranked ones after all others.
        query, gallery: features and labels.
        metrics: further numbers by name, of whoever evaluated.
        further: the same of other data sets that were evaluated with it.
    """

    results: tuple[RetrievalResult, ...]
    query: FeatureSet
    gallery: FeatureSet
    metrics: Mapping[str, float] = field(default_factory=dict)
    further: tuple[Evaluation, ...] = ()

    @property
    def every(self) -> tuple[Evaluation, ...]:
        """It and those of the other data sets."""
        return (self, *self.further)


def percent(share: float, deviation: float | None, between: str = " ") -> str:
    """Return a share in per cent, with its deviation where it has one: ``87.5 ±0.4``."""
    spread = "" if deviation is None else f"{between}±{100 * deviation:.1f}"
    return f"{100 * share:.1f}{spread}"
