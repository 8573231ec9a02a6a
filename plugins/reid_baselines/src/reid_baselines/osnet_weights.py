"""Import OSNet weights as torchreid publishes them: ImageNet and re-identification files.

Their parameters have other names than ours: conv1 to conv5 are the network's stages, conv1 to
conv3 also a block's layers, conv2a to conv2d its streams. `published_name` translates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_baselines.osnet_encoder import OsnetEncoder, OsnetFc
from reid_baselines.osnet_widths import WIDTHS
from reid_core import ConfigError

_HEADS = ("fc.", "classifier.")
"""The network's own embedding, and the classifier of the identities that it was trained on."""

_STEM = "conv1.conv.weight"

_RENAMED = (
    (r"^stages\.(\d)\.(\d)\.", lambda m: f"conv{int(m[1]) + 2}.{m[2]}."),
    (r"^transitions\.(\d)\.0\.", lambda m: f"conv{int(m[1]) + 2}.2.0."),
    (r"^last\.", lambda m: "conv5."),
    (r"^stem\.", lambda m: "conv1."),
    (r"\breduce\.", lambda m: "conv1."),
    (r"\bexpand\.", lambda m: "conv3."),
    (r"\bshortcut\.", lambda m: "downsample."),
    (r"\bstreams\.0\.0\.", lambda m: "conv2a."),
    (r"\bstreams\.([1-3])\.(\d)\.", lambda m: f"conv2{'abcd'[int(m[1])]}.{m[2]}."),
    (r"\bpointwise\.", lambda m: "conv1."),
    (r"\bdepthwise\.", lambda m: "conv2."),
    (r"\bsqueeze\.", lambda m: "fc1."),
    (r"\bexcite\.", lambda m: "fc2."),
    (r"\bnorm\.", lambda m: "bn."),
)


def published_name(name: str) -> str:
    """Return the published name of an entry of `OsnetEncoder`'s state dict."""
    for pattern, renamed in _RENAMED:
        name = re.sub(pattern, renamed, name)
    return name


def load_encoder(encoder: OsnetEncoder, name: str, path: Path) -> None:
    """Load published weights into an encoder; embedding and classifier are left aside.

    Args:
        encoder: of the width that ``name`` says.
        name: the encoder's, for messages.
        path: the file.

    Raises:
        ConfigError: the file is missing or refused, or its weights are of another width or network.
    """
    state = {k: v for k, v in read_published(name, path).items() if not k.startswith(_HEADS)}
    _load(encoder, {own: published_name(own) for own in encoder.state_dict()}, state, name, path)


def load_fc(fc: OsnetFc, name: str, path: Path) -> None:
    """Load the network's own embedding from published weights; see `load_encoder`."""
    state = {k: v for k, v in read_published(name, path).items() if k.startswith("fc.")}
    _load(fc, {own: f"fc.{own}" for own in fc.state_dict()}, state, name, path)


def read_published(name: str, path: Path) -> dict[str, Tensor]:
    """Read a published file: a state dict, bare or as ``state_dict`` of a training checkpoint.

    Args:
        name: the encoder that the weights are for.
        path: what ``torch.save`` wrote; only tensors and plain numbers are read, no code is run.

    Returns:
        Tensors by published name, without the prefix of data-parallel training.

    Raises:
        ConfigError: the file is missing or refused, or it is of another width.
    """
    if not path.is_file():
        raise ConfigError(f"there are no pretrained weights at {path}")
    try:
        with torch.serialization.safe_globals(_plain_numbers()):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _misfit(name, path, f"{type(error).__name__}: {error}") from None
    found = found.get("state_dict", found) if isinstance(found, Mapping) else {}
    state = {
        key.removeprefix("module."): value
        for key, value in found.items()
        if isinstance(value, Tensor)
    }
    stem = state.get(_STEM)
    if stem is None:
        raise _misfit(name, path, f"{_STEM} is missing")
    of_width = {channels[0]: other for other, channels in WIDTHS.items()}
    other = of_width.get(len(stem))
    if other is not None and other != name:
        raise ConfigError(
            f"the weights in {path} are of '{other}', not of '{name}': add --backbone {other}"
        )
    return state


def _plain_numbers() -> list[Any]:
    """Return what NumPy's scalars are stored as: checkpoints keep their rank-1 score as one."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8")]
    # The function has moved within NumPy; files name it by the place that it had.
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _load(
    module: nn.Module, names: Mapping[str, str], state: Mapping[str, Tensor], name: str, path: Path
) -> None:
    missing = sorted(set(names.values()) - set(state))
    # Files from before PyTorch 0.4.1 lack batch norm's counters, which nothing here reads.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise _misfit(name, path, f"{missing[0]} is missing ({len(missing)} of {len(names)})")
    foreign = sorted(set(state) - set(names.values()))
    if foreign:
        raise _misfit(name, path, f"{foreign[0]} is unknown to it")
    own = module.state_dict()
    try:
        module.load_state_dict(
            {ours: state.get(theirs, own[ours]) for ours, theirs in names.items()}
        )
    except RuntimeError as error:
        raise _misfit(name, path, str(error)) from None


def _misfit(name: str, path: Path, reason: str) -> ConfigError:
    short = " ".join(reason.split())[:160]
    return ConfigError(f"the weights in {path} do not fit '{name}': {short}")
