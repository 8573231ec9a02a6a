"""IBN-Net's layers, put into a ResNet of timm, and the importer of the authors' weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_baselines.ibn_names import NAMES
from reid_core import TimmEncoder, fill_weights, read_weights


class InstanceBatchNorm(nn.Module):
    """Normalise the first half of the channels by the image, the others by the batch (IBN-a).

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alone = channels // 2
        # The names under which the authors publish them.
        self.IN = nn.InstanceNorm2d(self.alone, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.alone)

    def forward(self, feature: Tensor) -> Tensor:
        """Return a map of the same shape."""
        alone, together = feature.split([self.alone, feature.shape[1] - self.alone], 1)
        return torch.cat([self.IN(alone.contiguous()), self.BN(together.contiguous())], 1)


class IbnEncoder(TimmEncoder):
    """A ResNet of timm with instance norms.

    IBN-a has `InstanceBatchNorm` for the first norm of every block of the first three stages;
    IBN-b an instance norm for the stem's, and one behind the sum of the last block of the first
    two stages.

    Args:
        name: one of `NAMES`.
        size, last_stride: as in `TimmEncoder`.
        pretrained: a file as the authors publish it, a run's folder, or False.
        mean, std, final_norm, importer: as in `TimmEncoder`.

    Raises:
        ConfigError: the file is missing or refused, or its weights are of another network.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        last_stride: int | str = "auto",
        pretrained: bool | Path = False,
        final_norm: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        importer: str = "auto",
    ) -> None:
        plain, kind = NAMES[name]
        super().__init__(plain, size, last_stride, False, final_norm, mean, std)
        self.spec["name"] = name
        last = "act3" if hasattr(self.trunk.layer1[0], "conv3") else "act2"  # type: ignore[index]
        change_norms(self.trunk, kind, last)
        if isinstance(pretrained, Path):
            weights = read_weights(pretrained, name, importer)
            if weights.own:
                state = {k.removeprefix("trunk."): v for k, v in weights.state.items()}
                weights = replace(weights, state=state)

            def published(entry: str) -> str:
                return re.sub(rf"\.{last}\.0\.", ".IN.", entry)

            self.filled = fill_weights(self.trunk, weights, name, rename=published, heads=("fc.",))
            if weights.conventions:
                self.follow(weights.conventions)

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {**super().deploy_spec(), "factory": "reid_baselines.ibn_encoder:IbnEncoder"}


def change_norms(trunk: Any, kind: str, last: str) -> None:
    """Put instance norms into a ResNet.

    Args:
        trunk: a ResNet of timm.
        kind: ``a`` or ``b``.
        last: name of the activation behind a block's sum.
    """
    if kind == "a":
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3):
            for block in stage:
                block.bn1 = InstanceBatchNorm(block.bn1.num_features)
        return
    trunk.bn1 = nn.InstanceNorm2d(trunk.bn1.num_features, affine=True)
    for stage in (trunk.layer1, trunk.layer2):
        block = stage[-1]
        norm = nn.InstanceNorm2d(getattr(block, "bn3", block.bn2).num_features, affine=True)
        setattr(block, last, nn.Sequential(norm, getattr(block, last)))
