"""The same pictures of synthetic people on other devices.

    python benchmarks/synthpeople_devices.py [--people N] [--ulps X ...] [--json FILE]

The pictures that the CPU makes are compared with

1. those of a second device whose last digits are others (`reid_core.testing.elsewhere`): functions
   and the terms of sums are moved at random by up to so many units of float32's last place; 4 is
   what libraries for GPUs promise;
2. those of the GPU, where there is one, with the images per second of wall time of both.

Counted are numbers of images (0 to 255) that differ at all and by more than one, numbers of labels
(parts, garments, texels) that differ, and the largest distance of a joint, in pixels.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_core.testing.elsewhere import ELSEWHERE, elsewhere
from reid_synthpeople.pictures import Picture
from reid_synthpeople.world import Shot, World, WorldSettings

SETTINGS = WorldSettings(seed=11, p_occlusion=0.2, p_truncation=0.2, bystanders=0.3)
SIZES = [(128, 64), (256, 128)]
LABELS = ["parts", "garments", "surface"]


def shots_of(people: int) -> list[Shot]:
    """Return two pictures of everybody, in two outfits and before three cameras in all."""
    return [Shot(pid, pid % 2, pid % 3, number) for pid in range(people) for number in range(2)]


def differences(ours: list[Picture], theirs: list[Picture]) -> dict[str, float]:
    """Return how far pictures of the same shots are apart."""
    pairs = list(zip(ours, theirs, strict=True))
    off = np.stack([np.abs(one.image.astype(int) - other.image) for one, other in pairs])
    labels = [getattr(one, name) != getattr(other, name) for name in LABELS for one, other in pairs]
    joints = [np.abs(one.keypoints - other.keypoints)[:, :2].max() for one, other in pairs]
    return {
        "numbers_off": float((off > 0).mean()),
        "off_by_more_than_one": float((off > 1).mean()),
        "largest": int(off.max()),
        "labels_off": sum(int(wrong.sum()) for wrong in labels) / sum(map(np.size, labels)),
        "joints": float(max(joints)),
    }


def timed(render: Callable[[], list[Picture]]) -> tuple[list[Picture], float]:
    """Return pictures and how many of them were made in a second, people and textures known."""
    render()
    began = time.perf_counter()
    pictures = render()  # ends on the host, so nothing is left to wait for
    return pictures, len(pictures) / (time.perf_counter() - began)


def compare(size: tuple[int, int], people: int, ulps: list[float]) -> dict[str, Any]:
    """Compare the devices that there are at one size."""
    shots = shots_of(people)
    home = World(SETTINGS, size)
    pictures, speed = timed(lambda: home.render(shots))
    found: dict[str, Any] = {"images": len(shots), "cpu_images_per_second": speed, "ulps": {}}
    for far in ulps:
        with elsewhere(ulps=far):
            theirs = World(SETTINGS, size, device=ELSEWHERE).render(shots)
        found["ulps"][f"{far:g}"] = differences(pictures, theirs)
    if torch.cuda.is_available():
        away = World(SETTINGS, size, device="cuda")
        theirs, speed = timed(lambda: away.render(shots))
        found["cuda"] = differences(pictures, theirs) | {"images_per_second": speed}
    return found


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="Synthetic people on other devices.")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--ulps", type=float, nargs="*", default=[4.0, 64.0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"processor": platform.machine(), "gpu": cuda, "torch": torch.__version__}
    results: dict[str, Any] = {"machine": machine}
    for size in SIZES:
        title = f"{size[0]} x {size[1]}"
        results[title] = row = compare(size, options.people, options.ulps)
        print(f"{title}, {row['images']} pictures")
        others = {f"last digits moved by {far}": apart for far, apart in row["ulps"].items()}
        if cuda is not None:
            others[cuda] = row["cuda"]
        for name, apart in others.items():
            print(
                f"  {name:<26} numbers off {apart['numbers_off']:.1e}, by more than one "
                f"{apart['off_by_more_than_one']:.1e}, at most {apart['largest']}; labels "
                f"{apart['labels_off']:.1e}; joints {apart['joints']:.1e} pixels"
            )
        if cuda is None:
            print("  no GPU is here")
        else:
            ratio = row["cuda"]["images_per_second"] / row["cpu_images_per_second"]
            print(f"  the GPU makes {ratio:.1f} times as many images per second as the CPU")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
