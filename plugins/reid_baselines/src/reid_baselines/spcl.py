"""SpCL (Ge et al., NeurIPS 2020): a memory of all images, and clusters that earn their trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reid_baselines.cluster_memory import HybridMemory
from reid_baselines.clusters import ClusterSettings, check_batches, too_few
from reid_core import FieldKind, FieldSpec, Labeler, Plugin, hookimpl
from reid_retrieval import jaccard
from reid_retrieval.clustering import count_of, dbscan, with_singletons

if TYPE_CHECKING:
    from reid_core import (
        Embedding,
        IdentityCriterion,
        LabelContext,
        LossTerm,
        RunConfig,
        RunContext,
        StepView,
    )


class SpclSettings(ClusterSettings):
    """Settings of SpCL; the defaults are the published ones."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    """Divides the similarities (tau)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of an image's memory that stays when it moves (m)."""
    eps_gap: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """How much looser and tighter the clusters are by which the reliability is judged."""
    independent: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the first epoch's clusters that count as independent; they set the threshold."""


class Spcl(Plugin):
    """Take reliable clusters and single images for identities, and contrast with all of them."""

    Settings = SpclSettings
    takes_frames = True
    claims = ("labels:pid", "identity")
    defaults: Mapping[str, Any] = {"data.sampler": "pk"}

    def __init__(self, name: str, settings: SpclSettings | None = None) -> None:
        super().__init__(name, settings)
        self.threshold: float | None = None
        """The least independence of a reliable cluster (alpha), set in the first epoch."""

    def check(self, config: RunConfig) -> None:
        """Refuse batches that clusters cannot fill."""
        check_batches(config, self.name)

    def checkpoint_state(self) -> Mapping[str, Any]:
        """Keep the threshold."""
        return {} if self.threshold is None else {"threshold": self.threshold}

    def load_checkpoint_state(self, state: Mapping[str, Any]) -> None:
        """Take over the threshold."""
        self.threshold = state.get("threshold")

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> Sequence[Labeler]:
        """Offer identities at every epoch's start."""
        return [Labeler(FieldSpec("pid", FieldKind.SCALAR), self._cluster, when="epoch")]

    def _cluster(self, labels: LabelContext) -> NDArray[np.int64]:
        settings, data = self.settings, labels.run.config.data
        eps, gap = settings.eps, settings.eps_gap
        distances = jaccard(
            labels.features(), settings.k1, settings.k2, at_most=min(eps + gap, 1.0)
        )
        # Outliers are identities, too, and fill batches with the clusters: no eps gives too few.
        found, loose, tight = (
            with_singletons(dbscan(distances, near, settings.min_samples))
            for near in (eps, eps + gap, max(eps - gap, 1e-6))
        )
        independence, compactness = overlaps(found, loose), overlaps(found, tight)
        if self.threshold is None:
            self.threshold = independence_threshold(found, independence, settings.independent)
        own = reliable(found, independence, compactness, self.threshold)
        least = data.batch_size // data.instances
        if count_of(own) < least:
            raise too_few(
                f"plugin '{self.name}' finds fewer identities than the {least} of a batch, even "
                f"with single images: {count_of(own)} in all",
                own,
                self.name,
            )
        return own

    @hookimpl
    def reid_identity(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Give every embedding a memory of its own."""
        return HybridMemory(embedding, dims["unit"], len(ctx.main.samples), self.settings)

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Tell the memories which images the rows show; there is no further loss."""
        if step.update == "main" and ctx.model is not None:
            rows = ctx.gather(step.main.batch.index)
            for name in ctx.model.criteria:
                ctx.criterion(name).rows = rows
        return []


def overlaps(labels: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each image's cluster is also its cluster in another clustering.

    It is the independence of clusters beside a looser clustering, and the compactness beside a
    tighter one.

    Args:
        labels, others: int64 ``N``, a cluster for every image.

    Returns:
        Intersection over union of the two clusters, ``N``.
    """
    pairs = labels * (others.max() + 1) + others
    (_, both, shared), (_, one, mine), (_, two, theirs) = (
        np.unique(values, return_inverse=True, return_counts=True)
        for values in (pairs, labels, others)
    )
    common = shared[both]
    return np.asarray(common / (mine[one] + theirs[two] - common))


def _best(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    best = np.zeros(labels.max() + 1)
    np.maximum.at(best, labels, scores)
    return best


def independence_threshold(
    labels: NDArray[np.int64], independence: NDArray[np.float64], share: float
) -> float:
    """Return the independence that a share of the clusters of several images reaches (alpha)."""
    several = np.bincount(labels) > 1
    scores = np.sort(_best(labels, independence)[several])[::-1]
    return float(scores[min(len(scores) - 1, round(len(scores) * share))]) if len(scores) else 0.0


def reliable(
    labels: NDArray[np.int64],
    independence: NDArray[np.float64],
    compactness: NDArray[np.float64],
    threshold: float,
) -> NDArray[np.int64]:
    """Return identities: images of reliable clusters share one, all others have one of their own.

    A cluster must be independent; an image must be as compact as the most compact of its cluster.

    Args:
        labels: int64 ``N``, a cluster for every image.
        independence, compactness: of `overlaps`.
        threshold: least independence of a cluster (alpha).
    """
    kept = _best(labels, independence)[labels] >= threshold
    kept &= compactness >= _best(labels, compactness)[labels]
    _, compact = np.unique(labels[kept], return_inverse=True)
    found = np.full(len(labels), -1, np.int64)
    found[kept] = compact
    return with_singletons(found)
