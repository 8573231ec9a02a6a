"""Clusters in place of identities: Jaccard distances and DBSCAN at every epoch's start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reid_core import ConfigError, DataError, Settings
from reid_retrieval.clustering import count_of
from reid_retrieval.pseudo_identities import advice, cluster_at_least

if TYPE_CHECKING:
    from reid_core import RunConfig


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


def find_clusters(
    features: NDArray[np.float32],
    settings: ClusterSettings,
    least: int,
    say: Callable[[str], None],
    plugin: str,
) -> NDArray[np.int64]:
    """Return a cluster for every image, int64 ``N``; -1 for outliers.

    Where the wanted eps gives fewer clusters than a batch needs, the nearest one that gives enough
    is taken, and said.

    Args:
        features: unit vectors ``N D``.
        settings: of clusters.
        least: clusters that a batch needs.
        say: prints one line.
        plugin: its name, for messages.

    Raises:
        DataError: no eps gives enough.
    """
    found = cluster_at_least(
        features, least, settings.eps, settings.min_samples, k1=settings.k1, k2=settings.k2
    )
    if not found.enough:
        raise too_few(found.trouble, found.labels, plugin)
    if found.trouble:
        say(f"{plugin}: {found.trouble}")
    return found.labels


def too_few(trouble: str, labels: NDArray[np.int64], plugin: str) -> DataError:
    """Return the error of too few clusters for a batch, with what helps.

    Args:
        trouble: in words.
        labels: of the clusters that there are.
        plugin: its name.
    """
    helps = advice(
        labels,
        f"-s {plugin}.",
        batch="data.batch_size over data.instances",
        start="-s model.pretrained=true, -s model.start=contrastive",
    )
    return DataError(f"{trouble}; {helps}")


def means_of(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of every cluster's vectors with length one, ``K D``; -1 is left out."""
    kept = labels >= 0
    sums = np.zeros((count_of(labels), features.shape[1]), np.float32)
    np.add.at(sums, labels[kept], features[kept])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(norms, 1e-12), np.float32)
