"""Layouts of the public releases: files that have their names, and what becomes of them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_core import fill_weights, read_weights
from reid_core.errors import ConfigError
from reid_core.model.encoder import TimmEncoder
from reid_core.model.trunks import adapted
from reid_weights.layouts import LAYOUTS

SIZE = (64, 32)


def resnet_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dict(TimmEncoder("test_resnet", SIZE).trunk.state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def torchreid(state: dict[str, Tensor]) -> dict[str, Any]:
    heads = {"classifier.weight": torch.ones(7, 96), "fc.weight": torch.ones(7, 96)}
    return {"state_dict": prefixed("module.", {**state, **heads})}


def lup(state: dict[str, Tensor]) -> dict[str, Any]:
    moco = {"module.encoder_q.fc.0.weight": torch.ones(9, 96), "module.queue": torch.ones(4, 5)}
    moco["module.queue_ptr"] = torch.zeros(1, dtype=torch.int64)
    keys = prefixed("module.encoder_k.", {k: v + 1 for k, v in state.items()})
    return {"epoch": 200, "state_dict": {**prefixed("module.encoder_q.", state), **keys, **moco}}


def fastreid(state: dict[str, Tensor]) -> dict[str, Any]:
    more = {"heads.bottleneck.0.weight": torch.ones(96), "heads.weight": torch.ones(751, 96)}
    more["pixel_mean"] = more["pixel_std"] = torch.ones(1, 3, 1, 1)
    return {"model": {**prefixed("backbone.", state), **more}, "iteration": 17999}


def cion(state: dict[str, Tensor]) -> dict[str, Any]:
    head = {"module.head.mlp.0.weight": torch.ones(4, 96)}
    teacher = {**prefixed("module.backbone.", state), **head}
    wrong = prefixed("module.backbone.", {k: v + 1 for k, v in state.items()})
    return {"student": wrong, "teacher": teacher, "epoch": 100}


RESNETS = {"torchreid": torchreid, "lup": lup, "fastreid": fastreid, "cion": cion}


@pytest.mark.parametrize("release", list(RESNETS))
def test_a_resnet_is_found_in_every_release(tmp_path: Path, release: str) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    torch.save(RESNETS[release](state), path)
    for importer in ("auto", release):
        encoder = TimmEncoder("test_resnet", SIZE, pretrained=path, importer=importer)
        found = encoder.trunk.state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
        assert encoder.filled is not None
        assert encoder.filled.taken == len(state)
        assert "left aside" in str(encoder.filled)
        # A state dict under the usual names shows no project.
        assert (f"({release})" in str(encoder.filled)) == (
            release != "torchreid" or importer != "auto"
        )


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(resnet_state(), path)
    for importer, reason in (
        ("cion", "names in files of the layout 'cion' hold 'backbone.', this one has conv1"),
        ("fastreid", "names in files of the layout 'fastreid' hold 'backbone.'"),
        ("solidar", "no importer 'solidar'; did you mean 'solider'"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            TimmEncoder("test_resnet", SIZE, pretrained=path, importer=importer)
        assert "\n" not in str(caught.value)


def test_a_transreid_s_position_embeddings_are_resampled(tmp_path: Path) -> None:
    small = TimmEncoder("test_vit", (64, 32))
    trunk: Any = small.trunk
    state, path = dict(trunk.state_dict()), tmp_path / "vit_base_market.pth"
    dim, prefix = trunk.embed_dim, trunk.num_prefix_tokens
    # 16 x 8 places of stride 16 at 256 x 128, as released; a ramp down the rows.
    ramp = torch.arange(16.0).view(16, 1, 1).expand(16, 8, dim).reshape(1, 128, dim)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :prefix], ramp], 1)
    released = {
        **prefixed("base.", {**state, "fc.weight": torch.ones(10, dim)}),
        "base.sie_embed": torch.ones(6, 1, dim),
        **prefixed("b1.0.", {"norm1.weight": torch.ones(dim)}),
        **prefixed("b1.1.", {"weight": torch.ones(dim)}),
        "bottleneck_1.weight": torch.ones(dim),
        "classifier_4.weight": torch.ones(751, dim),
    }
    torch.save(released, path)
    for importer in ("auto", "transreid"):
        encoder = TimmEncoder("test_vit", (64, 32), pretrained=path, importer=importer)
        found: Any = encoder.trunk
        assert encoder.filled is not None
        assert encoder.filled.resampled == ("pos_embed",)
        rows, columns = found.patch_embed.grid_size
        grid = found.pos_embed[0, prefix:].view(rows, columns, dim)
        assert found.pos_embed.shape == trunk.pos_embed.shape
        assert torch.allclose(grid.std(1), torch.zeros(rows, dim), atol=1e-4)
        assert (grid[1:, 0, 0] > grid[:-1, 0, 0]).all()
        assert torch.equal(found.cls_token, state["cls_token"])
    assert encoder.spec["last_stride"] == 2


TO_MM = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "norm3."),
    (r"\.attn\.", ".attn.w_msa."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)


def mm_merging(value: Tensor) -> Tensor:
    """Bring the four patches (0,0), (1,0), (0,1), (1,1) into the order of nn.Unfold."""
    blocks = value.reshape(*value.shape[:-1], 4, -1)[..., [0, 2, 1, 3], :]
    return blocks.transpose(-1, -2).reshape(value.shape)


def solider(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in state.items():
        for pattern, new in TO_MM:
            name = re.sub(pattern, new, name)
        stage = re.match(r"^layers\.(\d)\.(.*)", name)
        if stage:
            merging = stage[2].startswith("downsample.")
            name = f"stages.{int(stage[1]) - merging}.{stage[2]}"
            value = mm_merging(value) if merging else value
        found[name] = value
    return found


def test_solider_s_swin_is_read_with_its_own_order_of_patches(tmp_path: Path) -> None:
    from timm.models.swin_transformer import PatchMerging, SwinTransformer

    torch.manual_seed(0)
    options = {"num_classes": 0, "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    trunk = SwinTransformer(img_size=(128, 64), window_size=4, **options)
    state = {k: torch.randn_like(v) for k, v in trunk.state_dict().items()}
    released = {
        **prefixed("backbone.", solider(state)),
        "backbone.semantic_embed_w.0.weight": torch.ones(8, 2),
        "backbone.semantic_embed_b.0.bias": torch.ones(8),
        "backbone.norm0.weight": torch.ones(8),
        "backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": torch.ones(16, 16),
        "head.mlp.0.weight": torch.ones(4, 64),
    }
    path = tmp_path / "swin_tiny.pth"
    for content in (
        {"teacher": released},
        {k.removeprefix("backbone."): v for k, v in released.items()},
    ):
        torch.save(content, path)
        weights = read_weights(path, "swin", "auto")
        assert weights.layout.name == "solider"
        fresh = SwinTransformer(img_size=(128, 64), window_size=4, **options)
        filled = fill_weights(fresh, weights, "swin", adapt=partial(adapted, fresh))
        found = fresh.state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
        assert any("semantic_embed_w" in name for name in filled.left)
    # What Unfold and the released order compute is what timm computes from the imported one.
    merging = PatchMerging(8, 16)
    image = torch.randn(2, 6, 4, 8)
    columns = nn.functional.unfold(image.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    norm, reduction = (mm_merging(v) for v in (torch.randn(32), torch.randn(16, 32)))
    theirs = nn.functional.layer_norm(columns, (32,), norm) @ reduction.T
    back = LAYOUTS["solider"].renamed(
        {"stages.0.downsample.norm.weight": norm, "stages.0.downsample.reduction.weight": reduction}
    )
    merging.load_state_dict(
        {
            "norm.weight": back["layers.1.downsample.norm.weight"],
            "norm.bias": torch.zeros(32),
            "reduction.weight": back["layers.1.downsample.reduction.weight"],
        }
    )
    assert torch.allclose(merging(image).flatten(1, 2), theirs, atol=1e-5)
