"""Pseudo-identities: Jaccard distances and DBSCAN at every epoch's start (equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError
from reid_retrieval.clustering import count_of, dbscan, with_singletons
from reid_retrieval.distances import jaccard_distances

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from reid_unsup_cc.settings import ClusteringSettings

_STEP = 0.05
"""Distance between the values of eps that are tried where the wanted one gives too few clusters."""


@dataclass(frozen=True)
class Clusters:
    """An epoch's clusters.

    Args:
        labels: int64 ``N``, ``0 .. n-1``; -1 for images that are left out.
        found: int64 ``N``, what DBSCAN found: -1 for all outliers, whatever became of them.
        eps: what they were found with.
    """

    labels: NDArray[np.int64]
    found: NDArray[np.int64]
    eps: float


def find_clusters(
    features: NDArray[np.float32],
    settings: ClusteringSettings,
    least: int,
    say: Callable[[str], None] = print,
    section: str = "unsup_cc.clustering",
) -> Clusters:
    """Cluster images by their features.

    Args:
        features: unit vectors ``N D``.
        settings: of distances and clusters.
        least: identities that a batch needs, at least 2: with fewer clusters nothing can be drawn,
            with a single one nothing contrasted.
        say: prints one line, where another eps than the wanted one had to be taken.
        section: how the settings are called, for messages.

    Raises:
        DataError: too few clusters, and ``settings.stuck`` says to stop, or no eps gives enough;
            the message says how many there are and what can be done.
    """
    wanted = max(2, least)

    @cache
    def all_distances() -> csr_array:
        return jaccard_distances(features, settings.k1, settings.k2)

    def labels_at(eps: float) -> NDArray[np.int64]:
        return dbscan(all_distances(), eps, settings.min_samples)

    near = jaccard_distances(features, settings.k1, settings.k2, at_most=settings.eps)
    labels, eps = dbscan(near, settings.eps, settings.min_samples), settings.eps
    if count_of(labels) < wanted:
        trouble = _trouble(labels, eps, wanted)
        if settings.stuck == "stop":
            raise DataError(f"{trouble}; {_remedy(labels, section)}")
        for other in _nearest_first(eps):
            labels = labels_at(other)
            if count_of(labels) >= wanted:
                eps = other
                say(f"{trouble}; taking eps = {eps:.2f} for this epoch, with {count_of(labels)}")
                break
        else:
            raise DataError(
                f"{trouble}, nor does any other eps give more; {_remedy(labels, section)}"
            )
    alone = settings.outliers == "singletons"
    return Clusters(with_singletons(labels) if alone else labels, labels, eps)


def whitened(features: NDArray[np.float32], cameras: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return unit vectors of features that have mean 0 and variance 1 at each camera.

    Args:
        features: ``N D``.
        cameras: int64 ``N``. A camera of a single image leaves nothing of it but zeros.
    """
    _, places, sizes = np.unique(cameras, return_inverse=True, return_counts=True)
    totals = np.zeros((len(sizes), features.shape[1]))
    np.add.at(totals, places, features)
    centred = features - (totals / sizes[:, None])[places]
    squares = np.zeros_like(totals)
    np.add.at(squares, places, centred**2)
    spread = np.sqrt(squares / sizes[:, None])[places]
    rows = centred / np.maximum(spread, 1e-6)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), np.float32)


def _nearest_first(eps: float) -> list[float]:
    """Return the other values of eps, by how far they are from the wanted one."""
    grid = [round(_STEP * k, 2) for k in range(1, round(1 / _STEP))]
    return sorted((e for e in grid if e != eps), key=lambda e: (abs(e - eps), e))


def _trouble(labels: NDArray[np.int64], eps: float, wanted: int) -> str:
    count, images = count_of(labels), len(labels)
    if count == 0:
        return f"clustering at eps = {eps:.2f} leaves out all {images} images: no cluster"
    if count == 1:
        share = int((labels == 0).sum())
        return (
            f"clustering at eps = {eps:.2f} puts {share} of {images} images into a single cluster"
        )
    return (
        f"clustering at eps = {eps:.2f} finds {count} clusters, and a batch needs {wanted} "
        "identities"
    )


def _remedy(labels: NDArray[np.int64], section: str) -> str:
    largest = np.bincount(labels[labels >= 0], minlength=1).max()
    direction = "lower" if largest > len(labels) / 2 else "raise"
    return (
        f"{direction} -s {section}.eps, lower -s {section}.min_samples, bring -s {section}.k1 "
        "nearer to the images that there are of a person, take fewer identities per batch "
        "(data.batch_size over data.instances), or start from better features "
        "(-s model.start=contrastive, more -s model.start_epochs, or -s model.pretrained=true)"
    )
