"""Weights from other projects' files, in the layouts of the public releases."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_core.data.people import learnt_from, people_in, seen_before
from reid_core.errors import CheckpointError, ConfigError
from reid_core.model.embedder import embedder_of
from reid_core.model.encoder import TimmEncoder
from reid_core.model.layouts import LAYOUTS
from reid_core.model.pretrained import fill, read_weights
from reid_core.model.stored import load_embedder
from reid_core.model.torchvision_guard import ensure
from reid_core.model.trunks import adapted
from reid_core.testing.tiny import tiny_assembly
from reid_core.weights import sha256_of, weights_file

SIZE = (64, 32)


def resnet_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dict(TimmEncoder("test_resnet", SIZE).trunk.state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


CLASSIFIER = {"classifier.weight": torch.ones(7, 96), "fc.weight": torch.ones(7, 96)}


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


RESNETS = {
    "plain": lambda state: {**state, **CLASSIFIER},
    "module": lambda state: {"state_dict": prefixed("module.model.", state)},
    "backbone": lambda state: {"model": prefixed("backbone.", state)},
    "base": lambda state: {
        **prefixed("base.", state),
        "bottleneck.weight": torch.ones(96),
        "classifier.weight": torch.ones(751, 96),
    },
    "encoder.trunk": lambda state: prefixed("encoder.trunk.", state),
    "torchreid": lambda state: {"state_dict": prefixed("module.", {**state, **CLASSIFIER})},
    "lup": lup,
    "fastreid": fastreid,
    "cion": cion,
}


@pytest.mark.parametrize("release", list(RESNETS))
def test_a_resnet_s_weights_are_found_in_every_wrapping(tmp_path: Path, release: str) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    torch.save(RESNETS[release](state), path)
    importers = ["auto", *({release} & LAYOUTS.keys())]
    for importer in importers:
        encoder = TimmEncoder("test_resnet", SIZE, pretrained=path, importer=importer)
        found = encoder.trunk.state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
        assert encoder.filled is not None
        assert encoder.filled.taken == len(state)
        assert "none left random" in str(encoder.filled)
    if release in ("lup", "fastreid", "cion"):
        assert f"({release})" in str(encoder.filled)
        assert "left aside" in str(encoder.filled)


def test_half_precision_is_taken_and_another_importer_is_refused(tmp_path: Path) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    trunk = TimmEncoder("test_resnet", SIZE, pretrained=path).trunk
    assert next(trunk.parameters()).dtype == torch.float32
    for importer, reason in (
        ("cion", "names in files of the layout 'cion' hold 'backbone.', this one has conv1"),
        ("fastreid", "names in files of the layout 'fastreid' hold 'backbone.'"),
        ("solidar", "no importer 'solidar'; did you mean 'solider'"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            TimmEncoder("test_resnet", SIZE, pretrained=path, importer=importer)
        assert "\n" not in str(caught.value)


def test_nothing_is_random_in_silence(tmp_path: Path) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    name = "layer1.0.conv1.weight"
    for changed, reason in (
        ({k: v for k, v in state.items() if k != name}, f"{name} is missing (1 of {len(state)}"),
        ({**state, "layer1.0.bn1.IN.weight": torch.ones(2)}, "bn1.IN.weight is unknown to it"),
        ({**state, name: torch.ones(2, 2)}, f"{name} is 2 x 2, not"),
    ):
        torch.save(prefixed("module.", changed), path)
        with pytest.raises(ConfigError, match=re.escape(reason)):
            TimmEncoder("test_resnet", SIZE, pretrained=path)


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
    ensure()
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
        filled = fill(fresh, weights, "swin", adapt=partial(adapted, fresh))
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


def test_tables_of_relative_positions_follow_the_window(tmp_path: Path) -> None:
    ensure()
    from timm.models.swin_transformer import SwinTransformer

    options = {"num_classes": 0, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
    big = SwinTransformer(img_size=64, window_size=8, **options)
    small = SwinTransformer(img_size=(32, 16), window_size=8, **options)
    path = tmp_path / "swin.pth"
    torch.save(big.state_dict(), path)
    filled = fill(
        small, read_weights(path, "swin"), "swin", adapt=lambda state: adapted(small, state)
    )
    assert filled.resampled
    assert all(name.endswith("relative_position_bias_table") for name in filled.resampled)


def test_embedders_runs_and_names_start_an_encoder(
    tmp_path: Path, reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assembly = tiny_assembly(cache=reid_cache)
    embedder = embedder_of(assembly.model, assembly.config.data.size)
    embedder.learnt_from = {"data": ["zebras"], "people": ["zebras/0/3-5"]}
    file = tmp_path / "embedder.safetensors"
    embedder.save(file)
    wanted = assembly.model.encoder.state_dict()
    monkeypatch.setattr("reid_core.weights.shipped_weights", lambda: {"people/tiny": file})
    monkeypatch.setattr("reid_core.weights.shipped_weights", lambda: {"people/tiny": file})
    for given in (file, tmp_path, Path("people/tiny")):
        encoder = TimmEncoder("test_resnet", assembly.config.data.size, pretrained=given)
        assert all(torch.equal(encoder.state_dict()[k], v) for k, v in wanted.items())
        assert encoder.conventions == assembly.model.encoder.conventions
        assert encoder.filled is not None
        assert encoder.filled.weights.learnt_from["people"] == ["zebras/0/3-5"]
    assert load_embedder("people/tiny").learnt_from["data"] == ["zebras"]
    with pytest.raises(ConfigError, match=r"people/tino.*did you mean 'people/tiny'\?"):
        weights_file(Path("people/tino"))
    with pytest.raises(CheckpointError, match=r"people/tino is missing; did you mean"):
        load_embedder("people/tino")
    with pytest.raises(ConfigError, match="no run's folder"):
        weights_file(tmp_path.parent)


def test_a_wrong_hash_is_one_line(tmp_path: Path, reid_cache: Path) -> None:
    assembly = tiny_assembly(cache=reid_cache)
    file = tmp_path / "embedder.safetensors"
    embedder_of(assembly.model, assembly.config.data.size).save(file)
    card = file.with_suffix(".json")
    description = json.loads(card.read_text())
    card.write_text(json.dumps({**description, "sha256": sha256_of(file)}))
    load_embedder(file)
    card.write_text(json.dumps({**description, "sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_embedder(file)
    with pytest.raises(ConfigError, match="SHA-256 differs"):
        TimmEncoder("test_resnet", SIZE, pretrained=file)


def test_people_are_kept_in_ranges_and_met_again(reid_cache: Path) -> None:
    from dataclasses import replace

    dataset = tiny_assembly(cache=reid_cache).ctx.dataset

    def named(samples: Any, first: int) -> Any:
        return tuple(
            replace(s, extra={"who": f"zoo/0/{first + s.pid}"}) if s.pid >= 0 else s
            for s in samples
        )

    train = replace(dataset.train, samples=named(dataset.train.samples, 0))
    count = dataset.train.num_identities
    assert people_in(train.samples) == (f"zoo/0/0-{count - 1}",)
    learnt = learnt_from(
        {"main": train}, ("zoo",), {"data": ["park"], "people": ["park/1", "zoo/0/9999"]}
    )
    assert learnt["data"] == ["park", "zoo"]
    assert set(learnt["people"]) == {"park/1", "zoo/0/9999", f"zoo/0/0-{count - 1}"}
    apart = replace(dataset, query=named(dataset.query, 500))
    assert seen_before(apart, learnt) == ""
    pids = {s.pid for s in dataset.query}
    met = replace(dataset, query=named(dataset.query, -min(pids)))
    assert (
        f"learnt from {len(pids & set(range(min(pids), min(pids) + count)))} of the {len(pids)}"
        in seen_before(met, learnt)
    )


@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [("test_vit", (64, 32), 2), ("test_convnext", (64, 32), 2), ("test_resnet", (208, 104), 1)],
)
def test_the_last_stride_is_removed_where_it_can_be(
    name: str, size: tuple[int, int], stride: int
) -> None:
    assert TimmEncoder(name, size).spec["last_stride"] == stride


def test_a_pooling_that_rounds_down_may_double_to_one_row_more() -> None:
    with torch.device("meta"):
        encoder = TimmEncoder("densenet121", (208, 104))
    assert encoder.taps[-1].stride == 16
