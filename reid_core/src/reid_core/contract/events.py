"""Events of the loop, for `reid_observe`. Free of torch at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_core.config import RunConfig


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class RunBegan(Event):
    """A run has been resolved and built.

    Args:
        config: the resolved configuration.
        folder: the run's folder.
        facts: counts worth knowing (images, identities, parameters).
    """

    config: RunConfig
    folder: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class StepEnded(Event):
    """Some steps have been done; values are means over the steps since the last such event.

    Args:
        epoch, iteration: 0-based, of the last step.
        scalars: loss terms by name (``loss/...``), weights (``weight/...``), learning rates
            (``lr/...``), images per second and the share of waiting for data.
    """

    epoch: int
    iteration: int
    scalars: Mapping[str, float]


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch has ended, its checkpoint included."""

    epoch: int
    iteration: int


@dataclass(frozen=True)
class Evaluated(Event):
    """A model has been evaluated.

    Args:
        when: ``untrained``, ``epoch``, ``final``, or ``validation`` (on held-out identities).
        epoch, iteration: of the last step done, or of the epoch whose weights were selected; -1
            before the first.
        results: one mapping per protocol.
        metrics: numbers of plugins by name.
    """

    when: str
    epoch: int
    iteration: int
    results: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEnded(Event):
    """A run has ended.

    Args:
        folder: the run's folder.
        outcome: ``finished``, ``interrupted`` or ``failed``.
        facts: time, memory, throughput; the selected epoch and its score, where one was selected.
    """

    folder: Path
    outcome: str
    facts: Mapping[str, Any]
