"""Retrieval by one part of the feature at a time (paper, figure 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reid_core import Embedder
from reid_core.evaluation.evaluating import Evaluator
from reid_retrieval.results import RetrievalResult


@dataclass(frozen=True)
class PartResult:
    """What one embedding, or all together, retrieve.

    Args:
        name: the embedding, or ``all``.
        dim: length of the feature.
        result: under the evaluator's first protocol.
    """

    name: str
    dim: int
    result: RetrievalResult


def evaluate_parts(
    embedder: Embedder, evaluator: Evaluator, advance: Callable[[int], None] | None = None
) -> list[PartResult]:
    """Evaluate every deployed embedding alone, and all together as they are deployed.

    Every part is a model of its own, whose features are computed, mirrored and compared as those of
    any model are: all images are embedded once per part.

    Args:
        embedder: on the evaluator's device.
        evaluator: the data set, the protocol, and how features are compared.
        advance: is told how many more images are done.
    """
    parts = {name: embedder.only([name]) for name in embedder.embeddings}
    return [
        PartResult(name, part.dim, evaluator.evaluate(part, advance).results[0])
        for name, part in {**parts, "all": embedder}.items()
    ]
