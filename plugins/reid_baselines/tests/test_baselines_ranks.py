"""Means over rows that count: of several ranks they are those of one process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_baselines.bot import Bot
from reid_baselines.cal import Cal, CalSettings
from reid_baselines.cal_modules import OutfitClassifier
from reid_core import Plugin

VECTORS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 2, -1, -1, -1])
"""The second half, the second rank's rows, has one row that counts."""


def values(plugin: Plugin, module: nn.Module, update: str, rank: int | None) -> list[float]:
    """Return the terms' values on one of two ranks, or of one process."""
    rows = slice(None) if rank is None else slice(4 * rank, 4 * rank + 4)

    def gather(mine: Tensor) -> Tensor:
        whole = VECTORS if mine.is_floating_point() else LABELS
        assert torch.equal(mine, whole[rows])
        return whole

    batch = SimpleNamespace(pid=LABELS[rows], clothes=LABELS[rows])
    view = SimpleNamespace(batch=batch, output=lambda name: VECTORS[rows])
    step: Any = SimpleNamespace(update=update, epoch=0, main=view, passes={"cal/seen": view})
    ctx: Any = SimpleNamespace(gather=gather, module=lambda name: module)
    return [term.value.item() for term in plugin.reid_losses(ctx, step)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("update", ["main", "cal/learn"])
def test_outfits_count_over_all_ranks(update: str) -> None:
    plugin = Cal("cal", CalSettings(begin=0))
    module = OutfitClassifier(5, [0, 0, 1, 2])
    alone = values(plugin, module, update, None)
    assert alone
    assert alone == values(plugin, module, update, 0) == values(plugin, module, update, 1)


def test_centres_count_over_all_ranks() -> None:
    plugin, module = Bot("bot"), nn.Embedding(4, 5)
    alone = values(plugin, module, "main", None)
    assert len(alone) == 2
    assert alone == values(plugin, module, "main", 0) == values(plugin, module, "main", 1)
