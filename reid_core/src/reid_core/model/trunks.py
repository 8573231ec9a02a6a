"""What is done to trunks of timm: trying them out, their maps and strides, the last stride."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.contract.model import CLASS_TOKEN, ENCODER_MAP
from reid_core.errors import ConfigError, reason_of
from reid_core.model.modes import evaluating


def dry_maps(trunk: nn.Module, size: tuple[int, int], name: str) -> tuple[Tensor, list[Tensor]]:
    """Return the final map and all maps of one image of zeros.

    Args:
        trunk: a timm model.
        size: height and width of the image.
        name: the encoder's, for the message.

    Raises:
        ConfigError: it does not take images of this size.
    """
    try:
        with evaluating(trunk):
            last, maps = trunk.forward_intermediates(blank_image(trunk, size))  # type: ignore[operator]
    except Exception as error:
        reason = reason_of(error, 120)
        raise ConfigError(
            f"timm's '{name}' does not take images of {size[0]} x {size[1]} pixels ({reason}); try "
            "multiples of 32 for data.height and data.width, or another encoder"
        ) from error
    return as_map(last, maps[-1]), maps


def has_class_token(trunk: nn.Module) -> bool:
    """Return whether a trunk of timm sums an image up in a token, and can hand it out."""
    steps = inspect.signature(trunk.forward_intermediates).parameters  # type: ignore[arg-type]
    return getattr(trunk, "cls_token", None) is not None and "return_prefix_tokens" in steps


def class_of(tap: str) -> str:
    """Return what the class token beside a map is called: ``encoder/class`` beside the last."""
    return CLASS_TOKEN if tap == ENCODER_MAP else f"{tap}_class"


def blank_image(module: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return one image of zeros, of the dtype and on the device of the module's first parameter.

    An encoder may have none: fixed filters, or nothing but pooling.
    """
    like = next(module.parameters(), torch.empty(0))
    return torch.zeros(1, 3, *size, dtype=like.dtype, device=like.device)


def as_map(last: Tensor, deepest: Tensor, final_norm: bool = True) -> Tensor:
    """Return a trunk's output as ``B C H W``.

    Args:
        last: the output: a map with its channels second or last, or tokens of which the map's are
            the last ones.
        deepest: the deepest map, before the final norm.
        final_norm: False gives the deepest map in place of an output that is no ``B C H W``.
    """
    rows, columns = deepest.shape[2:]
    if last.dim() == 4 and last.shape[2:] == deepest.shape[2:]:
        return last
    if not final_norm or last.shape[-1] != deepest.shape[1]:
        return deepest
    if last.dim() == 4 and last.shape[1:3] == deepest.shape[2:]:
        return last.permute(0, 3, 1, 2)
    if last.dim() == 3 and last.shape[1] >= rows * columns:
        tokens = last[:, -rows * columns :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], rows, columns)
    return deepest


def strides_of(
    trunk: nn.Module, size: tuple[int, int], before: Sequence[Tensor], maps: Sequence[Tensor]
) -> list[int]:
    """Return the stride of every map, also where it does not divide the input.

    Args:
        trunk: a timm model; its own word counts where it fits what comes out.
        size: height and width of the input.
        before: its maps before the last stride was removed.
        maps: its maps now.
    """
    info = getattr(trunk, "feature_info", ())
    told = info.reduction() if hasattr(info, "reduction") else [one["reduction"] for one in info]
    strides = []
    for number, feature in enumerate(maps):
        stride = stride_of(size[0], feature.shape[2])
        if len(told) == len(maps):
            denser = feature.shape[2] > before[number].shape[2]
            said = told[number] // 2 if denser else told[number]
            stride = said if covers(feature, said, size) else stride
        strides.append(stride)
    return strides


def stride_of(pixels: int, places: int) -> int:
    """Return the stride by which so many pixels become so many places.

    Convolutions round up, patches and poolings down, so the ratio need not be a whole number: a
    power of two that fits counts more than it.
    """
    powers = [1 << exponent for exponent in range(12)]
    above = [stride for stride in powers if -(-pixels // stride) == places]
    below = [stride for stride in powers if pixels // stride == places]
    return (above or below or [round(pixels / places)])[0]


def covers(feature: Tensor, stride: int, size: tuple[int, int]) -> bool:
    """Return whether a map ``B C H W`` has as many places as a stride gives, rounded either way."""
    return all(
        abs(pixels / stride - places) <= 1
        for pixels, places in zip(size, feature.shape[2:], strict=True)
    )


def remove_last_stride(
    trunk: nn.Module, name: str, size: tuple[int, int]
) -> tuple[Tensor, list[Tensor]]:
    """Set the last reduction of stride 2 to 1, so that the last map doubles its height and width.

    Found by a dry forward: every convolution or pooling with stride 2 that reads the map before
    the last reduction. Strided 3x3 and 1x1 convolutions become dense; a pooling whose window is
    its stride (DenseNet's last transition) is dropped.

    Returns:
        What `dry_maps` gives afterwards.

    Raises:
        ConfigError: the network reduces in patches (transformers, ConvNeXt), which has no stride 1;
            it is as it was.
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
    _, before = dry_maps(trunk, size, name)
    for hook in hooks:
        hook.remove()
    last = min(heights.values(), default=0)
    touched = [label for label, height in heights.items() if height == last]
    if not touched or not all(_densifiable(strided[label]) for label in touched):
        raise ConfigError(
            f"model.last_stride = 1 is not possible with '{name}', which reduces its last map in "
            "patches; set -s model.last_stride=2"
        )
    for label in touched:
        _set_stride(trunk, label, strided[label], 1)
    try:
        last_map, maps = dry_maps(trunk, size, name)
        rows, dense = before[-1].shape[2], maps[-1].shape[2]
        # Of an odd number of rows convolutions made one half of them rounded up, poolings down.
        if abs(dense - 2 * rows) <= 1:
            return last_map, maps
        wrong = f"did not double the last map of '{name}' ({rows} to {dense} rows)"
    except ConfigError:
        parts = "whose last map is put together of parts that reduce in several ways"
        wrong = f"is not possible with '{name}', {parts}"
    for label in touched:
        _set_stride(trunk, label, strided[label], 2)
    raise ConfigError(f"model.last_stride = 1 {wrong}; set -s model.last_stride=2")


def _set_stride(trunk: nn.Module, label: str, module: nn.Module, stride: int) -> None:
    """Let a strided convolution be dense and a pooling be gone, or be as they were."""
    if isinstance(module, nn.Conv2d):
        module.stride = (stride, stride)
    else:
        parent, _, leaf = label.rpartition(".")
        setattr(trunk.get_submodule(parent), leaf, nn.Identity() if stride == 1 else module)


def adapted(
    trunk: nn.Module, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring the grids in a state dict to the sizes that a trunk of timm has.

    Position embeddings and tables of relative positions are resampled to the input's size; tables
    of indices, which timm computes itself, are left out.

    Args:
        trunk: without classifier.
        state: with timm's names.

    Returns:
        The entries, and the names of those that were resampled.
    """
    from timm.layers.pos_embed import resample_abs_pos_embed
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table

    wanted, found, resampled = trunk.state_dict(), dict[str, Tensor](), []
    known: Any = trunk
    # The first releases of Swin merge patches at the end of a stage, timm at the start of the next.
    at_the_end = "layers.0.downsample.reduction.weight" in state
    for name, value in state.items():
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        if at_the_end:
            name = re.sub(
                r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
            )
        like = wanted.get(name)
        if like is not None and like.shape != value.shape and like.dim() == value.dim():
            parent: Any = trunk.get_submodule(name.rpartition(".")[0])
            if name == "pos_embed" and hasattr(trunk, "patch_embed"):
                prefix = 0 if getattr(trunk, "no_embed_class", False) else known.num_prefix_tokens
                old = _grid_of(value.shape[1] - prefix)
                grid = list(known.patch_embed.grid_size)
                if old is not None and value.shape[2] == like.shape[2]:
                    value = resample_abs_pos_embed(value, grid, old, prefix)
                    resampled.append(name)
            elif name.endswith("relative_position_bias_table") and value.shape[1] == like.shape[1]:
                with warnings.catch_warnings():
                    # Of what timm's interpolation does with torch.
                    warnings.simplefilter("ignore", UserWarning)
                    value = resize_rel_pos_bias_table(value, parent.window_size, tuple(like.shape))
                resampled.append(name)
        found[name] = value
    return found, tuple(resampled)


def _grid_of(tokens: int) -> list[int] | None:
    """Return rows and columns of so many tokens: a square, or the nearest to a person's 2 : 1."""
    side = isqrt(tokens) if tokens > 0 else 0
    if side and side * side == tokens:
        return [side, side]
    pairs = [(tokens // n, n) for n in range(2, side + 1) if tokens % n == 0]
    return [*min(pairs, key=lambda pair: abs(pair[0] / pair[1] - 2))] if pairs else None


def _densifiable(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return _pair(module.kernel_size) in ((1, 1), (3, 3), (5, 5))
    return _pair(module.kernel_size) == (2, 2)  # type: ignore[arg-type]


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)
