"""Retrieval by one part of the feature at a time (paper, figure 13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from reid_core.model.blocks import EmbeddingHead
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels
from reid_retrieval.retrieval import evaluate

if TYPE_CHECKING:
    from reid_core import DataSet, Protocol, Sample
    from reid_core.model.embedder import Embedder
    from reid_retrieval.results import RetrievalResult


@dataclass(frozen=True)
class PartResult:
    """What one embedding, or all together, retrieve.

    Args:
        name: the embedding, or ``all``.
        dim: length of the feature.
        result: under the protocol.
    """

    name: str
    dim: int
    result: RetrievalResult


def evaluate_parts(
    embedder: Embedder,
    dataset: DataSet,
    protocol: Protocol,
    device: torch.device,
    batch_size: int = 128,
    advance: Callable[[int], None] | None = None,
) -> list[PartResult]:
    """Evaluate every deployed embedding alone, and all together as they are deployed.

    Args:
        embedder: on ``device``.
        dataset: with query and gallery.
        protocol: how retrieval is scored.
        device: where the embedder is.
        batch_size: images per forward.
        advance: is told how many more images are done.
    """
    from reid_core.evaluation.extraction import extract

    heads = cast(Mapping[str, EmbeddingHead], embedder.heads)
    dims = {name: heads[name].dim for name in embedder.embeddings}

    def vectors(images: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
        found = embedder.vectors(images, fields)
        chosen = [
            getattr(found[name], declaration.test_vector).float() * declaration.test_weight
            for name, declaration in embedder.embeddings.items()
        ]
        return torch.cat(chosen, 1)

    def features(samples: Sequence[Sample]) -> FeatureSet:
        rows = extract(
            embedder, samples, device, batch_size=batch_size, compute=vectors, advance=advance
        )
        return FeatureSet(rows, Labels.of_samples(samples))

    query, gallery = features(dataset.query), features(dataset.gallery)
    found, start = [], 0
    for name, dim in dims.items():
        part = slice(start, start + dim)
        one = [
            FeatureSet(np.ascontiguousarray(s.features[:, part]), s.labels)
            for s in (query, gallery)
        ]
        found.append(PartResult(name, dim, evaluate(one[0], one[1], protocol)))
        start += dim
    return [*found, PartResult("all", start, evaluate(query, gallery, protocol))]
