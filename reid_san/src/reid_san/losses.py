"""The losses on the decoder: reconstruction, and the Triplet ReID constraints (equation 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def reconstruction(found: Tensor, wanted: Tensor) -> Tensor:
    """Return L_Rec: the mean absolute error, in float32.

    Args:
        found, wanted: ``B 3 H W``, -1 .. 1.
    """
    return (found.float() - wanted).abs().mean()


@dataclass(frozen=True)
class Triples:
    """Rows that are compared: ``N`` each.

    Args:
        anchor, positive, negative: int64.
        valid: float, 0 for an anchor without a positive or a negative.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    valid: Tensor


def random_triples(labels: Tensor, generator: torch.Generator | None = None) -> Triples:
    """Draw a positive and a negative for every row, evenly among those there are.

    Args:
        labels: int64 ``B``; rows of ``-1`` are neither anchor, positive nor negative.
        generator: on the device of the labels.
    """
    rows = torch.arange(len(labels), device=labels.device)
    known = labels >= 0
    usable = known[:, None] & known[None, :]
    same = labels[:, None] == labels[None, :]
    positives = usable & same & (rows[:, None] != rows[None, :])
    negatives = usable & ~same
    # The largest of independent uniform numbers is any of the candidates with equal probability.
    shape = (2, len(labels), len(labels))
    numbers = torch.rand(shape, generator=generator, device=labels.device)
    return Triples(
        rows,
        numbers[0].where(positives, -1.0).argmax(1),
        numbers[1].where(negatives, -1.0).argmax(1),
        (positives.any(1) & negatives.any(1)).float(),
    )


def fixed_triples(rows: int, instances: int, block: int, device: torch.device | str) -> Triples:
    """Return the public code's triples: one per identity but the last, at fixed places.

    The negative is always of the next identity in the batch, whose rows stand side by side.

    Args:
        rows: of the batch, a multiple of ``instances``.
        instances: rows per identity, four in the code.
        block: number of the decoder's block, from 1; each has places of its own.
        device: where the batch is.
    """
    first = torch.arange(0, rows - instances, instances, device=device)
    place = (block - 1) % instances
    negative = first + instances + (0 if block == instances else place)
    positive = first + (place + 1) % instances
    return Triples(first + place, positive, negative, torch.ones_like(first, dtype=torch.float32))


def map_distance(maps: Tensor, first: Tensor, second: Tensor, norm: str) -> Tensor:
    """Return squared distances of feature maps, float32 ``N``.

    Args:
        maps: ``B C H W`` of any precision; the sums are in float32.
        first, second: rows, ``N`` each.
        norm: ``hw`` divides by the places (equation 1), ``chw`` by places and channels.
    """
    maps = maps.float()
    squares = (maps[first] - maps[second]).square()
    return squares.mean((1, 2, 3)) if norm == "chw" else squares.sum(1).mean((1, 2))


def triplet_reid(maps: Tensor, triples: Triples, margin: float, norm: str, reduce: str) -> Tensor:
    """Return L_TR of one block (equation 1).

    Args:
        maps: ``B C H W``.
        triples: which rows are compared.
        margin: m.
        norm: see `map_distance`.
        reduce: ``mean`` or ``sum`` over the valid anchors.
    """
    near = map_distance(maps, triples.anchor, triples.positive, norm)
    far = map_distance(maps, triples.anchor, triples.negative, norm)
    hinges = (near - far + margin).clamp(min=0) * triples.valid
    if reduce == "sum":
        return hinges.sum()
    return hinges.sum() / triples.valid.sum().clamp(min=1)
