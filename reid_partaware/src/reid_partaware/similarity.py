"""How alike the parts of one feature are: the part similarity matrix (paper, figure 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_core import ConfigError, Embedder, Sample, inner_products
from reid_core.evaluation.extraction import extract


def part_similarity(parts: Tensor) -> Tensor:
    """Return the cosine of every part of an image with every other.

    Args:
        parts: ``B S D``.

    Returns:
        ``B S S``, symmetric, 1 on the diagonal; in 0 .. 1 where the parts are not negative.
    """
    unit = F.normalize(parts.float(), dim=2)
    return inner_products(unit)


def compared_parts(embedder: Embedder, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the embeddings to compare; all where none is named.

    Raises:
        ConfigError: fewer than two, or one that the model has not.
    """
    chosen = tuple(name.strip() for name in names) or tuple(embedder.embeddings)
    missing = [name for name in chosen if name not in embedder.embeddings]
    if missing or len(chosen) < 2:
        there = ", ".join(embedder.embeddings)
        raise ConfigError(
            f"a part similarity needs two or more embeddings of the model (it has: {there})"
            + (f"; there is no '{missing[0]}'" if missing else "")
        )
    return chosen


def mean_part_similarity(
    embedder: Embedder,
    samples: Sequence[Sample],
    device: torch.device,
    chosen: Sequence[str],
    batch_size: int = 64,
) -> NDArray[np.float64]:
    """Average the part similarity matrix over images.

    The parts are the vectors that the embeddings read, before their necks: for PCB the six stripes
    pooled from the last map, as in the paper.

    Args:
        embedder: with several embeddings; on ``device``.
        samples: the images (the paper: query and gallery), one at least.
        device: where the embedder is.
        chosen: the embeddings to compare, `compared_parts`.
        batch_size: images per forward.

    Returns:
        The matrix ``S S``.

    Raises:
        ConfigError: vectors of different lengths.
    """

    def compare(images: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
        vectors = embedder.vectors(images, fields)
        raw = [vectors[name].raw for name in chosen]
        lengths = {name: part.shape[1] for name, part in zip(chosen, raw, strict=True)}
        if len(set(lengths.values())) > 1:
            raise ConfigError(
                f"parts of different lengths cannot be compared: {lengths}; choose some "
                "with --embed"
            )
        return part_similarity(torch.stack(raw, 1)).flatten(1)

    width = len(chosen) ** 2
    rows = extract(embedder, samples, device, batch_size=batch_size, compute=compare, width=width)
    return np.asarray(rows.astype(np.float64).mean(axis=0)).reshape(len(chosen), len(chosen))


def summary(matrix: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean and the smallest cosine of different parts, and the mean of neighbours.

    Args:
        matrix: ``S S``.
    """
    upper = matrix[np.triu_indices(len(matrix), 1)]
    return {
        "mean": float(upper.mean()),
        "adjacent": float(np.diag(matrix, 1).mean()),
        "smallest": float(upper.min()),
    }
