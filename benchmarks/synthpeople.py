"""Rendering synthetic people: images per second of one core, and what batching gains.

    python benchmarks/synthpeople.py [--rounds N] [--json FILE]

1. Whole pictures with all labels, by size, 32 in one go against one at a time;
2. the rasteriser against the plain alternative: a loop over triangles, each filled with array
   operations on its bounding box and a depth buffer;
3. what is made once: an outfit's texture, a camera's backdrop, a world.

Figures are CPU seconds of one thread (`process_time`), measured in turns (A B A B), medians.
People, textures and backdrops are made before the first round, as where a data set is written: its
pictures come person by person. Goal: 255 images per second at 128 x 64 with 2 x 2 samples, 200 at
256 x 128, on a core like the one of the stored figures when it is idle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from reid_synthpeople.backdrop import paint_backdrop
from reid_synthpeople.figure import shape_figures
from reid_synthpeople.mesh import Mesh
from reid_synthpeople.painting import paint_surface
from reid_synthpeople.projection import project
from reid_synthpeople.rasteriser import rasterise
from reid_synthpeople.world import Shot, World, WorldSettings

BATCH = 32
PEOPLE = 8
SIZES = {
    "128 x 64, 2 x 2 samples": ((128, 64), 2, 255),
    "256 x 128": ((256, 128), 1, 200),
}
"""Size, samples, and the images per second wanted."""


def medians(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each contender, measured in turns after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            began = time.process_time()
            work()
            if number:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def shots_of(people: int) -> list[Shot]:
    """Return a batch: people before three cameras."""
    each = BATCH // people
    return [Shot(pid, 0, number % 3, number) for pid in range(people) for number in range(each)]


def pictures(rounds: int) -> dict[str, dict[str, float]]:
    """Compare batches with single pictures, by size."""
    found = {}
    shots = shots_of(PEOPLE)
    for title, (size, samples, wanted) in SIZES.items():
        world = World(WorldSettings(), size, samples)
        times = medians(
            {
                "together": lambda world=world: world.render(shots),
                "alone": lambda world=world: [world.render([shot]) for shot in shots],
            },
            rounds,
        )
        found[title] = {
            "images_per_second": BATCH / times["together"],
            "one_at_a_time": BATCH / times["alone"],
            "ratio": times["alone"] / times["together"],
            "wanted": wanted,
        }
    return found


def fill_triangles(
    points: NDArray[np.float32],
    nearness: NDArray[np.float32],
    faces: NDArray[np.int64],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """Return the nearest triangle of each pixel of one picture, -1 where there is none."""
    depth, owner = np.zeros(size, np.float32), np.full(size, -1)
    corners = points[faces]
    low = np.maximum(np.ceil(corners.min(1) - 0.5), 0).astype(int)
    high = np.minimum(np.floor(corners.max(1) - 0.5), np.array(size[::-1]) - 1).astype(int)
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    along, across = second - first, third - first
    area = along[:, 0] * across[:, 1] - across[:, 0] * along[:, 1]
    for number in np.flatnonzero((area < -1e-4) & (high >= low).all(1)):
        (left, top), (right, bottom) = low[number], high[number]
        x = np.arange(left, right + 1) + 0.5 - first[number, 0]
        y = np.arange(top, bottom + 1)[:, None] + 0.5 - first[number, 1]
        b = (x * across[number, 1] - across[number, 0] * y) / area[number]
        c = (along[number, 0] * y - x * along[number, 1]) / area[number]
        za, zb, zc = nearness[faces[number]]
        z = (1 - b - c) * za + b * zb + c * zc
        box = slice(top, bottom + 1), slice(left, right + 1)
        won = (b >= 0) & (c >= 0) & (b + c <= 1) & (z > depth[box])
        depth[box][won] = z[won]
        owner[box][won] = number
    return owner


def rasterisers(rounds: int, size: tuple[int, int] = (256, 128)) -> dict[str, float]:
    """Compare the rasteriser with a loop over triangles on the same projected meshes."""
    world, mesh = World(WorldSettings(), size), Mesh(torch.device("cpu"))
    scenes = [world.scene(shot) for shot in shots_of(PEOPLE)]
    figures = shape_figures(
        [scene.person for scene in scenes],
        [scene.outfit for scene in scenes],
        [scene.pose for scene in scenes],
        torch.device("cpu"),
    )
    seen = project(figures, [scene.view for scene in scenes], mesh.framing, size)
    faces = mesh.faces.numpy()

    def loop() -> list[NDArray[np.int64]]:
        rows = zip(seen.points.numpy(), seen.nearness.numpy(), strict=True)
        return [fill_triangles(points, nearness, faces, size) for points, nearness in rows]

    times = medians(
        {
            "ours": lambda: rasterise(seen.points, seen.nearness, mesh.faces, size),
            "loop": loop,
        },
        rounds,
    )
    fragments = rasterise(seen.points, seen.nearness, mesh.faces, size)
    owner = np.full(BATCH * size[0] * size[1], -1)
    owner[fragments.pixel] = fragments.triangle - fragments.image * len(mesh.faces)
    return {
        "ours_ms": 1e3 * times["ours"] / BATCH,
        "loop_ms": 1e3 * times["loop"] / BATCH,
        "ratio": times["loop"] / times["ours"],
        "pixels_that_agree": float((np.stack(loop()).ravel() == owner).mean()),
    }


def once(rounds: int) -> dict[str, float]:
    """Return milliseconds of what is made once and kept."""
    world = World(WorldSettings())
    number = iter(range(10**6))

    def texture() -> object:
        pid = next(number)
        return paint_surface(world.person(pid), world.outfit(pid, 0))

    times = medians(
        {
            "a person's texture in an outfit": texture,
            "a camera's backdrop (256 x 128 samples)": lambda: paint_backdrop(
                world.camera(0), 256, 128
            ),
            "a world": lambda: World(WorldSettings()),
        },
        4 * rounds,
    )
    return {name: 1e3 * seconds for name, seconds in times.items()}


def main() -> None:
    """Run everything and print the ratios."""
    parser = argparse.ArgumentParser(description="Speed of rendering synthetic people.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "pictures": pictures(options.rounds),
        "rasteriser": rasterisers(options.rounds),
        "once_ms": once(options.rounds),
    }
    print("images per CPU second of one core, all labels included")
    for title, row in results["pictures"].items():
        print(
            f"  {title:<26} {row['images_per_second']:6.0f}  (wanted {row['wanted']:.0f}; one at "
            f"a time {row['one_at_a_time']:.0f}: {row['ratio']:.1f}x)"
        )
    row = results["rasteriser"]
    print(
        f"rasteriser, 256 x 128: {row['ours_ms']:.2f} ms per image, loop over triangles "
        f"{row['loop_ms']:.1f} ms: {row['ratio']:.0f}x "
        f"({100 * row['pixels_that_agree']:.2f} % of the pixels agree)"
    )
    print("made once")
    for title, value in results["once_ms"].items():
        print(f"  {title:<40} {value:6.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
