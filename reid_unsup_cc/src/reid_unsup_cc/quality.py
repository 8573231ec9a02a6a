"""How good clusters are: against the truth, where there is one, which training never sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_unsup_cc.clustering import Clusters, with_singletons

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

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def line(self) -> str:
        """Return it as one line for the user."""
        text = (
            f"epoch {self.epoch + 1}: {self.clusters} clusters of {self.smallest} to "
            f"{self.largest} images (median {self.median:g}), {self.outliers} of {self.images} "
            "images in none"
        )
        if self.agreement is None:
            return text
        found = self.agreement
        return (
            f"{text}; against the hidden truth NMI {found.nmi:.3f}, ARI {found.ari:.3f}, purity "
            f"{found.purity:.3f}"
        )


def describe(clusters: Clusters, epoch: int, truth: Labels | None) -> ClusterReport:
    """Return clusters in numbers.

    Args:
        clusters: of an epoch.
        epoch: 0-based.
        truth: int64 ``N``, true identities, or None.
    """
    labels = clusters.found
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
        None if truth is None else agreement(labels, truth),
    )


def agreement(labels: Labels, truth: Labels) -> Agreement:
    """Return how clusters agree with true identities.

    Args:
        labels: int64 ``N``; -1 for images in no cluster, of which there must be others.
        truth: int64 ``N``.
    """
    kept = labels >= 0
    ours, theirs = labels[kept], truth[kept]
    return Agreement(
        normalised_mutual_information(ours, theirs),
        adjusted_rand_index(ours, theirs),
        adjusted_rand_index(with_singletons(labels), truth),
        purity(ours, theirs),
    )


def normalised_mutual_information(labels: Labels, truth: Labels) -> float:
    """Return mutual information over the mean of both entropies; 1 where both have one class."""
    cells, ours, theirs = _table(labels, truth)
    mean = (_entropy(ours) + _entropy(theirs)) / 2
    if not mean:
        return 1.0
    return float((2 * mean - _entropy(cells)) / mean)


def adjusted_rand_index(labels: Labels, truth: Labels) -> float:
    """Return how much more often pairs agree than by chance (Hubert and Arabie, 1985)."""
    cells, ours, theirs = (_pairs(counts) for counts in _table(labels, truth))
    chance = ours * theirs / max(len(labels) * (len(labels) - 1) / 2, 1)
    most = (ours + theirs) / 2
    return 1.0 if most == chance else float((cells - chance) / (most - chance))


def purity(labels: Labels, truth: Labels) -> float:
    """Return the share of images whose identity is the most frequent one of their cluster."""
    pairs, counts = np.unique(np.stack([labels, truth]), axis=1, return_counts=True)
    most = np.zeros(int(labels.max()) + 1, np.int64)
    np.maximum.at(most, pairs[0], counts)
    return float(most.sum() / len(labels))


def _table(labels: Labels, truth: Labels) -> tuple[Labels, Labels, Labels]:
    """Return how often each pair of labels occurs, each of the first, and each of the second."""
    _, cells = np.unique(np.stack([labels, truth]), axis=1, return_counts=True)
    _, ours = np.unique(labels, return_counts=True)
    _, theirs = np.unique(truth, return_counts=True)
    return cells, ours, theirs


def _entropy(counts: Labels) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _pairs(counts: Labels) -> float:
    return float((counts * (counts - 1) / 2).sum())
