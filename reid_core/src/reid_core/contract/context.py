"""The run's context: what every hook may know about the run. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from reid_core.contract.words import ByName
from reid_core.errors import PluginError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from reid_core.config import RunConfig
    from reid_core.contract.criterion import IdentityCriterion
    from reid_core.contract.encoder import Encoder, TrainedModel
    from reid_core.contract.fields import FieldSpec
    from reid_core.contract.model import Embedding
    from reid_core.contract.samples import DataProvider, DataSet, Source
    from reid_core.contract.stages import Stage, StageResult
    from reid_retrieval import protocols


@dataclass
class Progress:
    """Where the run stands, 0-based: the step about to be done.

    Args:
        epoch: of the run.
        iteration: step of the run.
        step: step of the epoch.
    """

    epoch: int = 0
    iteration: int = 0
    step: int = 0


class Named(Protocol):
    """Anything that is offered under a name."""

    @property
    def name(self) -> str:
        """Its name."""


class Lookup(Protocol):
    """Finds what plugins offer by name."""

    def dataset(self, name: str) -> DataProvider:
        """Return the provider of a data set or source.

        Raises:
            DataError: nobody offers it; with the nearest name and the line that installs it.
        """

    def datasets(self) -> list[tuple[str, DataProvider]]:
        """Return all providers of data sets and sources with their plugins, by name."""

    def backbone(self, name: str) -> Named | None:
        """Return the provider of an encoder, or None where no plugin offers the name."""

    def build_backbone(self, name: str, ctx: RunContext) -> Encoder | None:
        """Return the encoder that a plugin offers under a name, or None where none does."""

    def build_encoder(self, ctx: RunContext) -> Encoder:
        """Return the encoder that the run's ``model`` section describes, a plugin's or timm's."""

    def build_pooling(
        self, name: str, channels: int, pools: Literal["map", "frames"] = "map"
    ) -> nn.Module:
        """Return the pooling that a plugin offers under a name.

        Args:
            name: as in the configuration.
            channels: of what is pooled.
            pools: what is pooled, see `PoolingProvider`.

        Raises:
            ConfigError: nobody offers it.
        """

    def protocol(self, name: str) -> protocols.Protocol:
        """Return an evaluation protocol by name.

        Raises:
            DataError: nobody offers it.
        """


class StageMaker(Protocol):
    """Makes stages, or reads them where they were made before."""

    def result(self, ctx: RunContext, stage: Stage) -> StageResult:
        """Return the result of a stage."""

    def key(self, ctx: RunContext, stage: Stage) -> str:
        """Return what identifies a stage's result, without making it."""


@dataclass
class RunContext:
    """What every hook may know about the run. Hooks read it and never write to it.

    Args:
        config: the resolved configuration.
        slots: who fills which slot.
        dataset: the data set, labels included once they are made.
        sources: training sources by name, ``main`` among them.
        device: where the model lives.
        folder: the run's folder for pictures and reports of plugins; None when nothing is written
            (a check, or a rank other than 0).
        cache: the user's cache folder, for what is made once and used by many runs.
        say: prints one line for the user.
        rank, world_size: this process and how many there are.
        progress: epoch and iteration.
        providers: finds what plugins offer by name.
        stages: makes stages; None where there are none.
        gather_rows: returns the rows of all ranks with their gradient.
        rehearsal: whether this is only a check of what happens, so that a step of a stage will do.
        trial: whether this only tries whether everything can be built: stages stay as they begin,
            and labels are examples.
        requested: names of further sources that plugins load themselves, to train a stage on say.
        try_out: builds everything that way, once, before the first stage trains; None where that
            is needless.
    """

    config: RunConfig
    slots: Mapping[str, str]
    dataset: DataSet
    sources: dict[str, Source]
    device: torch.device
    folder: Path | None
    cache: Path
    say: Callable[[str], None] = print
    rank: int = 0
    world_size: int = 1
    progress: Progress = field(default_factory=Progress)
    providers: Lookup = field(kw_only=True)
    stages: StageMaker | None = field(default=None, kw_only=True)
    gather_rows: Callable[[Tensor], Tensor] = field(default=lambda rows: rows, kw_only=True)
    rehearsal: bool = field(default=False, kw_only=True)
    trial: bool = field(default=False, kw_only=True)
    requested: set[str] = field(default_factory=set, kw_only=True)
    try_out: Callable[[], None] | None = field(default=None, kw_only=True)
    model: TrainedModel | None = None

    @property
    def main(self) -> Source:
        """The main training source."""
        return self.sources["main"]

    @property
    def num_identities(self) -> int:
        """Number of training identities; 0 when there are none, or none yet."""
        return self.main.num_identities

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """The fields of the main source by name."""
        return self.main.fields

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.config.data.size

    @property
    def embeddings(self) -> Mapping[str, Embedding]:
        """Declarations of all embeddings by name, once the model is built."""
        return self._model().embeddings

    @property
    def deployed(self) -> tuple[str, ...]:
        """Names of the embeddings that describe a person at test, once the model is built."""
        return tuple(name for name, one in self.embeddings.items() if one.at_test)

    def owns(self, plugin: str, slot: str) -> bool:
        """Return whether a plugin fills a slot; a claimant that lost it must stay silent."""
        return self.slots.get(slot) == plugin

    def build_encoder(self, size: tuple[int, int] | None = None) -> Encoder:
        """Build the encoder that the run would have without an owner of the slot ``backbone``.

        For that owner, to wrap or to change: what ``model.backbone`` names, with its weights, from
        the same random numbers as the core's.

        Args:
            size: height and width of its input, where they are not the run's.
        """
        ctx = self
        if size is not None:
            data = self.config.data.model_copy(update={"height": size[0], "width": size[1]})
            ctx = replace(self, config=self.config.model_copy(update={"data": data}))
        return self.providers.build_encoder(ctx)

    def module(self, branch: str) -> nn.Module:
        """Return a branch's module by the branch's name, once the model is built."""
        modules: ByName[nn.Module] = ByName(self._model().branches, "branch")
        return modules[branch]

    def criterion(self, embedding: str) -> IdentityCriterion:
        """Return the identity criterion of an embedding, once the model is built."""
        what = "identity criterion of the embedding"
        criteria: ByName[IdentityCriterion] = ByName(self._model().criteria, what)
        return criteria[embedding]

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks with their gradient, for losses over pairs of rows.

        Args:
            rows: ``B ...``, as many on every rank.
        """
        return self.gather_rows(rows)

    def stage(self, stage: Stage) -> StageResult:
        """Return the result of a stage: made now, or read where it was made before.

        To be called from hooks that build, and from labelers.
        """
        return self._stages().result(self, stage)

    def stage_key(self, stage: Stage) -> str:
        """Return what identifies a stage's result, without making it."""
        return self._stages().key(self, stage)

    def _stages(self) -> StageMaker:
        if self.stages is None:
            raise PluginError("this run makes no stages: it was assembled without a maker of them")
        return self.stages

    def _model(self) -> TrainedModel:
        if self.model is None:
            raise PluginError("the model is not built yet; ask for modules in reid_losses or later")
        return self.model
