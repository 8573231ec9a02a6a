"""Layouts in which weights are published: where the network is, and what its names are.

A layout is data: the entries of the file under which the state lies, the prefixes that its names
may have, what belongs to training alone, and how names and tensors become those of timm. Those of
other projects come with installed distributions, through the group ``reid.layouts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reid_core.moved import answer_former_names
from reid_core.weights import LAYOUTS_GROUP, offered

Renamed = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Layout:
    """How a project's files are made.

    Args:
        name: for ``model.importer``.
        folder: entry of the file under which the network's state lies; none takes the usual ones.
        prefixes: what the names of the network may begin with, in any order and number.
        required: a prefix without which a name does not belong to the network.
        heads: what names of classifiers and the like begin with, prefixes gone.
        beside: patterns of names, as they stand in the file, that are no part of the network.
        renamed: turns the names and the tensors into timm's.
        recognised: whether a file's content shows the layout.
    """

    name: str
    folder: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("module.", "model.", "backbone.", "base.", "encoder.trunk.")
    required: str = ""
    heads: tuple[str, ...] = ("fc.", "classifier.", "head.", "bottleneck.")
    beside: tuple[str, ...] = ()
    renamed: Renamed = lambda state: state
    recognised: Callable[[Mapping[str, Any]], bool] = lambda content: False

    def unpacked(self, content: Mapping[str, Any], usual: Sequence[str]) -> Mapping[str, Any]:
        """Return the part of a file's content that holds the network's state."""
        for name in self.folder or usual:
            if isinstance(content.get(name), Mapping):
                inner: Mapping[str, Any] = content[name]
                return inner
        bare = any(isinstance(value, Tensor) for value in content.values())
        return {} if self.folder and not bare else content

    def stripped(
        self, state: Mapping[str, Tensor], wanted: Mapping[str, str]
    ) -> tuple[dict[str, Tensor], list[str]]:
        """Return the network's entries under their bare names, and what is left aside.

        Args:
            state: as in the file.
            wanted: names of the network's entries, as files have them.
        """
        kept: dict[str, Tensor] = {}
        left: list[str] = []
        names = frozenset(wanted.values())
        for name, value in state.items():
            foreign = self.required and self.required not in name
            if foreign or any(re.match(pattern, name) for pattern in self.beside):
                left.append(name)
            else:
                kept[self._bare(name, names)] = value
        return self.renamed(kept), left

    def _bare(self, name: str, wanted: frozenset[str]) -> str:
        while name not in wanted:
            prefix = next((p for p in self.prefixes if name.startswith(p)), None)
            if prefix is None:
                break
            name = name[len(prefix) :]
        return name


PLAIN = Layout("plain")
"""A state dict, in any of the usual wrappers."""


def layouts() -> dict[str, Layout]:
    """Return the layouts by name: the plain one, and those that installed distributions know."""
    return {PLAIN.name: PLAIN, **offered(LAYOUTS_GROUP, "layouts of weights")}


def layout_of(content: Mapping[str, Any]) -> Layout:
    """Return the first layout that a file's content shows; the plain one where it shows none."""
    return next((one for one in layouts().values() if one.recognised(content)), PLAIN)


answer_former_names(__name__)
