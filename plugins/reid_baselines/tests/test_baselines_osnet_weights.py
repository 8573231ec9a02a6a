"""The importer of published weights, against a plain OSNet with the published names.

The reference below is written from the architecture's description as functions over a state dict:
it shares no code with the encoder, so equal features mean equal networks.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from whole_models import SIX

from reid_baselines.osnet_encoder import OsnetEncoder, OsnetFc
from reid_baselines.osnet_weights import load_encoder, load_fc, published_name
from reid_baselines.osnet_widths import AIN, ENCODERS, WIDTHS
from reid_core import ConfigError
from reid_core.testing.tiny import tiny_assembly

State = dict[str, Tensor]
STREAMS = {"conv2a": 1, "conv2b": 2, "conv2c": 3, "conv2d": 4}


ALONE = {"conv2.0", "conv2.1", "conv3.1", "conv4.0"}
"""Blocks of OSNet-AIN that normalise every image by itself."""


def published_state(name: str, identities: int = 7, seed: int = 0) -> State:
    """Return weights as torchreid stores them, random, with statistics that matter."""
    ain = name in AIN
    generator = torch.Generator().manual_seed(seed)
    state: State = OrderedDict()

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def conv(key: str, channels: int, out: int, size: int = 1, bias: bool = False) -> None:
        state[f"{key}.weight"] = drawn(out, channels, size, size) / (channels * size**2) ** 0.5
        if bias:
            state[f"{key}.bias"] = 0.1 * drawn(out)

    def norm(key: str, channels: int) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * drawn(channels)
        state[f"{key}.bias"] = 0.1 * drawn(channels)
        state[f"{key}.running_mean"] = 0.1 * drawn(channels)
        state[f"{key}.running_var"] = 1 + drawn(channels).square()
        state[f"{key}.num_batches_tracked"] = torch.tensor(9)

    def instance(key: str, channels: int) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * drawn(channels)
        state[f"{key}.bias"] = 0.1 * drawn(channels)

    def layer(key: str, channels: int, out: int, size: int = 1) -> None:
        conv(f"{key}.conv", channels, out, size)
        (instance if ain and key == "conv1" else norm)(f"{key}.bn", out)

    def block(key: str, channels: int, out: int) -> None:
        middle = out // 4
        layer(f"{key}.conv1", channels, middle)
        for stream, depth in STREAMS.items():
            for step in range(depth):
                light = light_name(ain, key, stream, step)
                conv(f"{light}.conv1", middle, middle)
                conv(f"{light}.conv2", 1, middle, 3)
                norm(f"{light}.bn", middle)
        conv(f"{key}.gate.fc1", middle, middle // 16, bias=True)
        conv(f"{key}.gate.fc2", middle // 16, middle, bias=True)
        if ain and key in ALONE:
            conv(f"{key}.conv3.conv", middle, out)
            instance(f"{key}.IN", out)
        else:
            layer(f"{key}.conv3", middle, out)
        if channels != out:
            layer(f"{key}.downsample", channels, out)

    channels = ENCODERS[name]
    layer("conv1", 3, channels[0], 7)
    for stage in (2, 3, 4):
        before, out = channels[stage - 2 : stage]
        block(f"conv{stage}.0", before, out)
        block(f"conv{stage}.1", out, out)
        if stage < 4:
            layer(f"pool{stage}.0" if ain else f"conv{stage}.2.0", out, out)
    layer("conv5", channels[3], channels[3])
    state["fc.0.weight"] = drawn(512, channels[3]) / channels[3] ** 0.5
    state["fc.0.bias"] = 0.1 * drawn(512)
    norm("fc.1", 512)
    state["classifier.weight"] = drawn(identities, 512)
    state["classifier.bias"] = drawn(identities)
    return state


def light_name(ain: bool, block: str, stream: str, step: int) -> str:
    """Return the published name of a light convolution."""
    if ain:
        return f"{block}.conv2.{STREAMS[stream] - 1}.layers.{step}"
    return f"{block}.{stream}" if STREAMS[stream] == 1 else f"{block}.{stream}.{step}"


def reference(state: State, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last map and the feature ``B 512`` of an OSNet in evaluation mode."""
    ain = "pool2.0.conv.weight" in state

    def norm(key: str, x: Tensor) -> Tensor:
        if f"{key}.running_var" not in state:
            x = x - x.mean((2, 3), keepdim=True)
            x = x / (x.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
            return x * state[f"{key}.weight"][:, None, None] + state[f"{key}.bias"][:, None, None]
        parts = (
            state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, *parts)

    def layer(key: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, state[f"{key}.conv.weight"], stride=stride, padding=padding)
        return norm(f"{key}.bn", x)

    def light(key: str, x: Tensor) -> Tensor:
        x = F.conv2d(x, state[f"{key}.conv1.weight"])
        x = F.conv2d(x, state[f"{key}.conv2.weight"], padding=1, groups=x.shape[1])
        return norm(f"{key}.bn", x).relu()

    def gated(key: str, x: Tensor) -> Tensor:
        hidden = F.adaptive_avg_pool2d(x, 1)
        hidden = F.conv2d(hidden, state[f"{key}.fc1.weight"], state[f"{key}.fc1.bias"]).relu()
        return x * F.conv2d(hidden, state[f"{key}.fc2.weight"], state[f"{key}.fc2.bias"]).sigmoid()

    def block(key: str, x: Tensor) -> Tensor:
        reduced = layer(f"{key}.conv1", x).relu()
        total = 0
        for stream, depth in STREAMS.items():
            seen = reduced
            for step in range(depth):
                seen = light(light_name(ain, key, stream, step), seen)
            total = total + gated(f"{key}.gate", seen)
        down = f"{key}.downsample"
        shortcut = layer(down, x) if f"{down}.conv.weight" in state else x
        if ain and key in ALONE:
            residual = norm(f"{key}.IN", F.conv2d(total, state[f"{key}.conv3.conv.weight"]))
        else:
            residual = layer(f"{key}.conv3", total)
        return (residual + shortcut).relu()

    x = F.max_pool2d(layer("conv1", image, 2, 3).relu(), 3, 2, 1)
    for stage in (2, 3, 4):
        x = block(f"conv{stage}.1", block(f"conv{stage}.0", x))
        if stage < 4:
            x = F.avg_pool2d(layer(f"pool{stage}.0" if ain else f"conv{stage}.2.0", x).relu(), 2)
    x = layer("conv5", x).relu()
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    feature = F.linear(pooled, state["fc.0.weight"], state["fc.0.bias"])
    return x, norm("fc.1", feature).relu()


@pytest.mark.parametrize("name", [*WIDTHS, "osnet_ain_x0_25"])
def test_imported_weights_compute_what_the_original_computes(tmp_path: Path, name: str) -> None:
    state = published_state(name)
    path = tmp_path / f"{name}_imagenet.pth"
    torch.save(state, path)
    encoder = OsnetEncoder(ENCODERS[name], ain=name in AIN).eval()
    fc = OsnetFc(ENCODERS[name][-1], 512).eval()
    load_encoder(encoder, name, path)
    load_fc(fc, name, path)
    image = torch.randn(2, 3, 256, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted_map, wanted = reference(state, image)
        found_map = encoder(image)["encoder/map"]
        found = fc(found_map.mean((2, 3)))
    assert wanted_map.std() > 0.05
    assert wanted.std() > 0.05
    assert (found_map - wanted_map).abs().max() < 1e-5
    assert (found - wanted).abs().max() < 1e-5


def test_a_run_starts_from_the_published_feature(tmp_path: Path, reid_cache: Path) -> None:
    name = "osnet_x0_25"
    state = published_state(name)
    path = tmp_path / "osnet.pth"
    torch.save(state, path)
    layers = {
        "model": {"backbone": name, "pretrained": str(path)},
        "plugins": {"osnet": {"fc": True}},
    }
    embedder = tiny_assembly(("osnet",), SIX, layers, cache=reid_cache).embedder().eval()
    image = torch.rand(2, 3, 96, 32)
    with torch.no_grad():
        _, wanted = reference(state, (image - embedder.mean) / embedder.std)
        assert (embedder(image) - F.normalize(wanted, dim=1)).abs().max() < 1e-5


def test_every_entry_has_its_published_name() -> None:
    heads = ("fc.", "classifier.")
    published = {key for key in published_state("osnet_x0_25") if not key.startswith(heads)}
    own = OsnetEncoder(WIDTHS["osnet_x0_25"]).state_dict()
    assert {published_name(name) for name in own} == published
    assert len(own) == len(published)
    for ours, theirs in (
        ("stem.conv.weight", "conv1.conv.weight"),
        ("stages.0.0.reduce.norm.bias", "conv2.0.conv1.bn.bias"),
        ("stages.1.1.streams.0.0.pointwise.weight", "conv3.1.conv2a.conv1.weight"),
        ("stages.2.0.streams.3.2.depthwise.weight", "conv4.0.conv2d.2.conv2.weight"),
        ("stages.0.1.gate.squeeze.bias", "conv2.1.gate.fc1.bias"),
        ("stages.1.0.expand.conv.weight", "conv3.0.conv3.conv.weight"),
        ("stages.1.0.shortcut.conv.weight", "conv3.0.downsample.conv.weight"),
        ("transitions.0.0.conv.weight", "conv2.2.0.conv.weight"),
        ("last.norm.running_var", "conv5.bn.running_var"),
    ):
        assert published_name(ours) == theirs


def test_a_training_checkpoint_is_read(tmp_path: Path) -> None:
    name = "osnet_x0_25"
    state = published_state(name)
    path = tmp_path / "model.pth.tar-60"
    scores = {"rank1": np.float64(0.91), "map": np.float32(0.8), "epoch": 60}
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped, "optimizer": {"state": {}}, **scores}, path)
    encoder = OsnetEncoder(WIDTHS[name])
    load_encoder(encoder, name, path)
    assert torch.equal(encoder.stem.conv.weight, state["conv1.conv.weight"])


def test_files_without_counters_of_batch_norm_are_read(tmp_path: Path) -> None:
    state = published_state("osnet_x0_25")
    path = tmp_path / "old.pth"
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, path)
    encoder = OsnetEncoder(WIDTHS["osnet_x0_25"])
    load_encoder(encoder, "osnet_x0_25", path)
    assert torch.equal(encoder.last.norm.running_var, state["conv5.bn.running_var"])


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def refusal(path: Path, content: Any, name: str = "osnet_x0_25") -> str:
    torch.save(content, path)
    with pytest.raises(ConfigError) as caught:
        load_encoder(OsnetEncoder(WIDTHS[name]), name, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_of_another_width_are_named(tmp_path: Path) -> None:
    text = refusal(tmp_path / "w.pth", published_state("osnet_x0_5"))
    assert "are of 'osnet_x0_5', not of 'osnet_x0_25': add --backbone osnet_x0_5" in text
    path = tmp_path / "ain.pth"
    torch.save(published_state("osnet_ain_x0_5"), path)
    with pytest.raises(ConfigError, match=r"are of 'osnet_ain_x0_5', not of 'osnet_ain_x0_25'"):
        load_encoder(OsnetEncoder(AIN["osnet_ain_x0_25"], ain=True), "osnet_ain_x0_25", path)


def test_weights_of_another_network_are_named_by_what_does_not_fit(tmp_path: Path) -> None:
    state = published_state("osnet_x0_25")
    path = tmp_path / "w.pth"
    lacking = {key: value for key, value in state.items() if key != "conv5.bn.weight"}
    assert "conv5.bn.weight is missing (1 of " in refusal(path, lacking)
    more = {**state, "conv2.0.IN.weight": torch.ones(64)}
    assert "conv2.0.IN.weight is unknown to it" in refusal(path, more)
    assert "conv1.conv.weight is missing" in refusal(path, {"layer1.weight": torch.ones(2)})
    for nothing in ([1, 2], {}, torch.ones(2)):
        assert "it holds no tensors by name, as a network's state" in refusal(path, nothing)
    name = "conv5.conv.weight"
    assert f"{name} is of int8, not of floating" in refusal(
        path, {**state, name: state[name].char()}
    )
    for value in (float("nan"), float("inf")):
        wrong = {**state, name: torch.full_like(state[name], value)}
        assert f"{name} is not finite" in refusal(path, wrong)
    odd = {**state, "conv5.conv.weight": torch.ones(3, 3, 1, 1)}
    assert "do not fit 'osnet_x0_25'" in refusal(path, odd)


def test_a_file_that_is_missing_or_no_weights_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no pretrained weights at .*nowhere\.pth"):
        load_encoder(OsnetEncoder(WIDTHS["osnet_x0_25"]), "osnet_x0_25", tmp_path / "nowhere.pth")
    assert "w.pth do not fit" in refusal(tmp_path / "w.pth", {"conv1.conv.weight": Payload()})
    assert not (tmp_path / "unpickled").exists(), "loading weights ran code"
    for text in ("", "i am no weights", "hello"):
        (tmp_path / "t.pth").write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=r"t\.pth do not fit .*it is no file of torch\.save"):
            load_encoder(OsnetEncoder(WIDTHS["osnet_x0_25"]), "osnet_x0_25", tmp_path / "t.pth")
