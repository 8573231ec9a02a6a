"""The exact mean over all single-shot galleries, in place of random draws.

A gallery shows of every identity one image, each with the same chance and independently of the
others. A match at some closeness then has rank ``1 + N``, where ``N`` counts the other identities
whose image is closer: a sum of independent yes-or-no draws (Poisson-binomial), identity ``i`` with
the share of its images that are closer. The match itself is one of the query's, each as likely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.labels import BoolArray, IntArray


@dataclass(frozen=True)
class ExpectedRank:
    """How likely each rank of a query's only match is.

    Args:
        chances: float64, of ranks 1, 2, ...; they sum to 1.
        tied: whether a match is exactly as close as another image.
    """

    chances: NDArray[np.float64]
    tied: bool

    def measures(self) -> tuple[float, float, float, float]:
        """Return the expected rank, reciprocal rank, trapezoid AP and INP.

        With one match at rank ``r``, AP and INP are ``1 / r``; the trapezoid AP is ``1 / (2 r)``,
        but 1 where ``r = 1``.
        """
        ranks = np.arange(1, len(self.chances) + 1)
        reciprocal = float((self.chances / ranks).sum())
        trapezoid = (reciprocal + float(self.chances[0])) / 2
        return float((self.chances * ranks).sum()), reciprocal, trapezoid, reciprocal

    def reached(self, max_rank: int) -> NDArray[np.float64]:
        """Return the chance that the match is at rank ``k`` or before, ``k = 1 .. max_rank``."""
        chances = np.zeros(max_rank, np.float64)
        shown = self.chances[:max_rank]
        chances[: len(shown)] = shown
        return np.cumsum(chances)


def expected_rank(
    row: NDArray[np.floating[Any]],
    identities: IntArray,
    own: IntArray,
    junk: BoolArray,
    hidden: BoolArray | None = None,
) -> ExpectedRank:
    """Return the distribution of the rank of a query's match over all single-shot galleries.

    Args:
        row: ``G``, similarities of one query to the gallery; higher is closer, and of two equal
            ones the first is closer.
        identities: int64 ``G``, identities numbered from 0.
        own: gallery indices of the query's identity, ascending.
        junk: which of ``own`` are junk; at least one must not be.
        hidden: bool ``G``, images that the query may not see.
    """
    matches = own[~junk]
    others = np.ones(len(row), np.bool_) if hidden is None else ~hidden
    others[own] = False
    rivals = np.flatnonzero(others)
    _, code, sizes = np.unique(identities[rivals], return_inverse=True, return_counts=True)

    together = np.concatenate([matches, rivals])
    order = np.lexsort((together, -row[together]))
    is_match = order < len(matches)
    # Of every match, closest first, how many images of each other identity are closer.
    behind = np.cumsum(is_match)[~is_match]
    closer = np.zeros((len(matches) + 1, len(sizes)), np.int64)
    np.add.at(closer, (behind, code[order[~is_match] - len(matches)]), 1)
    closer = np.cumsum(closer, axis=0)[:-1]

    chances = _sums_of_draws(closer / sizes).mean(axis=0)
    tied = bool(np.isin(row[matches], row[rivals]).any())
    return ExpectedRank(chances, tied)


def _sums_of_draws(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how likely each number of successes is, ``M (I + 1)``, of draws with ``M I``."""
    # Draws that never succeed change nothing, and of a good model most never do.
    chances = chances[:, (chances > 0).any(axis=0)]
    sums = np.zeros((len(chances), chances.shape[1] + 1), np.float64)
    sums[:, 0] = 1.0
    for done, chance in enumerate(chances.T, 1):
        success = sums[:, :done] * chance[:, None]
        sums[:, :done] -= success
        sums[:, 1 : done + 1] += success
    return sums
