"""Joints and silhouettes of rendered people by networks that need no training, against the truth.

The shipped network `people/body`, and MediaPipe's where its wheel is given, look at the test images
of `synthpeople:quick`: people who stand or walk, cut out, 128 x 64 pixels. A joint counts as found
within a fifth of the way from the middle of the shoulders to that of the hips (PCK@0.2 torso), or
within a tenth of the longer side of the box around the joints (PCK@0.1); hidden joints count, too.
A silhouette is compared with where the true parts are.

    pip download mediapipe==0.10.21 --no-deps --python-version 3.12 --only-binary=:all:
    python benchmarks/joints.py [--mediapipe WHEEL] [--onnx FILE ...] [--images N] [--json FILE]

The people are rendered: the figures say nothing about photographs, on which MediaPipe has learnt.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.contract.context import RunContext
from reid_core.contract.fields import COCO_JOINTS, SHARED_FIELDS
from reid_core.contract.samples import Sample
from reid_core.data.decoding import read_field
from reid_core.machine.randomness import deterministic
from reid_parsing.commands import open_context
from reid_parsing.joints import correct_joints
from reid_parsing.labelling import compared, label_maps, measure_joints, true_silhouettes
from reid_parsing.plugin import Parsing

DATA = "synthpeople:quick"

Found = list[NDArray[Any]]


def timed(make: Callable[[], Sequence[NDArray[Any]]]) -> tuple[Found, float]:
    """Return what is made, and CPU seconds."""
    began = time.process_time()
    with deterministic(True):
        return list(make()), time.process_time() - began


def of_joints(found: Found, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the shares of joints found, over all and by joint."""
    near: dict[str, list[bool]] = {name: [] for name in COCO_JOINTS}
    for joints, sample in zip(found, samples, strict=True):
        truth = read_field(sample.fields["keypoints"], SHARED_FIELDS["keypoints"])
        there = np.flatnonzero(truth[:, 2] > 0)
        for joint, right in zip(there, correct_joints(joints, truth, 0.2, "torso"), strict=False):
            near[COCO_JOINTS[joint]].append(bool(right))
    each = {name: round(100 * float(np.mean(v)), 1) for name, v in near.items() if v}
    whole = {k: round(100 * v, 1) for k, v in measure_joints(found, samples).items()}
    return {**whole, "PCK@0.2 torso by joint": each}


def rows(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the figures of each network."""
    networks: list[tuple[str, dict[str, Any]]] = [
        ("people/body", {"weights": Path("people/body")}),
        ("people/body, no mirror", {"weights": Path("people/body"), "mirror": False}),
    ]
    if given.mediapipe:
        both = {"joints": given.mediapipe, "silhouettes": given.mediapipe}
        networks += [("MediaPipe", both), ("MediaPipe, no mirror", {**both, "mirror": False})]
    networks += [(path.name, {"joints": path}) for path in given.onnx]
    ctx, plugin = open_context(DATA, None, {"device": "cpu", "settings": ["data.threads=1"]})
    samples = (*ctx.dataset.query, *ctx.dataset.gallery)[: given.images]
    for name, settings in networks:
        asked = Parsing("parsing", plugin.settings.model_copy(update=settings))
        found, seconds = timed(partial(asked.joints_in, ctx, samples))
        scores = of_joints(found, samples)
        scores["images_per_cpu_second"] = round(len(samples) / seconds, 1)
        if asked.settings.silhouettes or not asked.settings.joints:
            maps, _ = timed(partial(outlines, asked, ctx, samples))
            outline = compared(maps, true_silhouettes(samples), SHARED_FIELDS["silhouette"])
            scores["silhouette, IoU of the person"] = round(100 * outline.iou[1], 1)
        yield name, scores
    yield "images", {"data": DATA, "number": len(samples)}


def outlines(plugin: Parsing, ctx: RunContext, samples: Sequence[Sample]) -> Found:
    """Return silhouettes: those of a detector, or where the parser finds a part."""
    if plugin.settings.silhouettes:
        return list(plugin.silhouettes_in(ctx, samples))
    maps = label_maps(ctx, plugin.parser(ctx, "parts"), samples, "parts", plugin.settings.mirror)
    return [(labels > 0).astype(np.uint8) for labels in maps]


def main() -> None:
    """Measure, print, and write."""
    options = argparse.ArgumentParser(description="Joints of rendered people against the truth.")
    options.add_argument("--mediapipe", type=Path, metavar="WHEEL")
    options.add_argument("--onnx", type=Path, action="append", default=[], metavar="FILE")
    options.add_argument("--images", type=int)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    found = {}
    for name, scores in rows(given):
        found[name] = scores
        print(name, {k: v for k, v in scores.items() if not isinstance(v, dict)}, flush=True)
    if given.json:
        found["machine"] = {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
