"""Batch normalisation over several ranks: the statistics of all rows from those of every share."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from reid_core.machine import ranks

SHARES = [(0, 12, 12), (0, 0, 12), (0, 5, 12), (0, 1, 12)]
"""Where the first rank's rows begin, where they end, and where the second's do."""


def moments(shares: list[Tensor], patch: pytest.MonkeyPatch) -> list[tuple[Tensor, ...]]:
    """Return what every rank computes, as if all had been asked at once."""
    sent: list[Tensor] = []

    def send(rows: Tensor) -> Tensor:
        sent.append(rows)
        return rows

    patch.setattr(ranks, "gather", send)
    for share in shares:
        ranks._moments(share)
    patch.setattr(ranks, "gather", lambda _: torch.cat(sent))
    return [ranks._moments(share) for share in shares]


@pytest.mark.parametrize("cuts", SHARES)
@pytest.mark.parametrize("mean", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("spread", [1.0, 0.1, 0.0])
def test_moments_of_shares_are_those_of_the_whole(
    cuts: tuple[int, ...], mean: float, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.randn(12, 3, 2, generator=torch.Generator().manual_seed(0)) * spread + mean
    shares = [rows[begin:end] for begin, end in pairwise(cuts)]
    exact = torch.var_mean(rows.double(), [0, 2], correction=0)
    for found in moments(shares, monkeypatch):
        assert found[0].double().allclose(exact[1], rtol=1e-6, atol=1e-6)
        assert found[1].double().allclose(exact[0], rtol=1e-3, atol=1e-12 * mean**2)
        assert found[2].tolist() == [24.0] * 3
