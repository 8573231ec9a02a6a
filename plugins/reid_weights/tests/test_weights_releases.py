"""Files with the names and shapes of the public releases, each read by its importer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from reid_core import fill_weights, read_weights
from reid_core.model.trunks import adapted

State = dict[str, Tensor]


def blank(*shape: int) -> Tensor:
    """Return a tensor of any size that takes no room in a file."""
    return torch.zeros(()).expand(shape)


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in state.items()}


def resnet50() -> State:
    """Return the names and shapes of torchvision's ResNet-50, which all of them took over."""
    with torch.device("meta"):
        state = models.resnet50().state_dict()
    trunk = {n: v for n, v in state.items() if not n.startswith("fc.")}
    return {
        n: torch.tensor(0) if n.endswith("num_batches_tracked") else blank(*v.shape)
        for n, v in trunk.items()
    }


def vit_base() -> State:
    """Return TransReID's ViT-B/16 for 256 x 128: 128 patches and the class token."""
    state = {
        "cls_token": blank(1, 1, 768),
        "pos_embed": blank(1, 129, 768),
        "patch_embed.proj.weight": blank(768, 3, 16, 16),
        "patch_embed.proj.bias": blank(768),
        "norm.weight": blank(768),
        "norm.bias": blank(768),
    }
    layers = {"attn.qkv": (2304, 768), "attn.proj": (768, 768)}
    layers |= {"mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
    for block in range(12):
        for name, shape in layers.items():
            state[f"blocks.{block}.{name}.weight"] = blank(*shape)
            state[f"blocks.{block}.{name}.bias"] = blank(shape[0])
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            state[f"blocks.{block}.{name}"] = blank(768)
    return state


def swin_tiny() -> State:
    """Return SOLIDER's Swin-T in OpenMMLab's names, with the semantic controller."""
    state = {
        "patch_embed.projection.weight": blank(96, 3, 4, 4),
        "patch_embed.projection.bias": blank(96),
        "patch_embed.norm.weight": blank(96),
        "patch_embed.norm.bias": blank(96),
    }
    for stage, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        dim = 96 * 2**stage
        for block in range(depth):
            at = f"stages.{stage}.blocks.{block}."
            layers = {"attn.w_msa.qkv": (3 * dim, dim), "attn.w_msa.proj": (dim, dim)}
            layers |= {"ffn.layers.0.0": (4 * dim, dim), "ffn.layers.1": (dim, 4 * dim)}
            for name, shape in layers.items():
                state[f"{at}{name}.weight"] = blank(*shape)
                state[f"{at}{name}.bias"] = blank(shape[0])
            for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
                state[f"{at}{name}"] = blank(dim)
            state[f"{at}attn.w_msa.relative_position_bias_table"] = blank(169, heads)
            state[f"{at}attn.w_msa.relative_position_index"] = blank(49, 49)
        if stage < 3:
            state[f"stages.{stage}.downsample.norm.weight"] = blank(4 * dim)
            state[f"stages.{stage}.downsample.norm.bias"] = blank(4 * dim)
            state[f"stages.{stage}.downsample.reduction.weight"] = blank(2 * dim, 4 * dim)
        state |= {f"norm{stage}.{kind}": blank(dim) for kind in ("weight", "bias")}
        for kind in ("w", "b"):
            state[f"semantic_embed_{kind}.{stage}.weight"] = blank(dim, 2)
            state[f"semantic_embed_{kind}.{stage}.bias"] = blank(dim)
    return state


def solider() -> Any:
    teacher = {**under("backbone.", swin_tiny()), "head.mlp.0.weight": blank(2048, 768)}
    return {"student": {}, "teacher": under("module.", teacher), "epoch": 100}


def transreid() -> Any:
    block = {"0.norm1.weight": blank(768), "0.attn.qkv.weight": blank(2304, 768)}
    state = under("base.", {**vit_base(), "sie_embed": blank(6, 1, 768), "fc.bias": blank(5)})
    for number in (1, 2):
        state |= under(f"b{number}.", {**block, "1.weight": blank(768)})
    state |= {"classifier.weight": blank(751, 768), "bottleneck.weight": blank(768)}
    for part in range(1, 5):
        state[f"classifier_{part}.weight"] = blank(751, 768)
        state[f"bottleneck_{part}.running_mean"] = blank(768)
    return state


def lup() -> Any:
    both = {**resnet50(), "fc.0.weight": blank(2048, 2048), "fc.2.weight": blank(128, 2048)}
    state = {**under("module.encoder_q.", both), **under("module.encoder_k.", both)}
    state |= {"module.queue": blank(128, 65536), "module.queue_ptr": torch.zeros(1).long()}
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {}}


def torchreid() -> Any:
    state = {**resnet50(), "classifier.weight": blank(751, 2048), "classifier.bias": blank(751)}
    return {"state_dict": under("module.", state), "epoch": 60, "rank1": 0.9}


def fastreid() -> Any:
    state = under("backbone.", resnet50())
    state |= {"pixel_mean": blank(1, 3, 1, 1), "pixel_std": blank(1, 3, 1, 1)}
    for kind in ("weight", "bias", "running_mean", "running_var"):
        state[f"heads.bottleneck.0.{kind}"] = blank(2048)
    state["heads.weight"] = blank(751, 2048)
    return {"model": state, "iteration": 17999}


def cion() -> Any:
    teacher = {**under("backbone.", resnet50()), "head.last_layer.weight_v": blank(65536, 256)}
    return {"student": {}, "teacher": under("module.", teacher), "epoch": 100}


RELEASES: Mapping[str, tuple[Callable[[], Any], str, dict[str, Any]]] = {
    "solider": (solider, "swin_tiny_patch4_window7_224", {"img_size": (384, 128)}),
    "transreid": (transreid, "vit_base_patch16_224", {"img_size": (384, 128)}),
    "lup": (lup, "resnet50", {}),
    "torchreid": (torchreid, "resnet50", {}),
    "fastreid": (fastreid, "resnet50", {}),
    "cion": (cion, "resnet50", {}),
}


@pytest.mark.parametrize("importer", list(RELEASES))
def test_all_that_a_release_has_is_taken_or_told(tmp_path: Path, importer: str) -> None:
    content, name, options = RELEASES[importer]
    with torch.device("meta"):
        trunk: nn.Module = timm.create_model(name, num_classes=0, **options)
    path = tmp_path / "release.pth"
    torch.save(content(), path)
    assert path.stat().st_size < 2**20
    with warnings.catch_warnings():
        # Nothing is copied into a network without memory.
        warnings.filterwarnings("ignore", message=".*no-op")
        filled = fill_weights(
            trunk, read_weights(path, name, importer), name, adapt=partial(adapted, trunk)
        )
    assert filled.taken == len(trunk.state_dict())
    report = str(filled)
    assert f"({importer}): {filled.taken} entries taken, none left random" in report
    assert f"{len(filled.left)} left aside" in report
    assert ("pos_embed" in filled.resampled) == (importer == "transreid")
    assert not any(one.startswith(("layer", "blocks", "layers")) for one in filled.left)
