"""Poolings and necks: the parts between a map and an embedding that are deployed with it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.contract.model import POOLINGS, Embedding, Vector
from reid_core.contract.names import check_choice
from reid_core.contract.vectors import Embedded


class GlobalPool(nn.Module):
    """Pool a map ``B C H W`` to a vector ``B C``.

    Args:
        kind: ``avg``, ``max``, or ``gem``: the generalised mean with a learnt exponent that begins
            at 3 (Radenovic et al., TPAMI 2019).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        check_choice(kind, POOLINGS, "there is no pooling")
        self.kind = kind
        if kind == "gem":
            self.exponent = nn.Parameter(torch.tensor([3.0]))

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``B C``."""
        if self.kind == "gem":
            # Powers of float32, for those of bfloat16 are coarse; below 0 there are none.
            positive = feature.float().clamp(min=1e-6)
            return positive.pow(self.exponent).mean((2, 3)).pow(1 / self.exponent)
        return feature.amax((2, 3)) if self.kind == "max" else feature.mean((2, 3))

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_core.model.blocks:GlobalPool", "kwargs": {"kind": self.kind}}


def build_neck(kind: str, channels: int, dim: int | None) -> nn.Module:
    """Build a neck by name.

    ``bn`` is the BNNeck of Luo et al. (2019): batch normalisation whose bias stays 0. ``fc`` is a
    linear layer without bias; ``fc_bn`` and ``fc_bn_relu`` have a bias, batch normalisation and
    ReLU behind it.

    Args:
        kind: one of `NECKS`: ``none``, ``bn``, ``fc``, ``fc_bn`` or ``fc_bn_relu``.
        channels: length of the input.
        dim: length of the output of an ``fc`` neck; None keeps ``channels``.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "bn":
        norm = nn.BatchNorm1d(channels)
        norm.bias.requires_grad_(False)
        return norm
    layers: dict[str, list[nn.Module]] = {
        "fc": [nn.Linear(channels, dim or channels, bias=False)],
        "fc_bn": [nn.Linear(channels, dim or channels), nn.BatchNorm1d(dim or channels)],
    }
    layers["fc_bn_relu"] = [*layers["fc_bn"], nn.ReLU()]
    return nn.Sequential(*layers[kind])


class EmbeddingHead(nn.Module):
    """An embedding's neck, and the three vectors that criteria and evaluation get.

    Args:
        declaration: what the embedding is.
        channels: length of its input.
        pool: makes one row per tracklet of those of its frames, ``B T C`` to ``B C``; None takes
            the mean.
    """

    def __init__(
        self, declaration: Embedding, channels: int, pool: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.declaration = declaration
        self.channels = channels
        self.pool = pool
        if isinstance(declaration.neck, str):
            self.neck = build_neck(declaration.neck, channels, declaration.dim)
        else:
            self.neck = declaration.neck
        grows = isinstance(declaration.neck, nn.Module) or declaration.neck.startswith("fc")
        self.dim = (declaration.dim or channels) if grows else channels

    def length(self, vector: Vector) -> int:
        """Return the length of one of its vectors."""
        return self.channels if vector == "raw" else self.dim

    def forward(self, raw: Tensor, frames: int | None = None) -> Embedded:
        """Return raw, neck and unit vectors.

        Args:
            raw: ``B C`` or ``B C 1 1``; ``B*frames ...`` where it is of frames.
            frames: of every tracklet; None where the input has one row per sample already.
        """
        raw = raw.flatten(1)
        if frames is not None and (frames > 1 or self.pool is not None):
            clips = raw.unflatten(0, (-1, frames))
            raw = clips.mean(1) if self.pool is None else self.pool(clips)
        neck = self.neck(raw)
        return Embedded(raw, neck, F.normalize(neck.float(), dim=1))
