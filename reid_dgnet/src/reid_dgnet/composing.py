"""Whose codes are put together, and the generator that does it (section 3.1, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reid_core import RunContext
from reid_dgnet.networks.structure import to_grey


def anchor_rows(pid: Tensor, count: int) -> Tensor:
    """Return the rows of a batch that are composed with each other: int64, an even number.

    Anchor ``k`` of the first half and anchor ``k`` of the second are each other's partners, the
    paper's i and j, and are always different people (section 3.1: ``y_i != y_j``).

    One row of every identity comes first, in the order of the batch, then their second rows, and so
    on; of the first ``count`` of them, identities lie side by side, so that half their number apart
    is another one, unless more than half are of one identity. Then rows of others stand in for the
    partners that it lacks, some more than once.

    Args:
        pid: int64 ``B``, of two identities or more; ``-1`` is somebody of his own.
        count: how many at most, at least 2.
    """
    rows = torch.arange(len(pid), device=pid.device)
    itself = rows[:, None] == rows[None, :]
    same = (pid[:, None] == pid[None, :]) & (pid >= 0)[:, None] | itself
    earlier = (same & (rows[None, :] < rows[:, None])).sum(1)
    chosen = torch.argsort(earlier, stable=True)[: min(count, len(pid)) // 2 * 2]
    leader = same.int().argmax(1)  # the first row of the same identity
    chosen = chosen[torch.argsort(leader[chosen], stable=True)]
    first, second = chosen.chunk(2)
    return torch.cat([first, torch.where(same[first, second], _next(~same, first), second)])


def partner_rows(anchors: Tensor) -> Tensor:
    """Return every anchor's partner: the two halves of the anchors are the paper's i and j."""
    return anchors.roll(len(anchors) // 2)


def positive_rows(pid: Tensor, anchors: Tensor) -> Tensor:
    """Return another row of each anchor's identity, or the anchor where there is none.

    It is the next such row of the batch, beginning again at its start.

    Args:
        pid: int64 ``B``; ``-1`` has no identity and so no other row.
        anchors: int64 ``N``, rows of the batch.
    """
    rows = torch.arange(len(pid), device=pid.device)
    itself = rows[None, :] == rows[:, None]
    return _next((pid[None, :] == pid[:, None]) & (pid >= 0)[None, :] | itself, anchors)


def _next(wanted: Tensor, start: Tensor) -> Tensor:
    """Return the next row that is wanted, ``N``, beginning again at the batch's start.

    Args:
        wanted: bool ``B B``, by the row from which one looks.
        start: int64 ``N``, rows from which one looks; they themselves come last.
    """
    size = len(wanted)
    ahead = (torch.arange(size, device=start.device)[None, :] - start[:, None] - 1) % size
    return ahead.masked_fill(~wanted[start], size).argmin(1)


def called_frozen(module: nn.Module, images: Tensor) -> Any:
    """Return what a module makes of images, by a copy of it whose weights get no gradient."""
    fixed = {name: value.detach() for name, value in module.named_parameters()}
    return torch.func.functional_call(module, fixed, (images,))


@dataclass(frozen=True)
class Generator:
    """The generative module: E_s, G, and the MLPs between the appearance code and G.

    Args:
        structure, decoder, parameters: its networks.
    """

    structure: nn.Module
    decoder: nn.Module
    parameters: nn.Module

    @classmethod
    def of(cls, ctx: RunContext) -> Generator:
        """Return the generative module of a run."""
        return cls(
            *(ctx.module(f"dgnet/{part}") for part in ("structure", "decoder", "parameters"))
        )

    def encode(self, images: Tensor) -> Tensor:
        """Return structure codes of normalised images ``B 3 H W``."""
        code: Tensor = self.structure(to_grey(images))
        return code

    def encode_frozen(self, images: Tensor) -> Tensor:
        """Return structure codes by a copy of E_s whose weights get no gradient."""
        code: Tensor = called_frozen(self.structure, to_grey(images))
        return code

    def compose(self, structure: Tensor, appearance: Tensor) -> Tensor:
        """Return images ``B 3 H W`` of structure and appearance codes, row by row."""
        images: Tensor = self.decoder(structure, *self.parameters(appearance))
        return images
