"""Cluster Contrast (Dai et al., ACCV 2022): a memory of clusters, moved and contrasted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reid_baselines.cluster_memory import ClusterMemory
from reid_baselines.clusters import ClusterSettings, check_batches, find_clusters
from reid_core import FieldKind, FieldSpec, Labeler, Plugin, hookimpl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from reid_core import Embedding, IdentityCriterion, LabelContext, RunConfig, RunContext


class ClusterContrastSettings(ClusterSettings):
    """Settings of Cluster Contrast; the defaults are the published ones."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    """Divides the similarities (tau)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of a cluster's memory that stays when it moves towards an image (m)."""
    hard: bool = False
    """Move towards the image of a batch that is least like the cluster alone, in place of every
    image in turn."""


class ClusterContrast(Plugin):
    """Take clusters for identities, and contrast images with one memory per cluster."""

    Settings = ClusterContrastSettings
    takes_frames = True
    claims = ("labels:pid", "identity")
    defaults: Mapping[str, Any] = {"data.sampler": "pk"}

    def check(self, config: RunConfig) -> None:
        """Refuse batches that clusters cannot fill."""
        check_batches(config, self.name)

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> Sequence[Labeler]:
        """Offer identities at every epoch's start."""
        return [Labeler(FieldSpec("pid", FieldKind.SCALAR), self._cluster, when="epoch")]

    def _cluster(self, labels: LabelContext) -> NDArray[np.int64]:
        data, say = labels.run.config.data, labels.run.say
        least = data.batch_size // data.instances
        return find_clusters(labels.features(), self.settings, least, say, self.name)

    @hookimpl
    def reid_identity(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Give every embedding a memory of its own."""
        return ClusterMemory(embedding, dims["unit"], self.settings)
