"""The shape extractor F_s: a ResNet whose last block exists once per pose."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core import ConfigError, TimmEncoder
from reid_core.model.trunks import remove_last_stride
from reid_fsam.masks import as_picture
from reid_fsam.settings import BLOCKS, Routing


class ShapeExtractor(nn.Module):
    """Embed masks; shared blocks 1 to 3, then one block 4, several summed, or one per pose.

    Args:
        name: a ResNet of timm.
        size: height and width of an input on which the network is built.
        channels: of the input; other than 3 get a first layer of their own with random weights,
            never an RGB layer averaged over channels.
        last_stride: 1 removes the last reduction of the stride.
        routing: ``pose`` sends each row to the block of its pose label, ``sum`` sums all blocks,
            ``single`` has one.
        copies: blocks 4 of ``pose`` and ``sum``; they begin with equal weights.
        picture: the input is a mask to be taken for a picture, see `as_picture`.
        pretrained: True takes timm's ImageNet weights, a path reads a file.
        gather: returns the rows of all ranks; in training a block runs on every rank where any
            rank has rows for it, so that ranks meet in its batch normalisation.

    Raises:
        ConfigError: ``name`` is no ResNet of four blocks.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        channels: int,
        last_stride: int | str = "auto",
        routing: Routing = "pose",
        copies: int = 3,
        picture: bool = False,
        pretrained: bool | Path = False,
        gather: Callable[[Tensor], Tensor] | None = None,
        importer: str = "auto",
    ) -> None:
        super().__init__()
        # Every ResNet can give up its last stride.
        last_stride = 1 if last_stride == "auto" else last_stride
        self._spec = {
            "name": name,
            "size": list(size),
            "channels": channels,
            "last_stride": last_stride,
            "routing": routing,
            "copies": copies,
            "picture": picture,
        }
        # Of other networks than ResNets the last stride cannot always be removed: they go first.
        trunk: Any = TimmEncoder(name, size, 2, pretrained, importer=importer).trunk
        if not all(hasattr(trunk, f"layer{number + 1}") for number in range(BLOCKS)):
            raise ConfigError(
                f"'{name}' has no four blocks like a ResNet's, of which the last could be copied "
                "for every pose; choose resnet50 or another ResNet"
            )
        if last_stride == 1:
            remove_last_stride(trunk, name, size)
        children = dict(trunk.named_children())
        first = list(children).index("layer1")
        self.stem = nn.Sequential(*list(children.values())[:first])
        if channels != 3:
            _replace_first(self.stem, channels)
        self.shared = nn.ModuleList([trunk.layer1, trunk.layer2, trunk.layer3])
        copied = 1 if routing == "single" else copies
        self.branches = nn.ModuleList([trunk.layer4])
        self.branches.extend(deepcopy(trunk.layer4) for _ in range(copied - 1))
        self.routing, self.picture, self._gather = routing, picture, gather

    def forward(self, mask: Tensor, pose: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the maps of blocks 1 to 4 and the pooled last one, ``B C``.

        Args:
            mask: ``B C H W``.
            pose: int64 ``B`` in ``0 .. copies - 1``, for ``pose``.
        """
        x = self.stem(as_picture(mask) if self.picture else mask)
        maps = []
        for block in self.shared:
            x = block(x)
            maps.append(x)
        last = self._last(x, pose)
        return (*maps, last, last.mean((2, 3)))

    def _last(self, x: Tensor, pose: Tensor | None) -> Tensor:
        if self.routing == "single":
            return torch.as_tensor(self.branches[0](x))
        if self.routing == "sum":
            return torch.stack([branch(x) for branch in self.branches]).sum(0)
        assert pose is not None
        own, anywhere = self._counts(pose)
        order = pose.argsort(stable=True)
        parts = [
            branch(rows)
            for branch, rows, count in zip(
                self.branches, x[order].split(own), anywhere, strict=True
            )
            if count
        ]
        return torch.cat(parts)[order.argsort()]

    def _counts(self, pose: Tensor) -> list[list[int]]:
        """Return how many rows each block has, on this rank and, in training, on all."""
        blocks = torch.arange(len(self.branches), device=pose.device)
        own = anywhere = (pose.long()[:, None] == blocks).sum(0)
        if self.training and self._gather is not None:
            anywhere = self._gather(own[None]).sum(0)
        # Which blocks have rows must be known on the host: the step's one wait for the device.
        counts: list[list[int]] = torch.stack([own, anywhere]).tolist()
        return counts

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_fsam.extractor:ShapeExtractor", "kwargs": self._spec}


def _replace_first(stem: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels and new random weights."""
    path, old = next((n, m) for n, m in stem.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, name = path.rpartition(".")
    setattr(stem.get_submodule(parent), name, new)
