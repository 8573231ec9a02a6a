"""What a deployed embedder costs: parameters, multiply-adds, images per second, memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from reid_core import Embedder, ReidError, write_json
from reid_core.model.deployed import Deployed, InputContract
from reid_core.model.exporting import export_onnx

FILE = "efficiency.json"
"""Its name in a run's folder."""

BATCHES = (1, 32)
"""Images of a batch; clips where an embedder has learnt from tracklets."""

RUNTIMES = {"torch": "torch", "onnx": "ONNX Runtime, CPU"}
"""What computes features, for reading."""


@dataclass(frozen=True)
class Speed:
    """How fast a runtime is on batches of one size.

    Args:
        runtime: ``torch`` or ``onnx``.
        batch: images of a batch, or clips.
        images_per_second: while one batch follows the other; every frame of a clip is an image.
        peak_mib: the most memory that the first batch took beyond the model's; None where the
            system does not tell, as where the process had kept enough from before.
    """

    runtime: str
    batch: int
    images_per_second: float
    peak_mib: float | None


@dataclass(frozen=True)
class Efficiency:
    """What an embedder costs.

    Args:
        parameters: of all that is deployed.
        multiply_adds: of one image, or of one frame of a clip: see `multiply_adds`.
        dim: length of the feature.
        size: height and width of the input.
        device: torch's, in words.
        threads: of the CPU, for torch and ONNX Runtime.
        speeds: by runtime and batch.
        left_out: why there are none of ONNX Runtime; empty where there are.
        frames: of each clip that batches consist of, where the embedder has learnt from tracklets;
            None where they consist of images.
    """

    parameters: int
    multiply_adds: int
    dim: int
    size: tuple[int, int]
    device: str
    threads: int
    speeds: tuple[Speed, ...]
    left_out: str = ""
    frames: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def measure_efficiency(
    embedder: Embedder, batches: Sequence[int] = BATCHES, seconds: float = 1.0
) -> Efficiency:
    """Measure a deployed embedder on noise, in float32.

    Args:
        embedder: on the device on which torch is to be measured.
        batches: images or clips of a batch, each measured on its own.
        seconds: how long each measurement lasts at least.
    """
    model = Deployed(embedder, InputContract()).eval()
    device = embedder.mean.device
    speeds, left_out = [], ""
    for batch in batches:
        given = [one.to(device) for one in model.arguments(batch)]
        with torch.inference_mode():
            work = partial(model, *given)
            speeds.append(_timed("torch", batch, _images(given), work, device, seconds))
    try:
        speeds += _in_onnx_runtime(embedder, batches, seconds)
    except ReidError as error:
        left_out = str(error)
    return Efficiency(
        sum(parameter.numel() for parameter in embedder.parameters()),
        multiply_adds(embedder),
        embedder.dim,
        embedder.size,
        _named(device),
        torch.get_num_threads(),
        tuple(speeds),
        left_out,
        None if embedder.clip is None else model.example(1).shape[1],
    )


def multiply_adds(embedder: Embedder) -> int:
    """Return the multiply-adds of one image: those of convolutions and matrix products.

    The products of attention are among them, on every device alike. Of an embedder that has learnt
    from tracklets it is a frame's share of a clip.
    """
    model = Deployed(embedder, InputContract()).eval()
    given = [one.to(embedder.mean.device) for one in model.arguments(1)]
    with torch.no_grad(), _plain_attention(), FlopCounterMode(display=False) as counted:
        model(*given)
    # The counter counts a multiplication and an addition as two.
    return int(counted.get_total_flops()) // 2 // _images(given)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention be computed by matrix products: the counter knows few of its fused kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _images(given: Sequence[Tensor]) -> int:
    """Return how many images the arguments of an embedder show, those of clips included."""
    return int(given[0].shape[:-3].numel())


def show_cost(embedder: Embedder, model: str) -> dict[str, Any]:
    """Print what an embedder costs, and keep it in the folder of a run: ``reid eval --cost``.

    Args:
        embedder: on the device on which torch is to be measured.
        model: what the user called it by.

    Returns:
        The figures as plain values, for ``--json``.
    """
    found = measure_efficiency(embedder)
    Console().print(efficiency_table(found, f"cost of {model}"))
    if (Path(model) / "run.json").is_file():
        write_json(Path(model) / FILE, found.to_json())
    return found.to_json()


def efficiency_table(found: Efficiency, title: str) -> Table:
    """Return the table that ``reid eval --cost`` prints."""
    height, width = found.size
    shown = "image" if found.frames is None else f"clip of {found.frames} images"
    facts = (
        f"{found.parameters:,} parameters, {found.multiply_adds / 1e6:,.1f} M multiply-adds per "
        f"image of {height} x {width}; {found.dim} numbers per {shown}; torch on {found.device}, "
        f"{found.threads} thread{'s' * (found.threads != 1)}, float32"
    )
    caption = f"{facts}; {found.left_out}" if found.left_out else facts
    table = Table(title=title, caption=caption, caption_justify="left")
    table.add_column("runtime")
    batch = "batch" if found.frames is None else "batch, clips"
    for name in (batch, "images/s", "peak memory, MiB"):
        table.add_column(name, justify="right")
    for one in found.speeds:
        peak = "not told" if one.peak_mib is None else f"{one.peak_mib:,.0f}"
        speed = f"{one.images_per_second:,.1f}"
        table.add_row(RUNTIMES[one.runtime], f"{one.batch}", speed, peak)
    return table


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _in_onnx_runtime(embedder: Embedder, batches: Sequence[int], seconds: float) -> list[Speed]:
    for package in ("onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise ReidError(f"ONNX Runtime needs {package}: pip install 'reid-core[onnx]'")
    import onnxruntime

    own = embedder.mean.device
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embedder.onnx"
        try:
            export_onnx(embedder.cpu(), path)
        finally:
            embedder.to(own)
        model = Deployed(embedder, InputContract())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        for batch in batches:
            # Of its own, for a session keeps the memory of the largest batch.
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            arguments = model.arguments(batch)
            named = zip(model.names(), arguments, strict=True)
            given = {name: value.numpy() for name, value in named}
            speeds.append(
                _timed(
                    "onnx",
                    batch,
                    _images(arguments),
                    partial(session.run, None, given),
                    torch.device("cpu"),
                    seconds,
                )
            )
    return speeds


def _timed(
    runtime: str,
    batch: int,
    images: int,
    work: Callable[[], Tensor | Sequence[Any]],
    device: torch.device,
    seconds: float,
) -> Speed:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def worked() -> None:
        work()
        wait()

    peak = _peak(worked, device)
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        work()
        wait()
        done += 1
    rate = done * images / (time.perf_counter() - began)
    return Speed(runtime, batch, rate, None if peak is None else peak / 2**20)


def _peak(work: Callable[[], object], device: torch.device) -> int | None:
    """Return the most bytes that some work took beyond what was taken before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return int(torch.cuda.max_memory_allocated(device)) - before
    try:
        # Lets Linux count the peak of this process anew.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident("VmRSS")
    except OSError:
        work()
        return None
    work()
    # Memory that was freed before and is kept by the process is taken again unseen; the kernel
    # counts roughly, so that a peak may even lie below what was there.
    return max(_resident("VmHWM") - before, 0) or None


def _resident(line: str) -> int:
    """Return a line of the process's memory status in bytes."""
    for one in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = one.partition(":")
        if name == line:
            return int(value.split()[0]) * 1024
    raise OSError(f"no {line} in /proc/self/status")
