"""Encoders: parameters, maps and last strides of the papers' backbones, and honest taps."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reid_core.contract.encoder import Encoder
from reid_core.contract.model import Embedding, Tap
from reid_core.errors import ConfigError, PluginError
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.encoder import EARLIER, NoEncoder, TimmEncoder, verify_taps
from reid_core.model.trunks import stride_of

SIZE = (256, 128)


@cache
def on_meta(name: str, last_stride: int = 1, size: tuple[int, int] = SIZE) -> TimmEncoder:
    """Build an encoder without memory, once: shapes and counts need no numbers."""
    with torch.device("meta"):
        return TimmEncoder(name, size, last_stride)


def maps_of(encoder: TimmEncoder, size: tuple[int, int] = SIZE) -> dict[str, tuple[int, ...]]:
    with torch.no_grad():
        found = encoder.eval()(torch.zeros(2, 3, *size, device="meta"))
    return {name: tuple(feature.shape[1:]) for name, feature in found.items()}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("last_stride", "last"), [(1, (2048, 16, 8)), (2, (2048, 8, 4))])
def test_resnet50_has_the_papers_blocks(last_stride: int, last: tuple[int, ...]) -> None:
    encoder = on_meta("resnet50", last_stride)
    assert count(encoder) == 23_508_032
    assert maps_of(encoder) == {
        "encoder/stem": (64, 128, 64),
        "encoder/stage1": (256, 64, 32),
        "encoder/stage2": (512, 32, 16),
        "encoder/stage3": (1024, 16, 8),
        "encoder/stage4": last,
        "encoder/map": last,
    }
    strides = {tap.name: tap.stride for tap in encoder.taps}
    assert strides["encoder/stage3"] == 16
    assert strides["encoder/map"] == (16 if last_stride == 1 else 32)
    assert {tap.name: tap.channels for tap in encoder.taps} == {
        name: shape[0] for name, shape in maps_of(encoder).items()
    }


def test_resnet50s_parts_have_the_papers_parameters() -> None:
    trunk = on_meta("resnet50").trunk
    counts = {name: count(module) for name, module in trunk.named_children()}
    assert {name: counts[name] for name in ("conv1", "bn1")} == {"conv1": 9_408, "bn1": 128}
    layers = [counts[f"layer{i}"] for i in (1, 2, 3, 4)]
    assert layers == [215_808, 1_219_584, 7_098_368, 14_964_736]


def test_resnet50_with_a_bnneck_has_the_baselines_parameters() -> None:
    head = EmbeddingHead(Embedding("core/global", "core/pooled"), 2048)
    total = count(on_meta("resnet50")) + count(head)
    frozen = sum(p.numel() for p in head.parameters() if not p.requires_grad)
    assert (total, total - frozen) == (23_512_128, 23_510_080)


@pytest.mark.parametrize(
    ("name", "parameters", "channels"),
    [("mobilenetv2_100", 2_223_872, 1280), ("densenet121", 6_953_856, 1024)],
)
def test_other_backbones_give_up_their_last_stride(
    name: str, parameters: int, channels: int
) -> None:
    encoder = on_meta(name)
    assert count(encoder) == parameters
    assert maps_of(encoder)["encoder/map"] == (channels, 16, 8)
    assert encoder.taps[-1] == Tap("encoder/map", channels, 16)
    kept = on_meta(name, 2)
    assert count(kept) == parameters
    assert maps_of(kept)["encoder/map"] == (channels, 8, 4)


def test_removing_the_last_stride_keeps_the_names_of_the_weights() -> None:
    dense, strided = (on_meta("densenet121", stride).state_dict() for stride in (1, 2))
    assert {k: v.shape for k, v in dense.items()} == {k: v.shape for k, v in strided.items()}


def test_resnet50_fits_torchvisions_state_dict() -> None:
    from torchvision.models import resnet50

    with torch.device("meta"):
        theirs = resnet50().state_dict()
    ours = on_meta("resnet50").trunk.state_dict()
    assert {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")} == {
        k: v.shape for k, v in ours.items()
    }


@pytest.mark.parametrize("name", ["convnext_tiny", "vit_tiny_patch16_224"])
def test_a_network_that_reduces_in_patches_keeps_its_stride(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"last_stride = 1 .*'{name}'.*patches.*last_stride=2"):
        on_meta(name)


def test_a_transformer_gives_maps_at_the_runs_size() -> None:
    encoder = on_meta("vit_tiny_patch16_224", 2)
    assert maps_of(encoder)["encoder/map"] == (192, 16, 8)


def test_an_unknown_encoder_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no encoder 'resnet5'.*timm.*; did you mean 'resnet"):
        TimmEncoder("resnet5", SIZE)


def test_an_encoder_is_rebuilt_from_its_specification() -> None:
    encoder = TimmEncoder("test_resnet", (64, 32))
    spec = encoder.deploy_spec()
    assert spec["factory"] == "reid_core.model.encoder:TimmEncoder"
    again = TimmEncoder(**spec["kwargs"])
    again.load_state_dict(encoder.state_dict())
    image = torch.randn(2, 3, 64, 32)
    ours, theirs = encoder.eval()(image), again.eval()(image)
    assert list(ours) == list(theirs) == [tap.name for tap in encoder.taps]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_building_leaves_training_mode_and_statistics_alone() -> None:
    encoder = TimmEncoder("test_resnet", (64, 32))
    assert encoder.training
    assert encoder.trunk.training
    counts = {v.item() for k, v in encoder.state_dict().items() if "num_batches" in k}
    assert counts == {0}
    verify_taps(encoder, (64, 32), "core")
    assert encoder.training
    assert {v.item() for k, v in encoder.state_dict().items() if "num_batches" in k} == {0}


class Liar(Encoder):
    """Declares what the test wants; returns maps of 4 channels at stride 8, and 4 long vectors."""

    def __init__(self, *taps: Tap, returns: tuple[str, ...] = ("encoder/map",)) -> None:
        super().__init__()
        self.taps = taps
        self.returns = returns
        self.layer = nn.Conv2d(3, 4, 8, 8)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        found = self.layer(image)
        made = {"encoder/vector": found.mean((2, 3)), "encoder/tokens": found.flatten(2)}
        return {name: made.get(name, found) for name in self.returns}


HONEST = Tap("encoder/map", 4, 8)
VECTOR = ("encoder/vector", "encoder/map")
TOKENS = ("encoder/tokens", "encoder/map")


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (Liar(Tap("encoder/map", 5, 8)), ("'encoder/map'", "5 channels", "has 4")),
        (Liar(Tap("encoder/map", 4, 16)), ("'encoder/map'", "stride 16", "stride 8")),
        (Liar(Tap("encoder/stage1", 4, 8), HONEST), ("differ", "encoder/stage1")),
        (Liar(HONEST, returns=("encoder/map", "encoder/extra")), ("differ", "encoder/extra")),
        (Liar(Tap("zebra/x", 4, 8), HONEST, returns=("zebra/x", "encoder/map")), ("'zebra/x'",)),
        (Liar(HONEST, Tap("encoder/x", 4, 8), returns=("encoder/map", "encoder/x")), ("last tap",)),
        (Liar(), ("last tap", "encoder/map")),
        (Liar(Tap("encoder/vector", 4, 8), HONEST, returns=VECTOR), ("stride 8", "at stride 0")),
        (Liar(Tap("encoder/vector", 5, 0), HONEST, returns=VECTOR), ("5 channels", "has 4")),
        (Liar(Tap("encoder/map", 4, 0)), ("at stride 0, but has 4 at stride 8",)),
        (Liar(Tap("encoder/tokens", 4, 0), HONEST, returns=TOKENS), ("(1, 4, 32)", "B C H W")),
    ],
)
def test_an_encoder_that_lies_is_named_with_its_tap(
    encoder: Encoder, words: tuple[str, ...]
) -> None:
    with pytest.raises(PluginError) as caught:
        verify_taps(encoder, (64, 32), "zebra")
    assert all(word in str(caught.value) for word in ("'zebra'", *words)), str(caught.value)


def test_an_honest_encoder_passes_and_no_mode_changes() -> None:
    encoder = TimmEncoder("test_resnet", (64, 32))
    encoder.trunk.bn1.eval()
    before = [module.training for module in encoder.modules()]
    verify_taps(encoder, (64, 32), "zebra")
    assert [module.training for module in encoder.modules()] == before
    assert {True, False} <= set(before)
    verify_taps(Liar(HONEST), (64, 32), "zebra")
    verify_taps(Liar(Tap("encoder/vector", 4, 0), HONEST, returns=VECTOR), (64, 32), "zebra")


class Pooled(Encoder):
    """Two poolings and nothing to learn."""

    taps = (Tap("encoder/map", 3, 4),)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"encoder/map": nn.functional.avg_pool2d(image, 4)}


def test_an_encoder_may_have_no_parameters() -> None:
    verify_taps(Pooled(), (64, 32), "zebra")


def test_weights_from_a_file(tmp_path: Path) -> None:
    trained = TimmEncoder("test_resnet", (64, 32))
    path = tmp_path / "weights.pth"
    torch.save(trained.trunk.state_dict(), path)
    found = TimmEncoder("test_resnet", (64, 32), pretrained=path).trunk.state_dict()
    assert all(torch.equal(value, found[k]) for k, value in trained.trunk.state_dict().items())


def test_weights_from_a_file_may_have_a_classifier(tmp_path: Path) -> None:
    trained = TimmEncoder("test_resnet", (64, 32))
    path = tmp_path / "weights.pth"
    state = trained.trunk.state_dict()
    channels = trained.taps[-1].channels
    torch.save({**state, "fc.weight": torch.ones(7, channels), "fc.bias": torch.ones(7)}, path)
    found = TimmEncoder("test_resnet", (64, 32), pretrained=path).trunk.state_dict()
    assert all(torch.equal(value, found[k]) for k, value in state.items())


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_weights_that_cannot_be_used_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no pretrained weights at .*nowhere\.pth"):
        TimmEncoder("test_resnet", (64, 32), pretrained=tmp_path / "nowhere.pth")
    misfit, truncated, pickled = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    torch.save({"other.weight": torch.ones(2)}, misfit)
    torch.save(TimmEncoder("test_resnet", (64, 32)).trunk.state_dict(), truncated)
    truncated.write_bytes(truncated.read_bytes()[:5000])
    torch.save({"conv1.0.weight": Payload()}, pickled)
    for path in (misfit, truncated, pickled):
        with pytest.raises(ConfigError, match=rf"{path.name} do not fit 'test_resnet'") as caught:
            TimmEncoder("test_resnet", (64, 32), pretrained=path)
        assert "\n" not in str(caught.value)
    assert "holds more than tensors, and no code of it is run" in str(caught.value)
    assert not (tmp_path / "unpickled").exists(), "loading weights ran code"


def test_pretrained_weights_offline_are_one_line_that_names_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the hub's client has read from HF_HUB_OFFLINE and HF_HOME when it was imported.
    home = tmp_path / "hub home"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    with pytest.raises(ConfigError) as error:
        TimmEncoder("test_resnet", (64, 32), pretrained=True)
    (line,) = str(error.value).splitlines()
    for word in ("'test_resnet'", str(home / "hub"), "model.pretrained=false", "pretrained=FILE"):
        assert word in line


def test_the_stand_in_for_an_encoder_has_nothing_to_train() -> None:
    encoder = NoEncoder()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    image = torch.ones(1, 3, 40, 24)
    assert torch.equal(encoder(image)["encoder/map"], torch.ones(1, 3, 3, 2))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("test_vit", 1), ("swin_tiny_patch4_window7_224", None), ("mixer_s32_224", 0)],
)
def test_the_map_of_tokens_is_what_the_trunk_gives(name: str, prefix: int | None) -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder(name, (64, 32), last_stride=2).eval()
    torch.nn.init.normal_(encoder.trunk.norm.weight)
    image = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        found = encoder(image)
        whole = encoder.trunk.forward_features(image)
    last = found["encoder/map"]
    wanted = whole.flatten(1, 2) if prefix is None else whole[:, prefix:]
    assert torch.equal(last.flatten(2).transpose(1, 2), wanted)
    assert last.shape == found[encoder.taps[-2].name].shape
    assert not torch.allclose(last, found[encoder.taps[-2].name], atol=0.1)
    encoder.follow({})
    with torch.no_grad():
        assert torch.equal(encoder(image)["encoder/map"], found[encoder.taps[-2].name])


def test_class_tokens_are_vectors() -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("test_vit", (64, 32)).eval()
    torch.nn.init.normal_(encoder.trunk.norm.weight)
    verify_taps(encoder, (64, 32), "core")
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        found, whole = encoder(image), encoder.trunk.forward_features(image)
        first = encoder.trunk.forward_intermediates(image, indices=[0], norm=False)[1]
    assert torch.equal(found["encoder/class"], whole[:, 0])
    deepest = f"{encoder.taps[-2].name}_class"
    assert torch.equal(encoder.trunk.norm(found[deepest]), whole[:, 0])
    assert torch.equal(found["encoder/stage1"], first[0])
    assert found["encoder/stage1_class"].shape == (2, 64)
    strides = {tap.name: tap.stride for tap in encoder.taps}
    assert strides["encoder/class"] == strides["encoder/stage1_class"] == 0
    encoder.follow({})
    with torch.no_grad():
        assert torch.equal(encoder(image)["encoder/class"], found[deepest])


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3", "test_convnext"])
def test_what_is_behind_the_map_waits_for_no_gradient(name: str) -> None:
    encoder = TimmEncoder(name, (64, 32))
    assert not any(tap.name.endswith("class") for tap in encoder.taps), "it has no class token"
    encoder(torch.randn(1, 3, 64, 32))["encoder/map"].square().sum().backward()
    for label, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, label


HALF = [0.5, 0.5, 0.5]


def test_weights_get_images_as_they_were_trained(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    plain = TimmEncoder("test_resnet", (64, 32)).eval()
    torch.save(plain.trunk.state_dict(), path)
    encoder = TimmEncoder("test_resnet", (64, 32), pretrained=path).eval()
    pixels = torch.rand(2, 3, 64, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (EARLIER["mean"], EARLIER["std"]))
    with torch.no_grad():
        found = encoder((pixels - mean) / std)["encoder/map"]
        wanted = encoder.trunk.forward_features((pixels - 0.5) / 0.5)
        assert torch.allclose(found, wanted, atol=1e-5)
        assert torch.equal(plain(pixels)["encoder/map"], plain.trunk.forward_features(pixels))
    assert encoder.conventions == {"final_norm": True, "mean": HALF, "std": HALF}
    assert plain.conventions == {**EARLIER, "final_norm": True}
    assert str(encoder.renormalise).startswith("were trained with mean (0.5, 0.5, 0.5)")
    again = TimmEncoder(**encoder.deploy_spec()["kwargs"]).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(pixels)["encoder/map"], encoder(pixels)["encoder/map"])


def test_weights_may_be_told_their_mean_and_deviation() -> None:
    encoder = TimmEncoder("test_resnet", (64, 32), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    image = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 0  # ImageNet's mean colour
    found = encoder.renormalise(image).flatten()
    assert found.tolist() == pytest.approx([0.385 / 0.4, 0.256 / 0.5, 0.106 / 0.6], abs=1e-6)


@pytest.mark.parametrize(
    ("pixels", "places", "stride"),
    [(100, 7, 16), (100, 4, 32), (100, 25, 4), (100, 6, 16), (256, 16, 16), (256, 18, 14)],
)
def test_strides_need_not_divide_the_image(pixels: int, places: int, stride: int) -> None:
    assert stride_of(pixels, places) == stride


@pytest.mark.parametrize("size", [(100, 50), (32, 16)])
@pytest.mark.parametrize(("last_stride", "last"), [(1, 16), (2, 32)])
def test_taps_have_the_networks_strides_where_the_image_does_not_tell_them(
    last_stride: int, last: int, size: tuple[int, int]
) -> None:
    encoder = on_meta("resnet18", last_stride, size)
    assert [tap.stride for tap in encoder.taps] == [2, 4, 8, 16, last, last]
    with torch.device("meta"):
        verify_taps(encoder, size, "core")


@pytest.mark.parametrize("name", ["vgg11", "dla34", "darknet53", "tresnet_m"])
def test_taps_have_names_of_their_own(name: str) -> None:
    encoder = on_meta(name, 2)
    maps = maps_of(encoder)
    names = [tap.name for tap in encoder.taps]
    assert len(set(names)) == len(names) == len(maps)
    for tap in encoder.taps:
        assert maps[tap.name][1] * tap.stride == 256, tap
    if name != "tresnet_m":
        assert names[:2] == ["encoder/pixels", "encoder/stem"]


@pytest.mark.parametrize("name", ["resnetblur18", "hrnet_w18_small", "inception_v3", "tresnet_m"])
def test_a_network_of_many_paths_keeps_its_stride(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"last_stride = 1 .*'{name}'.*last_stride=2") as caught:
        on_meta(name)
    assert "\n" not in str(caught.value)


def test_a_size_that_a_network_does_not_take_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"'hrnet_w18_small' does not take images of 100 x 50"):
        on_meta("hrnet_w18_small", 2, (100, 50))


def test_a_network_without_feature_maps_is_one_line_before_its_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def without_maps(name: str, pretrained: bool = False, **_: object) -> nn.Module:
        asked.append(pretrained)
        return nn.Linear(2, 2)

    monkeypatch.setattr("timm.create_model", without_maps)
    with pytest.raises(ConfigError, match=r"'test_resnet' has no feature maps .* another one"):
        TimmEncoder("test_resnet", (64, 32), pretrained=True)
    assert asked == [False]


def test_a_network_that_cannot_be_built_at_a_size_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^timm's 'levit_128s' ") as caught:
        TimmEncoder("levit_128s", (50, 30))
    assert "\n" not in str(caught.value)
    assert "data.height" in str(caught.value)
