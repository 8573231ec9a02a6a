"""Layouts in which other projects publish weights: where the network is, and what its names are.

A layout is data: the entries of the file under which the state lies, the prefixes that its names
may have, what belongs to training alone, and how names and tensors become those of timm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Renamed = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def _same(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state


@dataclass(frozen=True)
class Layout:
    """How a project's files are made.

    Args:
        name: for ``model.importer``.
        folder: entry of the file under which the network's state lies; none takes the usual ones.
        prefixes: what the names of the network may begin with, in any order and number.
        required: a prefix without which a name does not belong to the network.
        heads: what names of classifiers and the like begin with, prefixes gone.
        beside: patterns of names, as they stand in the file, that are no part of the network.
        renamed: turns the names and the tensors into timm's.
    """

    name: str
    folder: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("module.", "model.", "backbone.", "base.", "encoder.trunk.")
    required: str = ""
    heads: tuple[str, ...] = ("fc.", "classifier.", "head.", "bottleneck.")
    beside: tuple[str, ...] = ()
    renamed: Renamed = _same

    def unpacked(self, content: Mapping[str, Any], usual: Sequence[str]) -> Mapping[str, Any]:
        """Return the part of a file's content that holds the network's state."""
        for name in self.folder or usual:
            if isinstance(content.get(name), Mapping):
                inner: Mapping[str, Any] = content[name]
                return inner
        return {} if self.folder and not _has_tensors(content) else content

    def stripped(
        self, state: Mapping[str, Tensor], wanted: Mapping[str, str]
    ) -> tuple[dict[str, Tensor], list[str]]:
        """Return the network's entries under their bare names, and what is left aside.

        Args:
            state: as in the file.
            wanted: names of the network's entries, as files have them.
        """
        kept: dict[str, Tensor] = {}
        left: list[str] = []
        names = frozenset(wanted.values())
        for name, value in state.items():
            foreign = self.required and self.required not in name
            if foreign or any(re.match(pattern, name) for pattern in self.beside):
                left.append(name)
            else:
                kept[self._bare(name, names)] = value
        return self.renamed(kept), left

    def _bare(self, name: str, wanted: frozenset[str]) -> str:
        while name not in wanted:
            prefix = next((p for p in self.prefixes if name.startswith(p)), None)
            if prefix is None:
                break
            name = name[len(prefix) :]
        return name


def _has_tensors(content: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


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


LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("plain"),
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
        ),
        # torchreid (Zhou and Xiang): a state dict, bare or in a checkpoint of training.
        Layout("torchreid", prefixes=("module.",), heads=("fc.", "classifier.")),
        # fastreid (He et al., ACM MM 2023): the backbone beside heads and pixel statistics.
        Layout(
            "fastreid",
            folder=("model", "state_dict"),
            prefixes=("module.", "backbone."),
            required="backbone.",
        ),
        # CION's ReIDZoo (Zuo et al., NeurIPS 2024): DINO's teacher, wrapped with batch norm.
        Layout(
            "cion", folder=("teacher",), prefixes=("module.", "backbone."), required="backbone."
        ),
    )
}
"""Layouts by name; ``plain`` is a state dict, in any of the usual wrappers."""


def layout_of(content: Mapping[str, Any]) -> Layout:
    """Return the layout that a file's content shows; ``plain`` where it shows none."""
    teacher = content.get("teacher")
    state = next(
        (v for k in ("teacher", "state_dict", "model") if isinstance(v := content.get(k), Mapping)),
        content,
    )
    names = list(state)
    if any("semantic_embed_w" in n or ".attn.w_msa." in n for n in names):
        return LAYOUTS["solider"]
    if isinstance(teacher, Mapping):
        return LAYOUTS["cion"]
    if any(re.match(r"^(module\.)?b[12]\.[01]\.", n) or n.endswith("sie_embed") for n in names):
        return LAYOUTS["transreid"]
    if any(re.match(r"^(module\.)?(encoder_q|base_encoder)\.", n) for n in names):
        return LAYOUTS["lup"]
    if any(n.endswith("pixel_mean") or n.startswith("heads.") for n in names):
        return LAYOUTS["fastreid"]
    return LAYOUTS["plain"]
