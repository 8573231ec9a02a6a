"""Device, mixed precision and memory format of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from reid_core.config import EngineSection
from reid_core.errors import DeviceError
from reid_core.machine.ranks import world

M = TypeVar("M", bound=nn.Module)

STAND_INS: set[str] = set()
"""Types of devices that stand for another one as long as a test says so."""


def choose_device(name: str) -> torch.device:
    """Return the device that ``engine.device`` names; ``auto`` takes CUDA where there is one.

    Raises:
        DeviceError: the device is unknown, or CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and world()[1] > 1:
        name = f"cuda:{torch.cuda.current_device()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"engine.device = '{name}' is no device; use auto, cpu or cuda") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            built = torch.version.cuda or "without CUDA"
            hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
            raise DeviceError(
                f"engine.device = '{name}', but there is no CUDA device here (torch "
                f"{torch.__version__}, built {built}"
                f"{'; CUDA_VISIBLE_DEVICES is empty and hides all' if hidden else ''}); "
                "use --device cpu"
            )
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise DeviceError(
                f"engine.device = '{name}', but there are {torch.cuda.device_count()} CUDA devices"
            )
    elif device.type not in ("cpu", *STAND_INS):
        there = torch.accelerator.current_accelerator()
        if there is None or there.type != device.type:
            raise DeviceError(
                f"engine.device = '{name}', but there is no such device here (torch "
                f"{torch.__version__}); use --device auto or cpu"
            )
    return device


@contextmanager
def device_errors(remedy: str) -> Iterator[None]:
    """Say in one line what a device refuses: it is out of memory, or others use it.

    Args:
        remedy: what needs less memory.

    Raises:
        DeviceError: with what the device said and the remedy.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = " ".join(str(error).partition("\n")[0].split())[:160]
        short = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if short or any(words in said for words in _SHORT):
            raise DeviceError(f"out of memory ({said or 'the host'}): {remedy}") from error
        if any(words in said for words in _BUSY):
            raise DeviceError(
                f"the device cannot be used ({said}): others may use it; wait, choose another one "
                "with --device cuda:N, or use --device cpu"
            ) from error
        raise


_SHORT = ("out of memory", "can't allocate memory", "not enough memory")
_BUSY = ("busy or unavailable", "CUDA initialization", "no CUDA-capable device")


def precision_of(settings: EngineSection, device: torch.device) -> str:
    """Return ``bf16`` or ``fp32``: what ``engine.precision`` comes to on a device.

    ``auto`` is bfloat16 where the device multiplies it itself: CUDA, and CPUs with AVX512_BF16 or
    AMX, on which a training step takes half the time. Others would only emulate it, slowly.
    """
    if settings.precision == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    return settings.precision


def autocast_of(
    settings: EngineSection, device: torch.device
) -> Callable[[], AbstractContextManager[None]]:
    """Return what opens the run's mixed precision."""
    if precision_of(settings, device) == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type != "cpu":
        return device.type == "cuda"
    # Older releases of torch do not tell.
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def memory_format_of(settings: EngineSection) -> torch.memory_format:
    """Return the memory format of images and convolutions: channels last unless told otherwise."""
    return torch.contiguous_format if settings.channels_last is False else torch.channels_last


def placed(module: M, settings: EngineSection, device: torch.device | None = None) -> M:
    """Move a module to a device, its convolutions of images in the run's memory format.

    Args:
        module: what is moved, in place.
        settings: of the run.
        device: where to; None leaves it where it is.

    Returns:
        The module.
    """
    layout = memory_format_of(settings)
    tensors = [*module.parameters(), *module.buffers()]
    if not any(tensor.dim() == 5 for tensor in tensors):
        return module.to(device=device, memory_format=layout)  # type: ignore[call-overload,no-any-return]
    # torch would put convolutions over time into the format as well, which they do not have.
    if device is not None:
        module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=layout)
    return module
