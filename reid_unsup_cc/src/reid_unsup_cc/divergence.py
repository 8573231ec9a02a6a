"""Divergences between features as distributions: equation 9, and "hardest" in equation 6.

The paper compares features by a Kullback-Leibler divergence and does not say of which
distributions. For vectors of length R in d dimensions with cosine c, and a temperature T,
``KL(softmax(a / T) || softmax(b / T))`` is close to ``(1 - c) R^2 / (d T^2)``: of unit vectors at
T = 1 nearly nothing, of vectors behind batch norm (R^2 about d) of the order of 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import Embedded, at_least_float32, full_precision
from reid_unsup_cc.settings import Space


def log_distributions(embedded: Embedded, space: Space, temperature: float) -> Tensor:
    """Return features as log-probabilities ``B D``, at least float32.

    Args:
        embedded: the embedding's vectors.
        space: ``bn`` (vectors behind the neck), ``unit``, or ``unit_tau`` (unit vectors divided by
            ``temperature``).
        temperature: τ.
    """
    if space == "bn":
        return F.log_softmax(at_least_float32(embedded.neck), 1)
    scale = temperature if space == "unit_tau" else 1.0
    return F.log_softmax(at_least_float32(embedded.unit) / scale, 1)


def divergences(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(first || second) of every row, ``B``.

    Args:
        first, second: log-probabilities ``B D``.
    """
    return (first.exp() * (first - second)).sum(1)


def self_identity(log_probabilities: Tensor, groups: Tensor) -> Tensor:
    """Return the self-identity constraint L_s (equation 9).

    The sum over all ordered pairs of images of one person, divided by the number of images: pairs
    of an image with itself count 0. With P * K images of S + 1 clothes each that is the equation;
    groups may differ in size.

    Args:
        log_probabilities: ``B D``.
        groups: int64 ``B``, below ``B``: rows with equal numbers show one person in other clothes.
    """
    rows = len(groups)
    with full_precision(log_probabilities):
        probabilities = log_probabilities.exp()
        sizes = torch.zeros_like(log_probabilities[:, 0]).index_add(
            0, groups, torch.ones_like(log_probabilities[:, 0])
        )

        def deviations(values: Tensor) -> Tensor:
            sums = torch.zeros_like(values).index_add(0, groups, values)
            return values - (sums / sizes.clamp(min=1)[:, None])[groups]

        # sum_{a,b} <p_a, log p_a - log p_b> = n sum_a <p_a, log p_a - their mean>, and what is
        # common to all of a group may be taken from p_a too: equal features give 0, not rounding.
        inner = (deviations(probabilities) * deviations(log_probabilities)).sum(1)
        return (sizes[groups] * inner).sum() / rows
