"""A run, assembled and ready to start: what the loop works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.config import RunConfig
from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.labelers import Labeler
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataSet, Source
from reid_core.contract.step import MAIN
from reid_core.data.fingerprints import source_fingerprint
from reid_core.data.loading import BatchLoader
from reid_core.data.sampling import Sampler
from reid_core.loop.step import StepParts
from reid_core.model.embedder import Embedder, embedder_of
from reid_core.model.graph import ReidModel
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import versions_of
from reid_retrieval.results import Evaluation

if TYPE_CHECKING:
    from reid_core.contract.labelers import Change


class Evaluates(Protocol):
    """Evaluates a model on a data set."""

    @property
    def dataset(self) -> DataSet:
        """What it evaluates on."""

    @property
    def label(self) -> str:
        """What its results are called by, where those of several data sets stand together."""

    def evaluate(
        self,
        embedder: Embedder,
        advance: Callable[[int], None] | None = None,
        heads: int = 0,
    ) -> Evaluation:
        """Return the results of every protocol.

        Args:
            embedder: what to evaluate.
            advance: is told how many more images are done.
            heads: how many images of every ranking's head to keep.
        """

    def output(self, model: ReidModel, split: str, name: str) -> NDArray[np.float32]:
        """Return an output of a training model for all images of a split, in their order."""

    def picture(self, evaluation: Evaluation, path: Path, title: str) -> Path | None:
        """Draw ranked lists of an evaluation; None where none are asked for."""


class Features(Protocol):
    """Features of the main source at an epoch's start."""

    def of(self, embedding: str) -> NDArray[np.float32]:
        """Return the unit vectors ``N D`` of an embedding."""

    def deployed(
        self, change: Change | None = None, fields: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Return what the run evaluates, ``N D``; see `FeatureMaker` for the arguments."""


@dataclass
class Assembly:
    """A run, ready to start.

    Args:
        ctx: the run.
        plugins: instances by name, the core's included.
        calls: their hooks.
        parts: what a step works with.
        loaders: one per source.
        samplers: one per source; a labeler of identities replaces the main one at each epoch.
        prepare: makes device batches of host batches.
        identities: plugin and labeler that make identities at each epoch's start, or None.
        truth: the main source with the data set's own identities, which such a labeler replaces.
        redraw: makes loader and sampler of a main source whose identities have changed.
        features: makes the features of an epoch, of the model as it stands.
        evaluators: one per test set; none where it has no queries.
        validator: evaluates on held-out training identities, where ``data.validation`` asks.
        smaller_is_better: names of numbers measured so far of which less is better.
    """

    ctx: RunContext
    plugins: Mapping[str, Plugin]
    calls: HookCalls
    parts: StepParts
    loaders: dict[str, BatchLoader]
    samplers: dict[str, Sampler]
    prepare: Callable[[Batch, torch.device], Batch]
    identities: tuple[str, Labeler] | None
    truth: Source
    redraw: Callable[[Source], tuple[BatchLoader, Sampler]]
    features: Callable[[], Features]
    evaluators: Sequence[Evaluates]
    validator: Evaluates | None = None
    smaller_is_better: set[str] = field(default_factory=set)
    _fingerprints: dict[str, dict[str, str]] | None = None

    @property
    def evaluator(self) -> Evaluates | None:
        """That of the first test set; None where there is none."""
        return self.evaluators[0] if self.evaluators else None

    @property
    def config(self) -> RunConfig:
        """The resolved configuration."""
        return self.ctx.config

    @property
    def model(self) -> ReidModel:
        """The training model."""
        return self.parts.model

    def embedder(self) -> Embedder:
        """Return the deployed part of the model as it stands; modules are shared."""
        return embedder_of(self.model, self.config.data.size, self.config.evaluation.embed)

    def versions(self) -> dict[str, str]:
        """Return the versions of the run's plugins; ``unpackaged`` where there is none."""
        return versions_of(self.plugins)

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Return hashes of what is trained on, by source: images, labels, fields in use."""
        if self._fingerprints is None:
            sources = {**self.ctx.sources, MAIN: self.truth}
            self._fingerprints = {
                name: source_fingerprint(source, self.loaders[name].specs)
                for name, source in sources.items()
            }
        return self._fingerprints

    def steps_per_epoch(self, epoch: int) -> int:
        """Return how many steps an epoch has."""
        fixed = self.config.schedule.iterations_per_epoch
        return fixed or self.samplers[MAIN].count(epoch)
