"""`reid embed` against the bare encoder on the same cores.

The bare encoder gets batches of uint8 that lie in memory already, normalised by itself. The command
reads JPEG files, decodes, crops where there are boxes, resizes, embeds, and writes a gallery. Both
have the same cores, to which the process is bound, and as many threads of torch; so decoding takes
its time from the encoder.

    python benchmarks/embed.py [--cores 1] [--images 1024] [--rounds 5] [--json FILE]

Rounds are interleaved and medians are shown. The ratio is of CPU time, of all threads together: on
cores that are bound it is that of throughput, and what others do on the machine does not count. By
the clock, waiting for the disk and for others is in it, too. Goal: at least 0.9.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reid_core import Embedder, make_embedder
from reid_search.embedding.inputs import Inputs
from reid_search.embedding.worker import BATCH, Worker
from reid_search.gallery.filling import fill
from reid_search.gallery.gallery import Gallery
from reid_search.models import OpenModel, open_model

GOAL = 0.9

FILES = 128
"""Different files; the pictures of a round are these in turn."""


def make_files(folder: Path, height: int, width: int) -> list[Path]:
    """Write smooth colours with some noise as JPEG, about as large as photographs of that size."""
    folder.mkdir()
    paths = []
    for number in range(FILES):
        stream = np.random.default_rng(number)
        coarse = stream.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth).astype(np.int16) + stream.integers(-8, 9, (height, width, 3))
        path = folder / f"{number:04d}.jpg"
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def write_table(table: Path, paths: list[Path], images: int, boxes: list[list[int]]) -> Path:
    """Name pictures, or crops of frames: as many rows of one frame in turn as there are boxes."""
    with table.open("w", encoding="utf-8") as file:
        for number in range(images):
            path = str(paths[number // max(len(boxes), 1) % len(paths)])
            row: dict[str, object] = {"path": path, "number": number}
            # A pixel's difference makes every row one of its own to the gallery.
            shift = number // (len(paths) * max(len(boxes), 1))
            box = boxes[number % len(boxes)] if boxes else [0, 0, 10_000, 10_000 + shift]
            row["box"] = [box[0], box[1], box[2], box[3] + (shift if boxes else 0)]
            file.write(json.dumps(row) + "\n")
    return table


def bare(embedder: Embedder, images: int) -> tuple[float, float]:
    """Return seconds per image of the encoder alone, by the clock and of the CPU."""
    pixels = torch.randint(0, 256, (BATCH, *embedder.size, 3), dtype=torch.uint8)
    batch = pixels.permute(0, 3, 1, 2)
    rounds = -(-images // BATCH)
    began = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for _ in range(rounds):
            embedder(batch)
    return since(began, rounds * BATCH)


def since(began: tuple[float, float], images: int) -> tuple[float, float]:
    ended = time.perf_counter(), time.process_time()
    return (ended[0] - began[0]) / images, (ended[1] - began[1]) / images


def whole(model: OpenModel, table: Path, folder: Path, threads: int) -> tuple[float, float]:
    """Return seconds per picture from files to a gallery, by the clock and of the CPU."""
    inputs = Inputs([table])
    gallery = Gallery.create(folder, model)
    worker = Worker(model.embedder, "cpu", threads=threads)
    began = time.perf_counter(), time.process_time()
    with gallery.writing():
        done = fill(gallery, inputs, worker.embed)
    assert not done.unread
    return since(began, done.added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])
    torch.set_num_threads(args.cores)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shots = make_files(folder / "shots", 128, 64)
        frames = make_files(folder / "frames", 1080, 1920)
        grid = [[60 + 110 * n, 200, 160 + 110 * n, 500] for n in range(16)]
        kinds = {
            "pictures 64 x 128": write_table(folder / "a.jsonl", shots, args.images, []),
            "16 crops of 1920 x 1080": write_table(folder / "b.jsonl", frames, args.images, grid),
        }
        for title, model in models(folder):
            for kind, table in kinds.items():
                rows.append(measured(title, model, kind, table, folder, args))
                print(line(rows[-1]), flush=True)
    if args.json:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "cores": args.cores}
        args.json.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")


def models(folder: Path) -> list[tuple[str, OpenModel]]:
    """Return the shipped embedder and larger ones, whose weights do not matter to the speed."""
    found = [("people/osnet_x0_25", open_model())]
    for name in ("mobilenetv2_100", "resnet50"):
        embedder = make_embedder(name, (256, 128), weights="random", say=lambda line: None)
        found.append((name, OpenModel(name, folder / name, embedder)))
    return found


def measured(
    title: str,
    model: OpenModel,
    kind: str,
    table: Path,
    folder: Path,
    args: argparse.Namespace,
) -> dict[str, object]:
    images = min(args.images, 256) if title == "resnet50" else args.images
    if images < args.images:
        lines = table.read_text().splitlines(keepends=True)[:images]
        table = folder / f"short-{table.name}"
        table.write_text("".join(lines))
    bare(model.embedder, BATCH)
    alone: list[tuple[float, float]] = []
    embedded: list[tuple[float, float]] = []
    takes: list[tuple[list[tuple[float, float]], Callable[[int], tuple[float, float]]]] = [
        (alone, lambda number: bare(model.embedder, images)),
        (embedded, lambda number: whole(model, table, folder / f"g{title[:3]}{kind[:2]}{number}",
                                        args.cores)),
    ]  # fmt: skip
    for number in range(args.rounds):
        for found, take in takes[:: 1 if number % 2 else -1]:
            found.append(take(number))
    both = list(zip(alone, embedded, strict=True))
    return {
        "model": title,
        "pictures": kind,
        "bare": 1 / statistics.median(cpu for _, cpu in alone),
        "embed": 1 / statistics.median(cpu for _, cpu in embedded),
        "ratio": statistics.median(a[1] / e[1] for a, e in both),
        "by_the_clock": statistics.median(a[0] / e[0] for a, e in both),
        "size": list(model.embedder.size),
    }


def line(row: dict[str, object]) -> str:
    met = "" if float(str(row["ratio"])) >= GOAL else "  (goal 0.9 missed)"
    return (
        f"{row['model']:<20} {row['pictures']:<24} bare {row['bare']:6.1f}, reid embed "
        f"{row['embed']:6.1f} per CPU second, ratio {row['ratio']:.3f} (clock "
        f"{row['by_the_clock']:.3f}){met}"
    )


if __name__ == "__main__":
    main()
