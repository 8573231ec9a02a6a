"""What is known while a model runs: images, fields, outputs, and vectors on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from reid_core.contract.model import Embedding
from reid_core.contract.vectors import Embedded, vector_from
from reid_core.errors import UnknownNameError

Scope = Callable[[str], AbstractContextManager[None]]
"""Opens the random scope of a part of the model, by its name."""


def no_scope(name: str) -> AbstractContextManager[None]:
    """Open no random scope: nothing is drawn where a model is only looked at."""
    return nullcontext()


@dataclass
class Values:
    """Values by name.

    Args:
        known: images, fields and outputs; outputs are added with `add`.
        embeddings: declarations by name.
        heads: their modules, called once each, when somebody reads a vector of theirs.
        scope: opens the random scope of a part of the model.
        frames: of every sample.
        of_frames: names of what has a row per frame; the rest has one per sample.
    """

    known: dict[str, Tensor]
    embeddings: Mapping[str, Embedding]
    heads: Mapping[str, nn.Module] | nn.ModuleDict
    scope: Scope = no_scope
    frames: int = 1
    of_frames: Collection[str] = ()
    _embedded: dict[str, Embedded] = field(default_factory=dict)

    def get(self, name: str) -> Tensor | None:
        """Return a value, or None where there is none of the name."""
        if name in self.known:
            return self.known[name]
        return vector_from(name, self.embedded, self.embeddings)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __getitem__(self, name: str) -> Tensor:
        value = self.get(name)
        if value is None:
            raise UnknownNameError(f"there is no '{name}' to read")
        return value

    def vectors(self) -> dict[str, Embedded]:
        """Return the vectors of all embeddings whose inputs are there."""
        found = {name: self.embedded(name) for name in self.heads}
        return {name: one for name, one in found.items() if one is not None}

    def embedded(self, name: str) -> Embedded | None:
        """Return an embedding's vectors, or None where its input is not there."""
        if name not in self._embedded and name in self.heads:
            read = self.embeddings[name].reads
            raw = self.get(read)
            if raw is None:
                return None
            frames = self.frames if read in self.of_frames else None
            with self.scope(name):
                self._embedded[name] = self.heads[name](raw, frames)
        return self._embedded.get(name)
