"""How good clusters are: against the truth, where there is one, which training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_core import Source
from reid_retrieval.clustering import with_singletons
from reid_retrieval.pseudo_identities import PseudoIdentities

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How clusters agree with true identities.

    Args:
        nmi: normalised mutual information (arithmetic mean of the entropies), of the images in a
            cluster, 0 to 1.
        ari: adjusted Rand index of the images in a cluster; 0 is chance, 1 perfect.
        ari_all: the same of all images, each outlier a cluster of its own.
        purity: share of the images in a cluster whose identity is the most frequent one there.
    """

    nmi: float
    ari: float
    ari_all: float
    purity: float


@dataclass(frozen=True)
class Recall:
    """Which of the pairs that should be together are in one cluster, and what is mixed there.

    Args:
        cameras: mean number of cameras whose images a cluster holds.
        same_clothes: share of the pairs of one person in the same clothes at two cameras that are
            in one cluster; None where there are no such pairs.
        other_clothes: the same of one person in two outfits, at whatever cameras.
    """

    cameras: float
    same_clothes: float | None
    other_clothes: float | None


@dataclass(frozen=True)
class Truth:
    """What is known of images and hidden from training.

    Args:
        people, cameras, clothes: int64 ``N`` each; clothes are -1 where nobody knows them.
    """

    people: Labels
    cameras: Labels
    clothes: Labels


@dataclass(frozen=True)
class ClusterReport:
    """An epoch's clusters in numbers, outliers apart.

    Args:
        epoch: 0-based.
        images: all, clustered or not.
        clusters: how many.
        outliers: images in no cluster.
        smallest, median, largest: images of a cluster.
        eps: what they were found with.
        agreement: with the truth; None where it is not known.
        recall: of true pairs; None where the truth is not known.
    """

    epoch: int
    images: int
    clusters: int
    outliers: int
    smallest: int
    median: float
    largest: int
    eps: float
    agreement: Agreement | None
    recall: Recall | None

    def line(self) -> str:
        """Return it as one line for the user."""
        text = (
            f"epoch {self.epoch + 1}: {self.clusters} clusters of {self.smallest} to "
            f"{self.largest} images (median {self.median:g}), {self.outliers} of {self.images} "
            "images in none"
        )
        if self.agreement is None or self.recall is None:
            return text
        found, recall = self.agreement, self.recall
        shares = [
            f"{100 * share:.1f} % {where}"
            for share, where in (
                (recall.same_clothes, "in the same clothes at two cameras"),
                (recall.other_clothes, "in other clothes"),
            )
            if share is not None
        ]
        pairs = f"; of a person's pairs it holds {' and '.join(shares)}" if shares else ""
        return (
            f"{text}; against the hidden truth NMI {found.nmi:.3f}, ARI {found.ari:.3f}, purity "
            f"{found.purity:.3f}; {recall.cameras:.2f} cameras per cluster{pairs}"
        )


def truth_of(source: Source) -> Truth | None:
    """Return what is known of a source's images; None where it does not say who they show."""
    columns = (
        np.array([getattr(sample, name) for sample in source.samples], np.int64)
        for name in ("pid", "camid", "clothes")
    )
    truth = Truth(*columns)
    return truth if source.identities and bool((truth.people >= 0).all()) else None


def describe(clusters: PseudoIdentities, epoch: int, truth: Truth | None) -> ClusterReport:
    """Return clusters in numbers.

    Args:
        clusters: of an epoch.
        epoch: 0-based.
        truth: of the same images, or None.
    """
    labels = clusters.labels
    sizes = np.bincount(labels[labels >= 0])
    return ClusterReport(
        epoch,
        len(labels),
        len(sizes),
        int((labels < 0).sum()),
        int(sizes.min()),
        float(np.median(sizes)),
        int(sizes.max()),
        clusters.eps,
        None if truth is None else agreement(labels, truth.people),
        None if truth is None else recall(labels, truth),
    )


def recall(labels: Labels, truth: Truth) -> Recall:
    """Return which true pairs are in one cluster.

    Args:
        labels: int64 ``N``; -1 for images in no cluster, of which there must be others. Their
            pairs count as not found.
        truth: of the same images.
    """
    kept = labels >= 0
    mixed = np.unique(np.stack([labels[kept], truth.cameras[kept]]), axis=1)[0]
    people, cameras, clothes = truth.people, truth.cameras, truth.clothes
    known = clothes >= 0

    def pairs(rows: NDArray[np.bool_], *columns: Labels) -> float:
        if not rows.any():
            return 0.0
        return _pairs(
            np.unique(np.stack([c[rows] for c in columns]), axis=1, return_counts=True)[1]
        )

    def share(together: Sequence[Labels], apart: Labels) -> float | None:
        """Of the pairs that agree in the first columns and not in the last one."""
        every = pairs(known, *together) - pairs(known, *together, apart)
        if not every:
            return None
        rows, columns = known & kept, (*together, labels)
        return (pairs(rows, *columns) - pairs(rows, *columns, apart)) / every

    return Recall(
        float(np.bincount(mixed).mean()),
        share((people, clothes), cameras),
        share((people,), clothes),
    )


def agreement(labels: Labels, truth: Labels) -> Agreement:
    """Return how clusters agree with true identities.

    Args:
        labels: int64 ``N``; -1 for images in no cluster, of which there must be others.
        truth: int64 ``N``.
    """
    from sklearn import metrics

    kept = labels >= 0
    ours, theirs = labels[kept], truth[kept]
    most = metrics.cluster.contingency_matrix(theirs, ours).max(0)
    return Agreement(
        float(metrics.normalized_mutual_info_score(theirs, ours)),
        float(metrics.adjusted_rand_score(theirs, ours)),
        float(metrics.adjusted_rand_score(truth, with_singletons(labels))),
        float(most.sum() / len(ours)),
    )


def _pairs(counts: Labels) -> float:
    return float((counts * (counts - 1) / 2).sum())
