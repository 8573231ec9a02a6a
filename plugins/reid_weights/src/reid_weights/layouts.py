"""Layouts in which other projects publish weights of encoders, for ``model.importer``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from reid_core import Layout

_SWIN = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^norm3\.", "norm."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)


def _swin_of_mmdetection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn OpenMMLab's names of a Swin transformer into timm's, and its order of merged patches.

    OpenMMLab merges four patches channel by channel, timm patch by patch, column after column; the
    merging belongs to the stage before there, to the one behind here.
    """
    found = {}
    for name, value in state.items():
        for pattern, new in _SWIN:
            name = re.sub(pattern, new, name)
        stage = re.match(r"^stages\.(\d)\.(.*)", name)
        if stage:
            number, rest = int(stage[1]), stage[2]
            merging = rest.startswith("downsample.")
            name = f"layers.{number + merging}.{rest}"
            if merging:
                value = _patch_by_patch(value)
        found[name] = value
    return found


def _patch_by_patch(value: Tensor) -> Tensor:
    """Reorder the last axis from 2 x 2 patches within channels to channels within patches."""
    shape = value.shape
    grid = value.reshape(*shape[:-1], shape[-1] // 4, 2, 2)  # ... C, row, column
    axes = range(grid.dim() - 3)
    return grid.permute(*axes, -1, -2, -3).reshape(shape)


def _shows(*patterns: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return what tells whether a name of a file's network has one of these patterns."""

    def recognised(content: Mapping[str, Any]) -> bool:
        inner = (content.get(entry) for entry in ("teacher", "state_dict", "model"))
        state = next((value for value in inner if isinstance(value, Mapping)), content)
        return any(re.search(pattern, str(name)) for name in state for pattern in patterns)

    return recognised


LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        # SOLIDER (Chen et al., CVPR 2023): DINO's teacher, or the one that its converter leaves.
        Layout(
            "solider",
            folder=("teacher", "state_dict"),
            heads=("head.", "fc.", "classifier.", "bottleneck."),
            beside=(
                r".*semantic_embed_[wb]\.",
                r".*relative_position_index$",
                r"^(module\.|backbone\.)*norm[0-2]\.",
                r"^(module\.)?head\.",
            ),
            renamed=_swin_of_mmdetection,
            recognised=_shows(r"semantic_embed_w", r"\.attn\.w_msa\."),
        ),
        # CION's ReIDZoo (Zuo et al., NeurIPS 2024): DINO's teacher, wrapped with batch norm.
        Layout(
            "cion",
            folder=("teacher",),
            prefixes=("module.", "backbone."),
            required="backbone.",
            recognised=lambda content: isinstance(content.get("teacher"), Mapping),
        ),
        # TransReID (He et al., ICCV 2021): a ViT under base, its last block again in two branches.
        Layout(
            "transreid",
            prefixes=("module.", "base."),
            heads=("fc.", "classifier.", "head."),
            beside=(
                r"^(module\.)?b[12]\.",
                r"^(module\.)?(bottleneck|classifier)(_\d)?\.",
                r".*sie_embed$",
            ),
            recognised=_shows(r"^(module\.)?b[12]\.[01]\.", r"sie_embed$"),
        ),
        # LUP (Fu et al., CVPR 2021) and LUP-NL: ResNets, bare or as MoCo's query encoder.
        Layout(
            "lup",
            prefixes=("module.", "encoder_q.", "base_encoder."),
            heads=("fc.", "classifier."),
            beside=(
                r"^(module\.)?(encoder_k|momentum_encoder|predictor|classifier)\.",
                r"^(module\.)?queue",
            ),
            recognised=_shows(r"^(module\.)?(encoder_q|base_encoder)\."),
        ),
        # torchreid (Zhou and Xiang): a state dict, bare or in a checkpoint of training.
        Layout("torchreid", prefixes=("module.",), heads=("fc.", "classifier.")),
        # fastreid (He et al., ACM MM 2023): the backbone beside heads and pixel statistics.
        Layout(
            "fastreid",
            folder=("model", "state_dict"),
            prefixes=("module.", "backbone."),
            required="backbone.",
            recognised=_shows(r"pixel_mean$", r"^heads\."),
        ),
    )
}
"""Layouts by name, what the entry point of the group ``reid.layouts`` names. A file has the first
that it shows."""
