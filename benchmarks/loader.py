"""Loading images: reid-core's BatchLoader against a torchreid-like pipeline.

The alternative is what most re-identification code runs: Pillow decodes and resizes, the image is
flipped, padded and cropped with Pillow, made a float32 tensor, normalised, and sent from two worker
processes of a torch DataLoader. reid-core decodes with two threads into uint8 batches that are used
again; normalisation belongs to the device, and is timed on the CPU in a row of its own.

    python benchmarks/loader.py [--images 1024] [--rounds 5] [--json FILE]

CPU time is that of all processes and threads, worker start included; a loader that needs less of it
feeds more GPU. Rounds are interleaved and medians are shown, so that a busy machine disturbs the
ratios little. Goal: at least 4 times less CPU per image from end to end (floor: half of it).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_core.contract.samples import Sample, Source
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.draws import Draw, in_order
from reid_core.data.encoding import image_bytes
from reid_core.data.geometry import GeometryPolicy
from reid_core.data.loading import BatchLoader
from reid_core.testing.toy.cameras import ToyCamera
from reid_core.testing.toy.figures import draw_figure
from reid_core.testing.toy.people import draw_body, draw_outfit, dress

SIZE = (256, 128)
PAD = 10
BATCH = 64
WORKERS = 2
GOAL = 4.0
FILES = 128
"""Different files; an epoch reads them in turn."""

KINDS = {"64 x 128 (Market-like)": (128, 64, 88), "200 x 450 (PRCC-like)": (450, 200, 91)}
"""Width x height: height, width and JPEG quality of the files."""


def make_files(folder: Path, height: int, width: int, quality: int) -> Source:
    """Draw figures of one size and write them as JPEG."""
    folder.mkdir()
    samples = []
    for number in range(FILES):
        rng = np.random.default_rng(number)
        camera = ToyCamera(rng, (height, width), strength=0.5)
        body = draw_body(rng)
        surface = dress(body, draw_outfit(rng))
        figure = draw_figure(body, *surface, camera.draw_pose(rng), camera.draw_framing(rng))
        path = folder / f"{number:04d}.jpg"
        path.write_bytes(image_bytes(camera.take(figure, rng), quality))
        samples.append(Sample(path, number, 0))
    return Source("main", tuple(samples))


class TorchreidLike(Dataset[tuple[Tensor, int]]):
    """Pillow images to normalised float32 tensors, with torchvision's operations on Pillow."""

    def __init__(self, source: Source, images: int) -> None:
        self.paths = [str(sample.path) for sample in source.samples]
        self.images = images
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[row % len(self.paths)]) as file:
            image = file.convert("RGB")
        image = image.resize(SIZE[::-1], Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = ImageOps.expand(image, PAD)
        left, top = torch.randint(0, 2 * PAD + 1, (2,)).tolist()
        image = image.crop((left, top, left + SIZE[1], top + SIZE[0]))
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div(255).sub_(self.mean).div_(self.std), row


def in_turn(images: int) -> Iterator[Draw]:
    for draw in in_order(images, BATCH):
        yield Draw(draw.rows % FILES, draw.positions)


def cpu_seconds() -> float:
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in usage)


def pipelines(source: Source, images: int) -> dict[str, Callable[[], int]]:
    """Return what is compared: each call runs one epoch and returns the images that it gave."""
    loader = BatchLoader(source, SIZE, policy=GeometryPolicy(pad=PAD), threads=WORKERS)
    prepare = DeviceAugmentation().prepare
    cpu = torch.device("cpu")

    def alternative() -> int:
        data = DataLoader(TorchreidLike(source, images), BATCH, num_workers=WORKERS)
        return sum(len(batch) for batch, _ in data)

    def ours() -> int:
        return sum(len(batch) for batch in loader.load(in_turn(images), 0))

    def ours_normalised() -> int:
        return sum(len(prepare(batch, cpu)) for batch in loader.load(in_turn(images), 0))

    return {
        f"Pillow, float32, DataLoader, {WORKERS} processes": alternative,
        f"BatchLoader, uint8, {WORKERS} threads": ours,
        f"BatchLoader, {WORKERS} threads, + normalise on the CPU": ours_normalised,
    }


def compare(source: Source, images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return CPU microseconds per image and images per second of each pipeline, and ratios."""
    runs = pipelines(source, images)
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    wall: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began, used = time.perf_counter(), cpu_seconds()
            given = run()
            if number:  # the first round only warms up
                cpu[name].append((cpu_seconds() - used) / given * 1e6)
                wall[name].append(given / (time.perf_counter() - began))
    reference = next(iter(runs))
    return {
        name: {
            "cpu_us_per_image": statistics.median(cpu[name]),
            "images_per_second": statistics.median(wall[name]),
            "cpu_ratio": statistics.median(
                slow / own for slow, own in zip(cpu[reference], cpu[name], strict=True)
            ),
            "speed_ratio": statistics.median(
                own / slow for slow, own in zip(wall[reference], wall[name], strict=True)
            ),
        }
        for name in runs
    }


def largest_difference(source: Source) -> int:
    """Return the largest difference in grey levels from Pillow's decoding and resizing."""
    largest = 0
    for batch in BatchLoader(source, SIZE).load(in_order(FILES, BATCH), 0):
        for row, image in zip(batch.index.tolist(), batch.image, strict=True):
            with Image.open(source.samples[row].path) as file:
                resized = file.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
            pixels = image.permute(1, 2, 0).numpy().astype(int)
            largest = max(largest, int(np.abs(pixels - np.asarray(resized)).max()))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1024, help="images per epoch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after warming up")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {os.cpu_count()} CPUs, {platform.machine()}, "
        f"JPEG by simplejpeg; to {SIZE[0]} x {SIZE[1]}, batch {BATCH}, {options.images} images, "
        f"medians of {options.rounds} rounds\n"
    )
    print(f"{'':50} {'CPU us/img':>10} {'images/s':>9} {'CPU':>7} {'speed':>7}")
    results: dict[str, object] = {}
    for kind, (height, width, quality) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = make_files(Path(folder) / "images", height, width, quality)
            kilobytes = statistics.mean(s.path.stat().st_size for s in source.samples) / 1000
            difference = largest_difference(source)
            figures = compare(source, options.images, options.rounds)
        print(f"{kind}, {kilobytes:.1f} kB, pixels within {difference} levels of Pillow's")
        for name, row in figures.items():
            print(
                f"  {name:48} {row['cpu_us_per_image']:10.0f} {row['images_per_second']:9.0f} "
                f"{row['cpu_ratio']:6.1f}x {row['speed_ratio']:6.1f}x"
            )
        results[kind] = {"kilobytes": kilobytes, "difference": difference, "loaders": figures}
    print(f"\ngoal: {GOAL:.0f}x less CPU per image with uint8 batches, floor {GOAL / 2:.0f}x")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
