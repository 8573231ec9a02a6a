"""A plugin under test: how the checks of the conformance suite assemble it, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reid_core.contract.plugin import Plugin
from reid_core.errors import ConflictError
from reid_core.loop.assembly import Assembly
from reid_core.loop.state import trainable_state
from reid_core.testing.probe_plugins import PROBES, RIVAL
from reid_core.testing.tiny import Recorder, tiny_assembly


@dataclass(frozen=True)
class Skipped:
    """What a check did not look at.

    Args:
        reason: why, in one line.
        part: which part of the check; empty where it is all of it.
    """

    reason: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}" if self.part else self.reason


@dataclass(frozen=True)
class Beside:
    """What became of an epoch with another plugin.

    Args:
        conflict: the message where the two do not go together; nothing was trained then.
        trace: the losses of every step.
        state: parameters and buffers afterwards.
    """

    conflict: str = ""
    trace: Sequence[Mapping[str, float]] = ()
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Shared:
    """What checks of one subject make once for all of them."""

    untouched: Assembly | None = None
    alone: Recorder | None = None
    beside: dict[str, Beside] = field(default_factory=dict)

    def forget(self) -> None:
        """Let go of everything."""
        self.untouched = self.alone = None
        self.beside.clear()


@dataclass(frozen=True)
class Subject:
    """A plugin under test.

    Args:
        name: the plugin.
        cache, folder: a cache folder and an empty folder for files.
        settings: configuration over the tiny run's: sections, and ``plugins.<name>``.
        classes: plugin classes that need no entry point.
        waits: how often a step may wait for the device.
        per_rank: patterns (fnmatch) of loss terms for which the rows of a rank meet each other.
        skipped: grows by what checks do not look at.
        shared: what other checks of the same subject have made.
    """

    name: str
    cache: Path
    folder: Path
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, type[Plugin]] = field(default_factory=dict)
    waits: int = 0
    per_rank: Sequence[str] = ()
    skipped: list[Skipped] = field(default_factory=list)
    shared: Shared = field(default_factory=Shared, repr=False, compare=False)

    def assemble(
        self, *others: str, reverse: bool = False, **sections: Mapping[str, Any]
    ) -> Assembly:
        """Assemble a tiny run of the plugin and others, in this order or the reverse one."""
        names = (*others, self.name) if reverse else (self.name, *others)
        classes = {**PROBES, **RIVAL, **self.classes}
        return tiny_assembly(names, self.settings, sections, cache=self.cache, classes=classes)

    def skip(self, reason: str, part: str = "") -> None:
        """Say what is not looked at, and why."""
        self.skipped.append(Skipped(reason, part))

    @property
    def untouched(self) -> Assembly:
        """The plugin's run, for those who look at it, and neither train nor change it."""
        if self.shared.untouched is None:
            self.shared.untouched = self.assemble()
        return self.shared.untouched

    @property
    def alone(self) -> Recorder:
        """The plugin's run after its two epochs, for those who change nothing in it."""
        if self.shared.alone is None:
            # Fused attention sums in another order on every device: the same sums are compared.
            with sdpa_kernel(SDPBackend.MATH):
                trainer = Recorder(self.assemble())
                trainer.fit()
            self.shared.alone = trainer
        return self.shared.alone

    def beside(self, other: str) -> Beside:
        """Return what became of an epoch with another plugin, named after this one."""
        if other not in self.shared.beside:
            self.shared.beside[other] = self._beside(other)
        return self.shared.beside[other]

    def _beside(self, other: str) -> Beside:
        try:
            trainer = Recorder(self.assemble(other))
        except ConflictError as error:
            return Beside(conflict=str(error))
        trainer.train_epoch()
        return Beside("", trainer.trace, trainable_state(trainer.assembly.model))

    @property
    def own_role(self) -> str:
        """Why it cannot be inert: it claims a slot or makes labels. Empty where it does neither."""
        plugin = self.untouched.plugins[self.name]
        if plugin.claims:
            return "it claims " + ", ".join(f"'{slot}'" for slot in plugin.claims)
        return "it makes labels" if hasattr(plugin, "reid_pseudo_labels") else ""
