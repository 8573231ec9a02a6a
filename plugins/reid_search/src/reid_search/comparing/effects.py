"""Compare models: effects with intervals, tables, and the same as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reid_core import ConfigError
from reid_search.comparing.models import Model, changes, check_alike
from reid_search.comparing.statistics import LEVEL, RESAMPLES, Difference, difference
from reid_search.comparing.stored import StoredRun
from reid_search.comparing.tables import (
    CameraRow,
    IdentityRow,
    by_camera_pair,
    by_identity,
    rows_as_data,
)


@dataclass(frozen=True)
class Effect:
    """What one model does against the first, by one measure.

    Args:
        model: its name.
        measure: ``rank1``, ``mAP`` or ``MRR``.
        found: in shares of 0 .. 1.
    """

    model: str
    measure: str
    found: Difference


@dataclass(frozen=True)
class Comparison:
    """Models side by side under one protocol.

    Args:
        label: of the protocol.
        text: its line, of the first model.
        models: the first one is what the others are compared with.
        effects: per other model and measure.
        identities, cameras: tables over all models.
    """

    label: str
    text: str
    models: tuple[Model, ...]
    effects: tuple[Effect, ...]
    identities: tuple[IdentityRow, ...]
    cameras: tuple[CameraRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        names = [model.name for model in self.models]
        return {
            "protocol": self.label,
            "text": self.text,
            "models": [
                {
                    "name": model.name,
                    "runs": [str(run.path) for run in model.runs],
                    "changes": changes(self.models[0], model),
                }
                for model in self.models
            ],
            "level": LEVEL,
            "resamples": RESAMPLES,
            "effects": [
                {"model": one.model, "measure": one.measure, **asdict(one.found)}
                for one in self.effects
            ],
            **rows_as_data(self.identities, self.cameras, names),
        }


def shared_labels(runs: Sequence[StoredRun], chosen: Sequence[str] = ()) -> list[str]:
    """Return the protocols to compare under: those chosen, otherwise what all were evaluated by.

    Raises:
        ConfigError: they have none in common.
        DataError: a chosen one is missing.
    """
    if chosen:
        for label in chosen:
            for run in runs:
                run.result(label)
        return list(chosen)
    shared = [label for label in runs[0].results if all(label in run.results for run in runs)]
    if not shared:
        listed = "; ".join(f"{run.path}: {', '.join(run.results)}" for run in runs)
        raise ConfigError(f"the runs were evaluated under different protocols ({listed})")
    return shared


def compare(models: Sequence[Model], label: str, *, resamples: int = RESAMPLES) -> Comparison:
    """Compare models with the first one of them, under one protocol.

    Args:
        models: two or more.
        label: of the protocol.
        resamples: of intervals and tests.

    Raises:
        ConfigError: there is one model, or the protocol lines differ.
        DataError: a result keeps no single queries.
    """
    if len(models) < 2:
        (only,) = models
        raise ConfigError(
            f"there is nothing to compare: {', '.join(str(run.path) for run in only.runs)} "
            f"{'is one model' if len(only.runs) == 1 else 'are seeds of one model'}; name a run "
            "of another"
        )
    check_alike(models, label)
    first, *others = models
    result = first.result(label)
    people = [one["pid"] for one in result.queries]
    # A bar over several models is not lowered: every other one is a question of its own.
    effects = [
        Effect(
            other.name,
            measure,
            difference(
                first.scores(label, measure),
                other.scores(label, measure),
                people,
                resamples=resamples,
            ),
        )
        for other in others
        for measure in result.measures
    ]
    return Comparison(
        label,
        result.content["text"],
        tuple(models),
        tuple(effects),
        tuple(by_identity(models, label)),
        tuple(by_camera_pair(models, label)),
    )
