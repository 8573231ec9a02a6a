"""A plugin under test: how the checks of the conformance suite assemble it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid_core.contract.plugin import Plugin
from reid_core.loop.assembly import Assembly
from reid_core.testing.probe_plugins import PROBES, RIVAL
from reid_core.testing.tiny import tiny_assembly


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
    """

    name: str
    cache: Path
    folder: Path
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, type[Plugin]] = field(default_factory=dict)
    waits: int = 0
    per_rank: Sequence[str] = ()

    def assemble(
        self, *others: str, reverse: bool = False, **sections: Mapping[str, Any]
    ) -> Assembly:
        """Assemble a tiny run of the plugin and others, in this order or the reverse one."""
        names = (*others, self.name) if reverse else (self.name, *others)
        classes = {**PROBES, **RIVAL, **self.classes}
        return tiny_assembly(names, self.settings, sections, cache=self.cache, classes=classes)

    @property
    def has_own_role(self) -> bool:
        """Whether it claims a slot or makes labels, and so cannot be inert."""
        plugin = self.assemble().plugins[self.name]
        return bool(plugin.claims) or hasattr(plugin, "reid_pseudo_labels")
