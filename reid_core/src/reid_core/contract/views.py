"""What a step shows to plugins: its passes with their batches and outputs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from reid_core.contract.step import MAIN
from reid_core.contract.vectors import Embedded as Embedded, vector_from
from reid_core.contract.words import ByName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from reid_core.contract.batches import Batch
    from reid_core.contract.model import Embedding
    from reid_core.contract.samples import DataSet
    from reid_core.contract.step import Update


@dataclass(frozen=True)
class PassView:
    """One forward pass: what went in and what came out.

    Args:
        name: the pass.
        batch: its rows, with the fields that they carry.
        image: what the network saw, ``B 3 H W``.
        feats: outputs of encoder and branches by name.
        embedded: vectors by embedding.
        logits: identity logits ``B K`` by embedding, where a criterion ran.
        shared: whether losses of other plugins than the pass's owner should supervise it.
        declared: declarations of the embeddings by name.
    """

    name: str
    batch: Batch
    image: Tensor
    feats: Mapping[str, Tensor]
    embedded: Mapping[str, Embedded]
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    shared: bool = True
    declared: Mapping[str, Embedding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for attribute, kind in (
            ("feats", "output"),
            ("embedded", "embedding"),
            ("logits", "logits of the embedding"),
        ):
            values: ByName[Any] = ByName(getattr(self, attribute), kind, f"pass '{self.name}'")
            object.__setattr__(self, attribute, values)

    def output(self, name: str) -> Tensor:
        """Return an output, or a vector (``deployed:raw``), by name.

        Raises:
            UnknownNameError: the pass has none of the name; with those that it has.
        """
        found = self._vector(name)
        return self.feats[name] if found is None else found

    def embedding(self, name: str) -> Embedded:
        """Return an embedding's vectors by name; the error lists what there is."""
        return self.embedded[name]

    def has(self, *names: str) -> bool:
        """Return whether the pass carries all of these outputs, vectors and fields."""
        return all(
            name in self.feats or name in self.batch.fields or self._vector(name) is not None
            for name in names
        )

    def _vector(self, name: str) -> Tensor | None:
        return vector_from(name, self.embedded.get, self.declared)


_ASK = "ask step.update first, or loop over step.passes_with(...)"


@dataclass(frozen=True)
class StepView:
    """One update of one step, as a loss hook sees it.

    Args:
        declaration: the update's declaration.
        epoch, iteration: 0-based.
        passes: by name, in the order in which they ran.
        without: patterns of terms that the update leaves to another one.
    """

    declaration: Update
    epoch: int
    iteration: int
    passes: Mapping[str, PassView]
    without: Sequence[str] = ()

    def __post_init__(self) -> None:
        values: ByName[PassView] = ByName(self.passes, "pass", f"update '{self.update}'", _ASK)
        object.__setattr__(self, "passes", values)

    @property
    def update(self) -> str:
        """Name of the update; the core's is ``main``."""
        return self.declaration.name

    @property
    def main(self) -> PassView:
        """The pass ``main`` of the update ``main``."""
        return self.passes[MAIN]

    def wants(self, term: str) -> bool:
        """Return whether the update sums a term, so that an expensive one can be left out."""
        return matches(term, self.declaration.terms or ()) and not matches(term, self.without)

    def passes_with(self, *names: str) -> Iterator[PassView]:
        """Yield the shared passes that carry all of these outputs, vectors and fields.

        A loss that loops over them supervises generated images without knowing who made them.
        """
        for view in self.passes.values():
            if view.shared and view.has(*names):
                yield view


@dataclass(frozen=True)
class UpdateReport:
    """What an update did, without graph.

    Args:
        terms: value of every loss term, before its weight.
        weights: weight of every term; 0 for those left out.
        total: the update's loss.
        embedded: vectors of the first pass by supervised embedding, of all ranks.
        labels: identities of the first pass's rows, of all ranks; None where it has none.
    """

    terms: Mapping[str, Tensor]
    weights: Mapping[str, float]
    total: Tensor
    embedded: Mapping[str, Embedded] = field(default_factory=dict)
    labels: Tensor | None = None


@dataclass(frozen=True)
class Metric:
    """A number that a plugin measures of an evaluated model.

    Args:
        name: ``owner/name``.
        value: finite.
        smaller_is_better: whether a selection by it takes the smallest.
    """

    name: str
    value: float
    smaller_is_better: bool = False


class Outputs(Protocol):
    """Compute outputs of the evaluated model on test images."""

    def __call__(self, split: str, name: str) -> NDArray[np.float32]:
        """Return an output of all images of a split, in their order.

        Args:
            split: ``query`` or ``gallery``.
            name: of an output of the encoder or of a branch.

        Raises:
            PluginError: there is no such output, or it needs what test images do not carry.
        """


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation, as a hook that measures sees it.

    Args:
        when: ``untrained``, ``epoch``, ``final``, or ``validation`` (on held-out identities).
        dataset: what was evaluated on; the rows of the features are its samples.
        query, gallery: the deployed features ``N D``, float32.
        results: what stands under each protocol in ``results.json``.
        outputs: computes any output of the model on the images.
    """

    when: str
    dataset: DataSet
    query: NDArray[np.float32]
    gallery: NDArray[np.float32]
    results: Mapping[str, Mapping[str, Any]]
    outputs: Outputs


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name matches one of several fnmatch patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
