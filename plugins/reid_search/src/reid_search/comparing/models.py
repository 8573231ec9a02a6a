"""Which of several runs are seeds of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from reid_core import ConfigError
from reid_core.config import IDLE, differences
from reid_search.comparing.stored import StoredResult, StoredRun, same_rules


@dataclass(frozen=True)
class Model:
    """Runs that differ in their seed alone.

    Args:
        name: how it is called in tables.
        runs: one per seed.
    """

    name: str
    runs: tuple[StoredRun, ...]

    def scores(self, label: str, measure: str) -> NDArray[np.float64]:
        """Return the scores of single queries under a protocol, ``S Q``."""
        return np.stack([run.result(label).scores(measure) for run in self.runs])

    def result(self, label: str) -> StoredResult:
        """Return the result of its first run under a protocol."""
        return self.runs[0].result(label)


def models_of(runs: Sequence[StoredRun]) -> list[Model]:
    """Group runs into models, in the order of their first ones.

    Runs whose configurations differ in the seed alone, and in what a trained model does not depend
    on, are seeds of one model, if the versions of their plugins agree. A file of results is a model
    of its own.

    Raises:
        ConfigError: two runs of one configuration and seed.
    """
    groups: list[list[StoredRun]] = []
    for run in runs:
        for group in groups:
            if _alike(group[0], run):
                group.append(run)
                break
        else:
            groups.append([run])
    models: list[Model] = []
    for group in groups:
        seeds = [run.config.run.seed for run in group if run.config is not None]
        if len(set(seeds)) < len(seeds):
            twice = ", ".join(str(run.path) for run in group)
            raise ConfigError(
                f"{twice} are runs of one configuration, and two of them of one seed: leave one out"
            )
        name, taken = _name(group), [model.name for model in models]
        # Folders of one name in different places, or of one beginning.
        name = str(group[0].path) if name in taken else name
        models.append(Model(name, tuple(group)))
    return models


def check_alike(models: Sequence[Model], label: str) -> None:
    """Refuse runs that must not be compared under a protocol; see `same_rules`."""
    same_rules([run for model in models for run in model.runs], label)


def changes(first: Model, other: Model) -> list[str]:
    """Return in words what the configuration of one model has otherwise than another's."""
    before, now = first.runs[0].config, other.runs[0].config
    if before is None or now is None:
        return []
    # Which plugins there are is said once: not their settings, too.
    only_one = set(before.run.plugins) ^ set(now.run.plugins)
    free = {*IDLE, "run.seed", *(f"plugins.{name}" for name in only_one)}
    return differences(before.model_dump(mode="json"), now.model_dump(mode="json"), free)


def _alike(one: StoredRun, other: StoredRun) -> bool:
    if one.config is None or other.config is None or one.plugins != other.plugins:
        return False
    return not changes(Model("", (one,)), Model("", (other,)))


def _name(runs: Sequence[StoredRun]) -> str:
    if len(runs) == 1:
        return runs[0].name
    letters = zip(*(run.name for run in runs), strict=False)
    shared = "".join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, letters))
    return shared.removesuffix("seed=").rstrip("-_=. ") or runs[0].name
