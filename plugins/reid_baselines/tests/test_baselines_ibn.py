"""IBN-a and IBN-b: where the norms are, what they compute, and the authors' files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from whole_models import Run, count

from reid_baselines.ibn_encoder import IbnEncoder, InstanceBatchNorm
from reid_baselines.ibn_names import NAMES
from reid_core import ConfigError, TimmEncoder
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly

SIZE = (64, 32)

test_conforms = conformance_suite("ibn", {"model": {"backbone": "test_resnet_ibn_a"}})


def test_half_of_the_channels_are_normalised_by_the_image() -> None:
    feature = 3 + 2 * torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0))
    found = InstanceBatchNorm(6).train()(feature)
    alone, together = feature[:, :3], feature[:, 3:]
    own = (alone - alone.mean((2, 3), keepdim=True)) / (
        alone.var((2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    both = (together - together.mean((0, 2, 3), keepdim=True)) / (
        together.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    assert torch.allclose(found, torch.cat([own, both], 1), atol=1e-5)


@pytest.mark.parametrize("kind", ["a", "b"])
def test_the_norms_are_where_the_paper_has_them(kind: str) -> None:
    with torch.device("meta"):
        plain = TimmEncoder("resnet50", SIZE)
        encoder = IbnEncoder(f"resnet50_ibn_{kind}", SIZE)
    kinds = (InstanceBatchNorm, nn.InstanceNorm2d)
    found = {
        name.removeprefix("trunk.")
        for name, module in encoder.named_modules()
        if isinstance(module, kinds) and not name.endswith(".IN")
    }
    blocks = (3, 4, 6)
    first = {f"layer{n}.{b}.bn1" for n, count in enumerate(blocks, 1) for b in range(count)}
    wanted = {"a": first, "b": {"bn1", "layer1.2.act3.0", "layer2.3.act3.0"}}
    assert found == wanted[kind]
    # As many parameters, but for two more norms behind sums of 256 and 512 channels.
    assert count(encoder) - count(plain) == {"a": 0, "b": 2 * (256 + 512)}[kind]


def published(kind: str) -> dict[str, torch.Tensor]:
    """Return random weights under the names of the authors' files of a small ResNet."""
    torch.manual_seed(1)
    trunk = IbnEncoder(f"test_resnet_ibn_{kind}", SIZE).trunk
    state = trunk.state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand_like(value))
    last = "act3" if hasattr(trunk.layer1[0], "conv3") else "act2"
    found = {name.replace(f".{last}.0.", ".IN."): value for name, value in state.items()}
    return {**found, "fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}


@pytest.mark.parametrize("kind", ["a", "b"])
def test_the_authors_files_are_read(tmp_path: Path, kind: str) -> None:
    state, path = published(kind), tmp_path / "ibn.pth"
    expected = {
        "a": {"layer1.0.bn1.IN.weight", "layer1.0.bn1.BN.running_var"},
        "b": {"bn1.weight", "layer1.0.IN.weight"},
    }[kind]
    assert expected <= set(state)
    torch.save(state, path)
    encoder = IbnEncoder(f"test_resnet_ibn_{kind}", SIZE, pretrained=path)
    assert encoder.filled.left == ("fc.weight", "fc.bias")
    found = encoder.trunk.state_dict()
    assert torch.equal(found["layer4.0.conv1.weight"], state["layer4.0.conv1.weight"])
    other = "a" if kind == "b" else "b"
    with pytest.raises(ConfigError, match=rf"do not fit 'test_resnet_ibn_{other}'"):
        IbnEncoder(f"test_resnet_ibn_{other}", SIZE, pretrained=path)


def test_the_name_alone_chooses_the_encoder_and_it_trains(reid_cache: Path) -> None:
    run = Run(reid_cache, (), {"model": {"backbone": "test_resnet_ibn_b"}})
    assert run.model.encoder.deploy_spec()["kwargs"]["name"] == "test_resnet_ibn_b"
    moved = run.moved_by_step()
    assert any(".act2.0." in name or ".act3.0." in name for name in moved)
    with pytest.raises(ConfigError, match=r"weights of 'resnet50_ibn_a' are not fetched"):
        tiny_assembly(
            ("ibn",),
            {"model": {"backbone": "resnet50_ibn_a", "pretrained": True}},
            cache=reid_cache,
        )


def test_all_depths_have_both_kinds() -> None:
    assert len(NAMES) == 12
    assert resolve({"run": {"plugins": ["ibn"]}}).config.model.backbone == "resnet50_ibn_a"
