"""Clusters in place of identities: Jaccard distances and DBSCAN at every epoch's start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reid_core import ConfigError, DataError, Settings
from reid_retrieval.clustering import count_of, dbscan
from reid_retrieval.distances import jaccard_distances

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from reid_core import RunConfig

_GRID = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Values of eps that are tried where the wanted one gives too few clusters."""


class ClusterSettings(Settings):
    """How images are clustered; the defaults are those of SpCL and Cluster Contrast."""

    k1: Annotated[int, Field(ge=1)] = 30
    """Neighbours that must be mutual, in the encodings that Jaccard distances compare."""
    k2: Annotated[int, Field(ge=1)] = 6
    """Nearest images whose encodings are averaged."""
    eps: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Largest distance of DBSCAN's neighbours."""
    min_samples: Annotated[int, Field(ge=1)] = 4
    """Neighbours, itself included, that make an image the core of a cluster."""


def check_batches(config: RunConfig, plugin: str) -> None:
    """Refuse batches that clusters cannot fill, or in which there is nothing to contrast.

    Raises:
        ConfigError: naming the key.
    """
    data = config.data
    if not data.sampler.startswith("pk"):
        raise ConfigError(
            f"plugin '{plugin}' draws batches of clusters, and data.sampler = '{data.sampler}' "
            "does not look at them: set -s data.sampler=pk"
        )
    if data.batch_size // data.instances < 2:
        raise ConfigError(
            f"a batch of one cluster has nothing to be contrasted with for plugin '{plugin}': set "
            "data.batch_size to at least twice data.instances"
        )


def jaccard(features: NDArray[np.float32], settings: ClusterSettings) -> csr_array:
    """Return the sparse Jaccard distances of unit vectors ``N D``."""
    return jaccard_distances(features, settings.k1, settings.k2)


def find_clusters(
    distances: csr_array,
    settings: ClusterSettings,
    least: int,
    say: Callable[[str], None],
    plugin: str,
) -> tuple[NDArray[np.int64], float]:
    """Return a cluster for every image, and the eps that it was found with.

    Where the wanted eps gives fewer clusters than a batch needs, the nearest one that gives enough
    is taken, and said.

    Args:
        distances: of `jaccard`.
        settings: of clusters.
        least: clusters that a batch needs.
        say: prints one line.
        plugin: its name, for messages.

    Returns:
        int64 ``N``, -1 for outliers; eps.

    Raises:
        DataError: no eps gives enough.
    """
    wanted = settings.eps
    for eps in (wanted, *sorted(set(_GRID) - {wanted}, key=lambda e: (abs(e - wanted), e))):
        labels = dbscan(distances, eps, settings.min_samples)
        count = count_of(labels)
        if count >= least:
            if eps != wanted:
                say(
                    f"{plugin}: too few clusters at eps = {wanted} for a batch of {least}; taking "
                    f"eps = {eps} for this epoch, with {count}"
                )
            return labels, eps
    raise too_few(plugin, least, "whatever eps")


def too_few(plugin: str, least: int, where: str) -> DataError:
    """Return the error of too few clusters for a batch, with what helps.

    Args:
        plugin: its name.
        least: clusters that a batch needs.
        where: words that follow: at which settings there are too few.
    """
    return DataError(
        f"plugin '{plugin}' finds fewer clusters than the {least} of a batch, {where}: lower "
        f"-s {plugin}.min_samples, bring -s {plugin}.k1 nearer to the images that there are of a "
        "person, take fewer clusters per batch (data.batch_size over data.instances), or start "
        "from better features (-s model.pretrained=true, -s model.start=contrastive)"
    )


def means_of(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of every cluster's vectors with length one, ``K D``; -1 is left out."""
    kept = labels >= 0
    sums = np.zeros((count_of(labels), features.shape[1]), np.float32)
    np.add.at(sums, labels[kept], features[kept])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(norms, 1e-12), np.float32)
