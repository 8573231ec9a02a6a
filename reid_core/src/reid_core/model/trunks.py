"""Look at a network by a dry forward, and remove its last reduction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid_core.errors import ConfigError
from reid_core.model.modes import evaluating


def dry_maps(trunk: nn.Module, size: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """Return the output and the intermediate maps of a timm model for one image of zeros."""
    with evaluating(trunk):
        last, maps = trunk.forward_intermediates(blank_image(trunk, size))  # type: ignore[operator]
    return as_map(last, maps[-1]), maps


def blank_image(module: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return one image of zeros, of the dtype and on the device of the module's first parameter.

    An encoder may have none: fixed filters, or nothing but pooling.
    """
    like = next(module.parameters(), torch.empty(0))
    return torch.zeros(1, 3, *size, dtype=like.dtype, device=like.device)


def as_map(last: Tensor, deepest: Tensor) -> Tensor:
    """Return the trunk's output as ``B C H W``; token sequences give their deepest map instead."""
    return last if last.dim() == 4 and last.shape[2:] == deepest.shape[2:] else deepest


def remove_last_stride(trunk: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Set the last reduction of stride 2 to 1, so that the last map doubles its height and width.

    Found by a dry forward: every convolution or pooling with stride 2 that reads the map before
    the last reduction. Strided 3x3 and 1x1 convolutions become dense; a pooling whose window is
    its stride (DenseNet's last transition) is dropped.

    Raises:
        ConfigError: the network reduces in patches (transformers, ConvNeXt), which has no stride 1.
    """
    kinds = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
    strided = {
        label: module
        for label, module in trunk.named_modules()
        if isinstance(module, kinds) and _pair(module.stride) == (2, 2)
    }
    heights: dict[str, int] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, inputs, label=label: heights.__setitem__(label, inputs[0].shape[2])
        )
        for label, module in strided.items()
    ]
    _, before = dry_maps(trunk, size)
    for hook in hooks:
        hook.remove()
    last = min(heights.values(), default=0)
    touched = [label for label, height in heights.items() if height == last]
    refused = [m for m in map(strided.__getitem__, touched) if not _densifiable(m)]
    if not touched or refused:
        raise ConfigError(
            f"model.last_stride = 1 is not possible with '{name}', which reduces its last map in "
            "patches; set -s model.last_stride=2"
        )
    for label in touched:
        module = strided[label]
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        else:
            parent, _, leaf = label.rpartition(".")
            setattr(trunk.get_submodule(parent), leaf, nn.Identity())
    _, after = dry_maps(trunk, size)
    if after[-1].shape[2] != 2 * before[-1].shape[2]:
        raise ConfigError(
            f"model.last_stride = 1 did not double the last map of '{name}' "
            f"({before[-1].shape[2]} to {after[-1].shape[2]} rows); set -s model.last_stride=2"
        )


def _densifiable(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return _pair(module.kernel_size) in ((1, 1), (3, 3), (5, 5))
    return _pair(module.kernel_size) == (2, 2)  # type: ignore[arg-type]


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)
