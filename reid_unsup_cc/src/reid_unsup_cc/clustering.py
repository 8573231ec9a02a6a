"""Pseudo-identities: Jaccard distances and DBSCAN at every epoch's start (equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError
from reid_retrieval.clustering import with_singletons
from reid_retrieval.pseudo_identities import PseudoIdentities, advice, cluster_at_least
from reid_unsup_cc.settings import ClusteringSettings


def find_clusters(
    features: NDArray[np.float32],
    settings: ClusteringSettings,
    least: int,
    say: Callable[[str], None] = print,
    section: str = "unsup_cc.clustering",
) -> tuple[NDArray[np.int64], PseudoIdentities]:
    """Cluster images by their features.

    Args:
        features: unit vectors ``N D``.
        settings: of distances and clusters.
        least: identities that a batch needs, at least 2: with fewer clusters nothing can be drawn,
            with a single one nothing contrasted.
        say: prints one line, where another eps than the wanted one had to be taken.
        section: how the settings are called, for messages.

    Returns:
        The epoch's identities, int64 ``N``, ``0 .. n-1``, -1 for images that are left out; and what
        was found, in which all outliers are -1, whatever became of them.

    Raises:
        DataError: too few clusters, and ``settings.stuck`` says to stop, or no eps gives enough;
            the message says how many there are and what can be done.
    """
    found = cluster_at_least(
        features,
        least,
        settings.eps,
        settings.min_samples,
        k1=settings.k1,
        k2=settings.k2,
        adapt=settings.stuck != "stop",
    )
    if not found.enough:
        helps = advice(
            found.labels,
            f"-s {section}.",
            batch="data.batch_size over data.instances",
            start="-s model.start=contrastive, more -s model.start_epochs, "
            "or -s model.pretrained=true",
        )
        raise DataError(f"{found.trouble}; {helps}")
    if found.trouble:
        say(found.trouble)
    alone = settings.outliers == "singletons"
    return with_singletons(found.labels) if alone else found.labels, found


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
