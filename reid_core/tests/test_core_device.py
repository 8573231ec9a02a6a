"""Device, precision and memory format."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reid_core.config import EngineSection
from reid_core.errors import DeviceError
from reid_core.machine.devices import autocast_of, choose_device, device_errors, memory_format_of
from reid_core.runs import running
from reid_core.runs.describing import closing_line, cost
from reid_core.testing.fixtures import RunReid

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


@pytest.mark.parametrize("name", ["mps", "xpu", "meta"])
@pytest.mark.parametrize("there", [None, torch.device("cuda")])
def test_another_accelerator_that_is_absent_is_one_line(
    name: str, there: torch.device | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: there)
    with pytest.raises(DeviceError, match=rf"'{name}', but there is no such device here .*auto"):
        choose_device(name)


def test_another_accelerator_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert choose_device("mps") == torch.device("mps")


@pytest.mark.usefixtures("no_cuda")
def test_devices_that_are_hidden_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES is empty and hides all"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            r"^out of memory \(CUDA .*\): h",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            r"^out of memory \(Def.*: h",
        ),
        (MemoryError(), r"^out of memory \(the host\): halve it$"),
        (
            RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore"),
            r"^the device cannot be used \(CUDA error.*unavailable\).*--device cpu$",
        ),
    ],
)
def test_what_a_device_refuses_is_one_line(error: Exception, message: str) -> None:
    with pytest.raises(DeviceError, match=message), device_errors("halve it"):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), device_errors("halve it"):
        raise RuntimeError("sizes differ")


def test_a_run_out_of_memory_names_the_settings_that_halve_it(
    run_reid: RunReid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(running, "_run", full)
    code, _, err = run_reid("run", "--data", "toy:tiny", "--out", tmp_path / "run")
    assert code == 2
    assert "-s data.batch_size=32" in err
    assert "-s evaluation.batch_size=64" in err
    assert err.count("\n") == 1


def test_without_the_module_resource_a_run_tells_no_peak_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    trainer = SimpleNamespace(
        seconds=1.0, images=2, waited=0.0, assembly=SimpleNamespace(ctx=SimpleNamespace(device=CPU))
    )
    assert closing_line(cost(trainer, 1.0)).endswith("waiting for data; memory: not told")
    trainer.images = 0  # a finished run that was resumed
    assert closing_line(cost(trainer, 1.0)) == "1 s; training: no step was left; memory: not told"
