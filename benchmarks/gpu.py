"""What can only be seen on a GPU, in a few minutes: `benchmarks/gpu.sh` runs it.

    python benchmarks/gpu.py [--device cuda] [--smoke] [--minutes 8] [--only PART ...] [--out DIR]

Each part runs in a process of its own under a limit of time, so that one that hangs or crashes does
not take the others along, and ``gpu.json`` is written anew after each:

| part | what |
|---|---|
| `tests` | the tests that are marked `cuda` |
| `devices` | synthetic people of the GPU against those of the CPU |
| `speed` | a bf16 product of matrices; training steps, as shares of what that product reaches |
| `loader` | images per second that reach the device, by threads |
| `ddp` | two ranks, and one process: the same scores |
| `evidence` | rows of ResNet-50, one paper after the other, as long as there is time |

With `--smoke` everything is tiny, and `--device cpu` does without a GPU: so every part runs in CI.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))  # python -P leaves it out

from studies.running import in_process  # noqa: E402

from reid_core import ReidError, write_json  # noqa: E402

MARKED = (
    "reid_core/tests/test_core_data_loading.py",
    "reid_core/tests/test_core_conformance.py",
    "reid_retrieval/tests/test_retrieval_neighbours.py",
    "reid_retrieval/tests/test_retrieval_products.py",
    "plugins/reid_synthpeople/tests/test_synthpeople_world.py",
)
"""Files with tests that are marked ``cuda``; a test of the house looks for others."""


def preload() -> None:
    """Import once what all parts need; CUDA itself is left to them."""
    from reid_core.torchvision_guard import ensure

    ensure()
    import timm  # noqa: F401
    import torch._dynamo  # noqa: F401  the first optimiser of a process imports it


def wait(device: str) -> None:
    """Wait for the device's work."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: str, rounds: int) -> float:
    """Return the seconds of one call, after two that warm up."""
    for _ in range(2):
        work()
    wait(device)
    began = time.perf_counter()
    for _ in range(rounds):
        work()
    wait(device)
    return (time.perf_counter() - began) / rounds


# Parts --------------------------------------------------------------------------------------------


def tests(given: Namespace) -> dict[str, Any]:
    """Run the tests that are marked; with ``--smoke`` they are only found."""
    files = MARKED[-1:] if given.smoke else MARKED
    more = ["--collect-only"] if given.smoke else []
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", *more, *files]
    ended = subprocess.run(
        [sys.executable, "-P", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(ended.stdout, ended.stderr)
    last = next((line for line in reversed(ended.stdout.splitlines()) if line.strip()), "")
    if ended.returncode:
        raise ReidError(f"pytest ended with {ended.returncode}: {last}")
    return {"said": last}


def devices(given: Namespace) -> dict[str, Any]:
    """Compare pictures of people of the CPU with those of the GPU."""
    import synthpeople_devices

    people, ulps = (1, [4.0]) if given.smoke else (50, [])
    sizes = synthpeople_devices.SIZES[:1] if given.smoke else synthpeople_devices.SIZES
    return {f"{h} x {w}": synthpeople_devices.compare((h, w), people, ulps) for h, w in sizes}


def speed(given: Namespace) -> dict[str, Any]:
    """Measure a product of matrices in bf16, and training steps against it."""
    import torch
    from step import assembled, framework_step
    from torch.utils.flop_counter import FlopCounterMode

    side, rounds = (256, 1) if given.smoke else (8192, 20)
    one, other = (
        torch.randn(side, side, device=given.device, dtype=torch.bfloat16) for _ in range(2)
    )
    product = 2 * side**3 / seconds_of(lambda: one @ other, given.device, rounds)
    found: dict[str, Any] = {"bf16_product": {"side": side, "tflops": product / 1e12}, "steps": {}}
    cases = [("resnet50", (256, 128), 64), ("resnet50", (256, 128), 256)]
    for backbone, size, batch in [("test_resnet", (64, 32), 16)] if given.smoke else cases:
        for precision in ("fp32", "bf16"):
            with TemporaryDirectory() as folder:
                engine = {"device": given.device, "precision": precision, "channels_last": True}
                step = framework_step(assembled(Path(folder), backbone, size, batch, **engine))
                with FlopCounterMode(display=False) as counter:
                    step()
                spent = seconds_of(step, given.device, 1 if given.smoke else 10)
            rate = counter.get_total_flops() / spent
            found["steps"][f"{backbone} {size[0]} x {size[1]}, batch {batch}, {precision}"] = {
                "seconds": spent,
                "images_per_second": batch / spent,
                "tflops": rate / 1e12,
                "share_of_product": rate / product,
            }
    return found


def loader(given: Namespace) -> dict[str, Any]:
    """Measure images per second that reach the device, by threads."""
    import torch
    from loader import KINDS, in_turn, make_files

    from reid_core.data.augmentation import DeviceAugmentation
    from reid_core.data.loading import BatchLoader

    found: dict[str, Any] = {}
    images = 128 if given.smoke else 8192
    for kind, (height, width, quality) in KINDS.items():
        with TemporaryDirectory() as folder:
            source = make_files(Path(folder) / "files", height, width, quality)
            for threads in (2,) if given.smoke else (2, 4, 8, 16):
                load = BatchLoader(source, (256, 128), threads=threads)
                prepare = DeviceAugmentation().prepare
                began = time.perf_counter()
                for batch in load.load(in_turn(images), 0):
                    prepare(batch, torch.device(given.device))
                wait(given.device)
                rate = images / (time.perf_counter() - began)
                found[f"{kind}, {threads} threads"] = {"images_per_second": rate}
        if given.smoke:
            break
    return found


def _rank(rank: int, ranks: int, port: int, device: str, folder: str, pipe: Any) -> None:
    """Train a tiny run as one of several ranks; rank 0 sends its scores."""
    import torch
    import torch.distributed as dist

    from reid_core.machine.randomness import deterministic
    from reid_core.runs.running import run
    from reid_core.testing.tiny import tiny_flags

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK="0")
    torch.set_num_threads(1)
    if ranks > 1:
        # All ranks share the one device there is, which NCCL refuses and gloo does not.
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    with deterministic(device == "cpu"):
        summary = run(
            tiny_flags((), {"engine": {"device": device}}),
            out=Path(folder) / f"{ranks}",
            cache=Path(folder) / "cache",
            say=lambda line: None,
        )
    if rank == 0:
        joined = dist.get_world_size() if dist.is_initialized() else 1
        pipe.send((joined, [float(result.mean_ap) for result in summary.results]))
    if ranks > 1:
        dist.destroy_process_group()


def ddp(given: Namespace) -> dict[str, Any]:
    """Compare the scores of two ranks on one device with those of one process."""
    import multiprocessing
    import socket

    context = multiprocessing.get_context("fork")
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for ranks in (1, 2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            mine, theirs = context.Pipe(duplex=False)
            arguments = (ranks, port, given.device, folder, theirs)
            began = time.perf_counter()
            workers = [
                context.Process(target=_rank, args=(rank, *arguments)) for rank in range(ranks)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if any(worker.exitcode for worker in workers) or not mine.poll():
                raise ReidError(f"{ranks} ranks: a process ended with an error")
            joined, scores = mine.recv()
            spent = time.perf_counter() - began
            found[f"{ranks} ranks"] = {"joined": joined, "mAP": scores, "seconds": spent}
    one, two = (found[f"{ranks} ranks"]["mAP"] for ranks in (1, 2))
    found["largest_difference"] = max(abs(a - b) for a, b in zip(one, two, strict=True))
    return found


def evidence(given: Namespace) -> dict[str, Any]:
    """Measure rows as long as there is time, and return how many there are."""
    import evidence as rows
    from studies.table import Table

    declared = HERE / "studies" / ("smoke" if given.smoke else "gpu")
    table = given.out / "evidence"
    rows.run(
        Namespace(
            study=[],
            declared=declared,
            table=table,
            work=given.out / "work",
            again=False,
            hours=given.left / 3600,
            limit=given.left,
        )
    )
    return {"rows": len(Table(table).rows), "table": str(table)}


PARTS: dict[str, tuple[float, Callable[[Namespace], dict[str, Any]]]] = {
    "tests": (110, tests),
    "devices": (60, devices),
    "speed": (80, speed),
    "loader": (40, loader),
    "ddp": (50, ddp),
    "evidence": (1e9, evidence),
}
"""Each with the seconds that it may take."""


def machine(given: Namespace) -> dict[str, Any]:
    """Return what the figures are of."""
    import torch

    cuda = given.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "smoke": given.smoke,
    }


def logged(part: Callable[[Namespace], dict[str, Any]], given: Namespace) -> dict[str, Any]:
    """Run a part with all that it prints in a file of its own."""
    log = os.open(given.out / f"{part.__name__}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    return part(given)


def main() -> int:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--only", action="append", choices=PARTS, default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    given = parser.parse_args()
    began, failed = time.monotonic(), 0
    given.out.mkdir(parents=True, exist_ok=True)
    given.out = given.out.absolute()
    preload()
    found: dict[str, Any] = {"machine": in_process(machine, given), "parts": {}}
    for name, (limit, part) in PARTS.items():
        if given.only and name not in given.only:
            continue
        # Some seconds are kept for what ends a part and writes the last figures.
        given.left = min(limit, 60 * given.minutes - (time.monotonic() - began) - 5)
        start = time.monotonic()
        try:
            if given.left < 1:
                raise ReidError("no time was left for it")
            figures = in_process(logged, part, given, limit=given.left + 3)
        except ReidError as error:
            figures, failed = {"problem": str(error)}, failed + 1
        spent = time.monotonic() - start
        found["parts"][name] = {"seconds": round(spent, 1), **figures}
        write_json(given.out / "gpu.json", found)
        print(f"{name}: {spent:.0f} s: {json.dumps(figures)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ReidError as error:
        sys.exit(f"gpu: {error}")
