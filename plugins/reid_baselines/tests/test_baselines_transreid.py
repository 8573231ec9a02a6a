"""TransReID: conformance, formulae by independent code, side information on and off, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_baselines.transreid_encoder import TransreidEncoder, jigsaw_groups
from reid_core import (
    ConfigError,
    ConflictError,
    Encoder,
    Plugin,
    RunContext,
    TimmEncoder,
    hookimpl,
    load_embedder,
)
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import Recorder, tiny_assembly

VIT: dict[str, dict[str, Any]] = {
    # 5 x 2 patches of 16 pixels, 12 apart.
    "model": {"backbone": "test_vit"},
    "plugins": {"transreid": {"groups": 2, "shift": 1}},
}

test_conforms = conformance_suite("transreid", VIT)


def encoder(**kwargs: Any) -> TransreidEncoder:
    torch.manual_seed(3)
    inner = TimmEncoder("test_vit", (80, 32))
    made = TransreidEncoder(inner, (64, 32), 12, ("camid", "view"), (3, 2), groups=2, **kwargs)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def by_hand(made: TransreidEncoder, image: Tensor, row: int) -> dict[str, Tensor]:
    """Compute the paper's formulae for one image, patch by patch."""
    trunk: Any = made.inner.trunk
    kernel, bias = trunk.patch_embed.proj.weight, trunk.patch_embed.proj.bias
    patches = [
        (kernel * image[0, None, :, y : y + 16, x : x + 16]).sum((1, 2, 3)) + bias
        for y in range(0, 64 - 15, 12)
        for x in range(0, 32 - 15, 12)
    ]
    places = trunk.pos_embed[0]
    side = 3.0 * made.side[row]
    tokens = torch.stack([trunk.cls_token[0, 0], *patches]) + places + side
    for block in trunk.blocks[:-1]:
        tokens = block(tokens[None])[0]
    found = {"encoder/class": trunk.norm(trunk.blocks[-1](tokens[None]))[0, 0]}
    order = [*range(2, len(patches) + 1), 1]  # shifted by one; 0 is the class token
    half = len(order) // 2
    dealt = [order[n // 2 + (n % 2) * half] for n in range(len(order))]  # two parts in turn
    for number in (1, 2):
        group = dealt[(number - 1) * half : number * half]
        seen = made.local_norm(made.local_block(tokens[[0, *group]][None]))
        found[f"encoder/local{number}"] = seen[0, 0]
    return found


def test_the_encoder_computes_the_papers_formulae() -> None:
    made = encoder(shift=1)
    image = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        found = made(image, torch.tensor([2]), torch.tensor([1]))
        expected = by_hand(made, image, row=5)
    assert found["encoder/map"].shape == (1, 64, 5, 2)
    for name, value in expected.items():
        torch.testing.assert_close(found[name][0], value, atol=1e-5, rtol=1e-4)


def test_an_unknown_camera_or_view_stands_for_all() -> None:
    made = encoder()
    ids = torch.tensor([0, 2, -1, 1, 3])
    views = torch.tensor([1, 0, 1, -1, 0])
    with torch.no_grad():
        side = made.side_information(5, ids, views)
        nothing = made.side_information(1, None, None)
    mean = made.side.detach().mean(0)
    assert torch.equal(side[0], made.side.detach()[1])
    assert torch.equal(side[1], made.side.detach()[4])
    for row in (*side[2:], nothing[0]):
        torch.testing.assert_close(row, mean)


def test_a_jigsaw_shifts_and_deals_out() -> None:
    patches = torch.arange(9)[None, :, None].float()
    groups = jigsaw_groups(patches, 2, shift=2, shuffle=2)
    # 2..8, 0, 1 and the last once more; in two parts 2 3 4 5 6 and 7 8 0 1 1, dealt in turn.
    assert [group.flatten().tolist() for group in groups] == [[2, 7, 3, 8], [4, 0, 5, 1]]
    plain = jigsaw_groups(patches, 3, shift=0, shuffle=1)
    assert torch.cat(plain, 1).flatten().tolist() == list(range(9))


def made(cache: Path, *layers: Any, names: tuple[str, ...] = ("transreid",)) -> Any:
    return tiny_assembly(names, VIT, *layers, cache=cache)


def test_what_is_deployed_and_how_it_is_supervised(reid_cache: Path) -> None:
    assembly = made(reid_cache)
    declared = assembly.model.embeddings
    assert {n: (e.weight, e.test_weight, e.test_vector) for n, e in declared.items()} == {
        "transreid/global": (0.5, 1.0, "raw"),
        "transreid/local1": (0.25, 0.5, "raw"),
        "transreid/local2": (0.25, 0.5, "raw"),
    }
    group = assembly.parts.plan.groups["transreid/biases"]
    assert group.lr_scale == 2
    assert {name.rpartition(".")[2] for name in group.parameters} == {"bias"}
    rates = [b.drop_path1.drop_prob for b in assembly.model.encoder.inner.trunk.blocks[1:]]
    assert rates == pytest.approx(np.linspace(0, 0.1, len(rates) + 1)[1:].tolist())


def test_without_jigsaw_and_side_information_it_is_the_papers_baseline(reid_cache: Path) -> None:
    plain = {"jigsaw": False, "camera": False, "stride": None, "drop_path": 0, "bias_lr_scale": 1}
    assembly = made(reid_cache, {"plugins": {"transreid": plain}})
    found = assembly.model.encoder
    assert found.reads == ()
    assert list(assembly.model.embeddings) == ["transreid/global"]
    assert list(assembly.parts.plan.groups) == [
        "encoder",
        *(f"transreid/global/{part}" for part in ("identity", "neck")),
    ]
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        whole = found.eval().inner.trunk.forward_features(image)
        torch.testing.assert_close(found(image)["encoder/class"], whole[:, 0])


def test_positions_are_resampled_to_the_overlapping_grid(tmp_path: Path, reid_cache: Path) -> None:
    torch.manual_seed(0)
    trained = TimmEncoder("test_vit", (160, 160))
    path = tmp_path / "weights.pth"
    torch.save(trained.trunk.state_dict(), path)
    trunk = made(reid_cache, {"model": {"pretrained": str(path)}}).model.encoder.inner.trunk
    assert trunk.pos_embed.shape == (1, 1 + 5 * 2, 64)
    wanted = torch.nn.functional.interpolate(
        trained.trunk.pos_embed[:, 1:].transpose(1, 2).reshape(1, 64, 10, 10),
        (5, 2),
        mode="bicubic",
        antialias=True,
    )
    torch.testing.assert_close(trunk.pos_embed[:, 1:], wanted.flatten(2).transpose(1, 2))
    assert torch.equal(trunk.blocks[0].attn.qkv.weight, trained.trunk.blocks[0].attn.qkv.weight)


def test_the_exported_embedder_has_the_camera_as_an_input(reid_cache: Path, tmp_path: Path) -> None:
    trainer = Recorder(made(reid_cache))
    trainer.fit()
    trainer.assembly.embedder().eval().save(tmp_path / "embedder.safetensors")
    stored = load_embedder(tmp_path / "embedder.safetensors")
    assert stored.fields == ("camid",)
    images = torch.rand(3, 3, *stored.size)
    with torch.inference_mode():
        known = stored(images, {"camid": torch.tensor([0, 1, -1])})
        unknown = stored(images)
    assert torch.equal(known[2], unknown[2]), "the declared default is an unknown camera"
    assert not torch.allclose(known[:2], unknown[:2], atol=1e-4)
    described = (tmp_path / "embedder.json").read_text("utf-8")
    assert '"default": -1' in described


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": {"backbone": "test_resnet"}}, ("'test_resnet'", "vit_small_patch16_224")),
        ({"plugins": {"transreid": {"stride": 17}}}, ("transreid.stride = 17", "stride=16")),
        ({"plugins": {"transreid": {"groups": 11}}}, ("5 x 2 patches", "groups = 11")),
        ({"plugins": {"transreid": {"shift": 10}}}, ("5 x 2 patches", "transreid.shift = 10")),
        ({"plugins": {"transreid": {"shuffle": 10}}}, ("5 x 2 patches", "transreid.shuffle = 10")),
        ({"data": {"height": 64, "width": 8}}, ("64 x 8", "data.width")),
    ],
)
def test_what_cannot_work_is_refused(
    settings: dict[str, Any], words: tuple[str, ...], reid_cache: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        made(reid_cache, settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


class Other(Plugin):
    """Claims the encoder."""

    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        return ctx.build_encoder()


def test_tokens_of_another_encoder_are_refused(reid_cache: Path) -> None:
    layers = (VIT, {"own": {"backbone": "other"}})
    with pytest.raises(ConflictError, match=r"'transreid'.*'other'.*--own backbone=transreid"):
        tiny_assembly(("other", "transreid"), *layers, cache=reid_cache, classes={"other": Other})
