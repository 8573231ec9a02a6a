"""A run, assembled and ready to start: what the loop works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from reid_core.config import RunConfig
from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.labelers import Labeler
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import Source
from reid_core.contract.step import MAIN
from reid_core.data.fingerprints import source_fingerprint
from reid_core.data.joining import trained_on
from reid_core.data.loading import BatchLoader
from reid_core.data.people import learnt_from
from reid_core.data.sampling import Sampler
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.extraction import EpochFeatures
from reid_core.loop.step import StepParts
from reid_core.model.embedder import Embedder, embedder_of
from reid_core.model.graph import ReidModel
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import versions_of


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
    evaluators: Sequence[Evaluator]
    validator: Evaluator | None = None
    smaller_is_better: set[str] = field(default_factory=set)
    _fingerprints: dict[str, dict[str, str]] | None = None

    @property
    def evaluator(self) -> Evaluator | None:
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

    def features(self) -> EpochFeatures:
        """Return the features of an epoch, of the model as it stands."""
        return EpochFeatures(self.model, self.truth, self.config, self.ctx.device)

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

    @cached_property
    def learnt_from(self) -> dict[str, Any]:
        """Whom its weights learn from; see `Embedder.learnt_from`."""
        filled = self.model.encoder.filled
        before = filled.weights.learnt_from if filled is not None else {}
        return learnt_from(self.ctx.sources, trained_on(self.config), before)

    def steps_per_epoch(self, epoch: int) -> int:
        """Return how many steps an epoch has."""
        return self.config.schedule.iterations_per_epoch or self.samplers[MAIN].count(epoch)
