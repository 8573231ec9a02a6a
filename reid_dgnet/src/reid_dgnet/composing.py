"""Whose codes are put together, and the generator that does it (section 3.1, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reid_dgnet.networks.structure import to_grey


def anchor_rows(pid: Tensor, count: int) -> Tensor:
    """Return the rows of a batch that are composed with each other: int64, an even number.

    First come rows of different identities, one of each in the order of the batch, then their
    second rows, and so on, so that few partners are the same person.

    Args:
        pid: int64 ``B``.
        count: how many at most.
    """
    rows = torch.arange(len(pid), device=pid.device)
    before = (pid[:, None] == pid[None, :]) & (rows[None, :] < rows[:, None]) & (pid >= 0)[:, None]
    order = torch.argsort(before.sum(1), stable=True)
    return order[: min(count, len(pid)) // 2 * 2]


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
    ahead = (rows[None, :] - anchors[:, None] - 1) % len(pid)  # the anchor itself comes last
    itself = rows[None, :] == anchors[:, None]
    same = (pid[None, :] == pid[anchors][:, None]) & (pid >= 0)[None, :] | itself
    return ahead.masked_fill(~same, len(pid)).argmin(1)


@dataclass(frozen=True)
class Generator:
    """The generative module: E_s, G, and the MLPs between the appearance code and G.

    Args:
        structure, decoder, parameters: its networks.
    """

    structure: nn.Module
    decoder: nn.Module
    parameters: nn.Module

    def encode(self, images: Tensor) -> Tensor:
        """Return structure codes of normalised images ``B 3 H W``."""
        code: Tensor = self.structure(to_grey(images))
        return code

    def encode_frozen(self, images: Tensor) -> Tensor:
        """Return structure codes by a copy of E_s whose weights get no gradient."""
        fixed = {name: value.detach() for name, value in self.structure.named_parameters()}
        code: Tensor = torch.func.functional_call(self.structure, fixed, (to_grey(images),))
        return code

    def compose(self, structure: Tensor, appearance: Tensor) -> Tensor:
        """Return images ``B 3 H W`` of structure and appearance codes, row by row."""
        images: Tensor = self.decoder(structure, *self.parameters(appearance))
        return images
