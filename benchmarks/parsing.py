"""A body parser trained in minutes of one CPU core, against guessing from class frequencies.

The light network of reid-parsing learns `parts` (or `garments`) from synthetic people and is
measured on the test images of another set, whose people and outfits it has never seen. The
alternative is the best guess without looking at an image: every pixel has the class that is most
frequent at its place in the training images.

    python benchmarks/parsing.py [--field garments] [--toy] [--epochs N] [--json FILE]

`--toy` takes the core's drawn figures in place of synthpeople. Data are made first and not timed;
CPU time is that of all threads, decoding and augmentation included. Goal: at most ten minutes, and
a mean IoU far above the guess's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.machine.randomness import deterministic
from reid_core.runs.assembly.datasets import load_dataset
from reid_parsing.commands import open_context
from reid_parsing.labelling import frequency_guess, measure
from reid_parsing.training import trained_parser

MINUTES = 10


def measured(field: str, train: str, test: str, epochs: int | None, cache: Path) -> dict[str, Any]:
    """Train on one set, measure on another's test images; return figures."""
    settings = [f'parsing.labelled="{train}"', "parsing.held_out=0", "data.threads=1"]
    if epochs is not None:
        settings.append(f"parsing.epochs={epochs}")
    ctx, plugin = open_context(None, None, {"device": "cpu", "settings": settings})
    ctx = replace(ctx, cache=cache)
    dataset = load_dataset(test, None, cache, ctx.providers)
    labelled = plugin.labelled(ctx, field)
    labelled = replace(labelled, held_out=(*dataset.query, *dataset.gallery))
    with deterministic(True):
        began = time.process_time()
        parser = trained_parser(ctx.stage(plugin.stage_in(ctx, field)))
        trained = time.process_time()
        scores = measure(ctx, parser, labelled.held_out, SHARED_FIELDS[field])
        done = time.process_time()
    return {
        "field": field,
        "train": {"data": train, "images": len(labelled.train)},
        "test": {"data": test, "images": len(labelled.held_out)},
        "cpu_seconds": round(trained - began, 1),
        "labelled_per_cpu_second": round(len(labelled.held_out) / (done - trained), 1),
        "parser": scores.to_json(),
        "frequency_guess": frequency_guess(labelled, parser.size).to_json(),
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    parser, guess = found["parser"], found["frequency_guess"]
    train, test = found["train"], found["test"]
    lines = [
        f"{found['field']}: {train['images']} images of {train['data']}, measured on "
        f"{test['images']} test images of {test['data']}",
        f"training: {found['cpu_seconds']:.0f} s of one core (goal: {60 * MINUTES} s); labelling: "
        f"{found['labelled_per_cpu_second']:.0f} images/s",
        f"{'':<16}{'parser':>8}{'guess':>8}",
    ]
    rows = {
        "pixel accuracy": (parser["pixel_accuracy"], guess["pixel_accuracy"]),
        "mean IoU": (parser["mean_iou"], guess["mean_iou"]),
        **{f"  {name}": (value, guess["iou"][name]) for name, value in parser["iou"].items()},
    }
    for name, values in rows.items():
        shown = ("-" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(f"{name:<16}" + "".join(f"{text:>8}" for text in shown))
    return "\n".join(lines)


def main() -> None:
    """Train, measure and print."""
    options = argparse.ArgumentParser(description="The light parser against class frequencies.")
    options.add_argument("--field", choices=("parts", "garments"), default="parts")
    options.add_argument("--toy", action="store_true", help="Drawn figures in place of synthpeople")
    options.add_argument("--epochs", type=int)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    train, test = (
        ("toy:quick",) * 2 if given.toy else ("synthpeople-crops:quick", "synthpeople:quick")
    )
    with TemporaryDirectory() as folder:
        found = measured(given.field, train, test, given.epochs, Path(folder))
    print(table(found))
    if given.json:
        found["machine"] = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
