"""Training throughput of one process and of two, each with one thread: ratios in one run.

    python benchmarks/ranks.py [--steps N] [--json FILE]

Both train the same global batches of the baseline on the toy data set; two processes divide each
batch and meet through gloo (NCCL, one device each, where there are two CUDA devices).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from reid_core.loop.trainer import Trainer
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve


def train(rank: int, ranks: int, folder: Path, steps: int, cuda: bool) -> None:
    """Train and write the seconds of the steps after the warm-up."""
    torch.set_num_threads(1)
    if cuda:
        torch.cuda.set_device(rank)
    meeting = f"file://{folder}/meeting{ranks}"
    dist.init_process_group("nccl" if cuda else "gloo", meeting, rank=rank, world_size=ranks)
    flags = {
        "data": {"name": "toy:tiny", "height": 128, "width": 64, "batch_size": 64, "instances": 8},
        "engine": {"device": "cuda" if cuda else "cpu"},
        "schedule": {"epochs": 2, "iterations_per_epoch": steps, "warmup_epochs": 0},
    }
    trainer = Trainer(assemble(resolve(flags), cache=folder, say=lambda line: None))
    trainer.assembly.model.train()
    seconds = []
    for epoch in range(2):
        trainer.assembly.ctx.progress.epoch, trainer.assembly.ctx.progress.step = epoch, 0
        dist.barrier()
        began = time.perf_counter()
        trainer.train_epoch()
        dist.barrier()
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        (folder / f"seconds{ranks}.json").write_text(json.dumps(seconds[1]))
    dist.destroy_process_group()


def main() -> None:
    """Run with one process and with two; print images per second and the ratio."""
    parser = argparse.ArgumentParser(description="Throughput of one process and of two.")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cuda = torch.cuda.device_count() >= 2
    speeds: dict[int, float] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for ranks in (1, 2):
            mp.spawn(train, (ranks, folder, options.steps, cuda), nprocs=ranks)
            seconds = json.loads((folder / f"seconds{ranks}.json").read_text())
            speeds[ranks] = 64 * options.steps / seconds
            print(f"{ranks} process(es): {speeds[ranks]:7.1f} images/s")
    print(f"two processes against one: {speeds[2] / speeds[1]:.2f}x ({os.cpu_count()} cores)")
    if options.json:
        results: dict[str, Any] = {
            "images_per_second": speeds,
            "ratio": speeds[2] / speeds[1],
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
