"""Import OSNet weights as torchreid publishes them: ImageNet and re-identification files.

Their parameters have other names than ours: conv1 to conv5 are the network's stages, conv1 to
conv3 also a block's layers, conv2a to conv2d its streams. `published_name` translates.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reid_baselines.osnet_encoder import AIN, OsnetEncoder, OsnetFc
from reid_baselines.osnet_widths import AIN as AIN_WIDTHS, WIDTHS
from reid_core import ConfigError, Filled, WeightsFile, fill_weights, read_weights

_HEADS = ("fc.", "classifier.")
"""The network's own embedding, and the classifier of the identities that it was trained on."""

_STEMS = ("stem.conv.weight", "conv1.conv.weight")
"""Names of the first layer's weights, here and as published."""

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


_AIN = (
    *((rf"^stages\.{stage}\.{block}\.expand\.norm\.", rf"conv{stage + 2}.{block}.IN.")
      for stage, blocks in enumerate(AIN) for block, normed in enumerate(blocks) if normed),
    (r"^transitions\.(\d)\.0\.", lambda m: f"pool{int(m[1]) + 2}.0."),
    (r"\bstreams\.(\d)\.(\d)\.", lambda m: f"conv2.{m[1]}.layers.{m[2]}."),
)  # fmt: skip
"""What has another published name in OSNet-AIN."""


def published_name(name: str, ain: bool = False) -> str:
    """Return the published name of an entry of `OsnetEncoder`'s state dict.

    Args:
        name: of the entry.
        ain: whether it is OSNet-AIN's.
    """
    renamings: tuple[tuple[str, Any], ...] = (*_AIN, *_RENAMED) if ain else _RENAMED
    for pattern, renamed in renamings:
        name = re.sub(pattern, renamed, name)
    return name


def load_encoder(encoder: OsnetEncoder, name: str, path: Path, importer: str = "auto") -> Filled:
    """Load published, shipped or one's own weights; embedding and classifier are left aside.

    Args:
        encoder: of the width that ``name`` says.
        name: the encoder's, for messages.
        path: a file, a run's folder, or the name of shipped weights.
        importer: layout of the file; ``auto`` recognises it.

    Returns:
        What was taken and what was left.

    Raises:
        ConfigError: the file is missing or refused, or its weights are of another width or network.
    """
    weights = _of_width(read_weights(path, name, importer), name)
    rename = partial(published_name, ain=encoder.ain)
    return fill_weights(encoder, weights, name, rename=rename, heads=_HEADS)


def load_fc(fc: OsnetFc, name: str, path: Path, importer: str = "auto") -> None:
    """Load the network's own embedding from published weights; see `load_encoder`.

    Raises:
        ConfigError: as `load_encoder`; or the file is an embedder or a checkpoint of this core,
            which has another embedding.
    """
    weights = _of_width(read_weights(path, name, importer), name)
    if weights.own:
        raise ConfigError(
            f"the weights in {path} have no embedding of OSNet's own (osnet.fc): leave it out, "
            "-s osnet.fc=false, or give a published file"
        )
    stripped, _ = weights.layout.stripped(
        weights.state, {own: f"fc.{own}" for own in fc.state_dict()}
    )
    own = {k: v for k, v in stripped.items() if k.startswith("fc.")}
    fill_weights(fc, replace(weights, state=own), name, rename=lambda entry: f"fc.{entry}")


def _of_width(weights: WeightsFile, name: str) -> WeightsFile:
    """Refuse weights of another width, whose first layer has other channels."""
    kind = AIN_WIDTHS if name in AIN_WIDTHS else WIDTHS
    of_width = {channels[0]: other for other, channels in kind.items()}
    for entry, value in weights.state.items():
        if entry.removeprefix("module.") in _STEMS:
            other = of_width.get(len(value))
            if other is not None and other != name:
                raise ConfigError(
                    f"the weights in {weights.origin} are of '{other}', not of '{name}': add "
                    f"--backbone {other}"
                )
    return weights
