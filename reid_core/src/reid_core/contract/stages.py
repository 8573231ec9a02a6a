"""Stages: runs inside the run, and starts from them. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from reid_core.contract.step import MAIN
from reid_core.contract.words import check_names

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from reid_core.config import RunConfig
    from reid_core.contract.encoder import TrainedModel
    from reid_core.contract.samples import Source


@dataclass(frozen=True)
class Stage:
    """A run inside the run: a parser, a teacher, a pre-training.

    Made by the same trainer, with exactly the plugins and the data named here, and stored under a
    key of its settings, its data, and the versions and the code of its plugins and of its owner, so
    that it is made once.

    Args:
        name: ``owner/name``.
        plugins: the plugins that it runs: a subclass of `Plugin`, or None for the installed plugin
            of the name.
        settings: configuration by section, plugin sections under ``plugins``. What it leaves out of
            ``data``, ``augment``, ``model``, ``optim`` and ``engine`` is the run's; everything else
            is the core's default.
        source: the run's source that it trains on.
        data: a data set or source in place of ``source``, as after ``--data``.
        identities: whether it may see identities.
    """

    name: str
    plugins: Mapping[str, Callable[[str, Any], object] | None] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = MAIN
    data: str | None = None
    identities: bool = True


@dataclass(frozen=True)
class Start:
    """Let parameters start from a stage's, by name.

    Args:
        stage: where they come from.
        entries: patterns (fnmatch) of entries of the state dict, ``encoder.*`` say. Each must match
            something, and all that it matches in either model must have the same name and shape in
            both.
        remedy: what the user can set to do without it, such as ``set -s san.start=none``.
        optional: patterns of entries that are copied, too, where both models have them: what stands
            behind the encoder and should fit its new weights, a neck's statistics say. Of what
            ``entries`` match they name what may differ; a line tells what started nothing.
    """

    stage: Stage
    entries: tuple[str, ...] = ("encoder.*",)
    remedy: str = ""
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self, "entries", "optional")


class StageResult(Protocol):
    """A finished stage."""

    @property
    def name(self) -> str:
        """The stage."""

    @property
    def key(self) -> str:
        """What identifies its content."""

    @property
    def folder(self) -> Path:
        """Its configuration, metrics and checkpoint."""

    @property
    def model(self) -> TrainedModel:
        """Its model in evaluation mode, on the run's device."""

    @property
    def config(self) -> RunConfig:
        """Its configuration."""

    @property
    def source(self) -> Source:
        """What it was trained on."""

    def module(self, branch: str) -> nn.Module:
        """Return a branch's module, or the encoder.

        Raises:
            PluginError: there is no such branch.
        """

    def embedder(self) -> nn.Module:
        """Return the stage's deployed part."""
