"""The run's context: what every hook may know about the run. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reid_core.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from reid_core.config import RunConfig
    from reid_core.contract.criterion import IdentityCriterion
    from reid_core.contract.fields import FieldSpec
    from reid_core.contract.samples import DataSet, Source
    from reid_core.contract.stages import Stage
    from reid_core.model.graph import ReidModel
    from reid_core.plugins.providers import Providers
    from reid_core.runs.stages import StageResult


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
        rehearsal: whether this is only a check of what happens, so that a step of a stage will do.
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
    providers: Providers = field(kw_only=True)
    rehearsal: bool = field(default=False, kw_only=True)
    model: ReidModel | None = None

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

    def owns(self, plugin: str, slot: str) -> bool:
        """Return whether a plugin fills a slot; a claimant that lost it must stay silent."""
        return self.slots.get(slot) == plugin

    def module(self, branch: str) -> nn.Module:
        """Return a branch's module by the branch's name, once the model is built."""
        modules = self._model().branches
        if branch not in modules:
            raise PluginError(f"there is no branch '{branch}'{did_you_mean(branch, modules)}")
        return modules[branch]

    def criterion(self, embedding: str) -> IdentityCriterion:
        """Return the identity criterion of an embedding, once the model is built."""
        criteria = self._model().criteria
        if embedding not in criteria:
            raise PluginError(
                f"embedding '{embedding}' has no identity criterion"
                f"{did_you_mean(embedding, criteria)}"
            )
        return criteria[embedding]  # type: ignore[return-value]

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks with their gradient, for losses over pairs of rows.

        Args:
            rows: ``B ...``, as many on every rank.
        """
        from reid_core.machine.ranks import gather

        return gather(rows)

    def stage(self, stage: Stage) -> StageResult:
        """Return the result of a stage: made now, or read where it was made before.

        To be called from hooks that build, and from labelers.
        """
        from reid_core.runs.stages import run_stage

        return run_stage(self, stage)

    def stage_key(self, stage: Stage) -> str:
        """Return what identifies a stage's result, without making it."""
        from reid_core.runs.stages import stage_key

        return stage_key(self, stage)

    def _model(self) -> ReidModel:
        if self.model is None:
            raise PluginError("the model is not built yet; ask for modules in reid_losses or later")
        return self.model
