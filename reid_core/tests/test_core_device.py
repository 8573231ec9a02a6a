"""Device, precision and memory format."""

from __future__ import annotations

import pytest
import torch

from reid_core.config import EngineSection
from reid_core.errors import DeviceError
from reid_core.machine.devices import autocast_of, choose_device, memory_format_of

CPU = torch.device("cpu")


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_auto_falls_back_to_the_cpu() -> None:
    assert choose_device("auto") == choose_device("cpu") == CPU


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_that_is_absent_is_one_line_with_the_remedy(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_device(name)
    for word in (f"'{name}'", "no CUDA device", torch.__version__, "--device cpu"):
        assert word in str(caught.value)


def test_a_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("auto").type == "cuda"
    with pytest.raises(DeviceError, match=r"'cuda:2', but there are 2 CUDA devices"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu0"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{name}' is no device; use auto, cpu or cuda"):
        choose_device(name)


def product_type(settings: EngineSection, device: torch.device = CPU) -> torch.dtype:
    with autocast_of(settings, device)():
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_precision_is_that_of_the_settings() -> None:
    assert product_type(EngineSection(precision="fp32")) == torch.float32
    assert product_type(EngineSection(precision="bf16")) == torch.bfloat16


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_takes_bfloat16_where_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert product_type(EngineSection()) == expected


def test_a_cpu_of_which_torch_tells_nothing_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert product_type(EngineSection()) == torch.float32


def test_cuda_takes_bfloat16_unless_told_otherwise() -> None:
    cuda = torch.device("cuda")
    with pytest.MonkeyPatch.context() as patch:
        opened = []
        patch.setattr(torch, "autocast", lambda *arguments: opened.append(arguments))
        autocast_of(EngineSection(), cuda)()
        autocast_of(EngineSection(precision="fp32"), cuda)()
    assert opened == [("cuda", torch.bfloat16)]


def test_channels_last_unless_told_otherwise() -> None:
    assert memory_format_of(EngineSection()) == torch.channels_last
    assert memory_format_of(EngineSection(channels_last=True)) == torch.channels_last
    assert memory_format_of(EngineSection(channels_last=False)) == torch.contiguous_format
