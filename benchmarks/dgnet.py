"""Whether swapped codes do what they should: colours of the appearance, outline of the structure.

Trains `dgnet` on synthetic people (or takes a finished run), then composes random pairs of training
images of different people and compares the result with the true masks and colours of both donors:

- `colour`: how far a garment's mean colour has moved from the structure's own (0) to the
  appearance's (1), in the mask of the structure's garment, where both people wear one; a regression
  over all pairs.
- `tint` and `brightness`: the same of what is left of colours without their brightness, and of the
  brightness alone, which the structure encoder sees: its input is grey.
- `outline`: contrast along the outline of the structure's person over that along the outline of the
  appearance's person, in the same composed image; 1 if the image showed neither more.
- `error`: mean absolute error of self-reconstruction over that of the mean image, in normalised
  units.

    python benchmarks/dgnet.py [--run DIR] [--data NAME] [--epochs N] [--iterations N] [--every N]
                               [--sampler NAME] [--batch N] [--backbone NAME] [--seed N]
                               [--pairs N] [--out DIR] [--json FILE] [--set KEY=VALUE ...]

With `--every N` the learning rate is constant, and the curve has a point every N epochs, each of
which is what a training of that length gives; a training that was stopped goes on where --out has
its checkpoint. Everything is synthetic: the figures say nothing
about real cameras.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from reid_core import (
    EpochEnded,
    Event,
    RunContext,
    Sample,
    append_json,
    hookimpl,
    pixels_of,
    restore,
)
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_dgnet import Dgnet
from reid_dgnet.generating import Composer

GARMENTS = {"upper": 3, "lower": 4}
"""Labels of the field `garments` whose colours are compared."""

CHUNK = 64

CURVE = "curve.jsonl"
"""File in the run's folder that keeps the points of the curve."""


class Curve(Dgnet):
    """Measure the images that are composed at the end of some epochs."""

    every = 0
    pairs = 512

    @hookimpl
    def reid_observe(self, event: Event, ctx: RunContext) -> None:
        """Measure, beside leaving a picture of swapped codes."""
        super().reid_observe(event, ctx)
        if isinstance(event, EpochEnded) and self.every and (event.epoch + 1) % self.every == 0:
            figures = measure(Composer.of(ctx), self.pairs, ctx.config.run.seed)
            where = {"steps": event.iteration + 1, "iteration": event.iteration}
            append_json(ctx.folder / CURVE, {**where, **rounded(figures)})
            print(json.dumps({**where, **rounded(figures)}), flush=True)


def trained(given: argparse.Namespace) -> tuple[Path, float]:
    """Return the folder of a finished run, and the CPU seconds that it took here."""
    if given.run is not None:
        return given.run, 0.0
    data = {"name": given.data, "sampler": given.sampler, "batch_size": given.batch}
    schedule = {"epochs": given.epochs, "iterations_per_epoch": given.iterations}
    if given.every:
        schedule["decay"] = "constant"
    flags: dict[str, Any] = {
        "run": {"seed": given.seed},
        "data": {key: value for key, value in data.items() if value is not None},
        "schedule": {key: value for key, value in schedule.items() if value is not None},
        "plugins": {"dgnet": dict(pair.split("=", 1) for pair in given.set)},
        "model": {"backbone": given.backbone, "pretrained": False},
        "evaluation": {"untrained": False},
    }
    Curve.every, Curve.pairs = given.every, given.pairs
    began = time.process_time()
    resolved = resolve(flags, recipe="dgnet/quick", classes={"dgnet": Curve})
    there = given.out is not None and (given.out / "checkpoint.pt").exists()
    summary = run(resolved=resolved, out=given.out, resume=there)
    return summary.folder, time.process_time() - began


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Return figures with four digits."""
    return {name: round(value, 4) for name, value in figures.items()}


def masks(samples: list[Sample], field: str, size: tuple[int, int]) -> Tensor:
    """Return label maps ``N H W`` at the networks' size."""
    height, width = size
    maps = []
    for sample in samples:
        with PIL.Image.open(str(sample.fields[field])) as image:
            nearest = image.resize((width, height), PIL.Image.Resampling.NEAREST)
        maps.append(torch.tensor(np.asarray(nearest)))
    return torch.stack(maps)


def mean_colours(pixels: Tensor, mask: Tensor) -> Tensor:
    """Return mean colours ``N 3`` of pixels ``N H W 3`` under masks ``N H W``; NaN where empty."""
    weight = mask[..., None].float()
    return (pixels.float() * weight).sum((1, 2)) / weight.sum((1, 2)).where(
        weight.sum((1, 2)) > 20, torch.nan
    )


def contrast(pixels: Tensor, person: Tensor) -> Tensor:
    """Return the mean brightness step ``N`` across the outline of people in ``N H W 3``."""
    grey, person = pixels.float().mean(3), person.float()
    steps = (grey[:, :, 1:] - grey[:, :, :-1]).abs()
    outline = (person[:, :, 1:] != person[:, :, :-1]).float()
    return (steps * outline).sum((1, 2)) / outline.sum((1, 2)).clamp(min=1)


def slope(moved: Tensor, wanted: Tensor) -> float:
    """Return the share of what was wanted that was moved, by least squares."""
    return float((moved * wanted).sum() / wanted.square().sum())


def measure(composer: Composer, pairs: int, seed: int) -> dict[str, float]:
    """Compose random pairs of different people; return the figures of the module's text."""
    rng, samples = np.random.default_rng(seed), list(composer.samples)
    found: dict[str, list[Tensor]] = {key: [] for key in ("moved", "wanted", "own", "other")}
    errors, plain = [], []
    for start in range(0, pairs, CHUNK):
        rows = rng.integers(len(samples), size=(min(CHUNK, pairs - start), 2))
        rows = np.array([r for r in rows if samples[r[0]].pid != samples[r[1]].pid])
        looks, poses = ([samples[row] for row in column] for column in rows.T)
        images = [composer.read(some) for some in (looks, poses)]
        (appearance, _), (itself, structure) = (composer.codes(some) for some in images)
        swapped = composer.compose(structure, appearance)
        again = composer.compose(structure, itself)
        errors.append((again - images[1]).abs().mean((1, 2, 3)))
        plain.append((images[1] - images[1].mean(0)).abs().mean((1, 2, 3)))
        labels = [masks(some, "garments", composer.size) for some in (looks, poses)]
        for label in GARMENTS.values():
            target = mean_colours(pixels_of(images[0]), labels[0] == label)
            here = labels[1] == label
            own = mean_colours(pixels_of(again), here)
            moved = mean_colours(pixels_of(swapped), here) - own
            known = (target + own).isfinite().all(1)
            found["moved"].append(moved[known])
            found["wanted"].append((target - own)[known])
        for key, some in (("own", poses), ("other", looks)):
            person = masks(some, "parts", composer.size) > 0
            found[key].append(contrast(pixels_of(swapped), person))
    joined = {key: torch.cat(values) for key, values in found.items()}
    moved, wanted = joined["moved"], joined["wanted"]
    return {
        "error": float(torch.cat(errors).mean() / torch.cat(plain).mean()),
        "colour": slope(moved, wanted),
        "tint": slope(moved - moved.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)),
        "brightness": slope(moved.mean(1), wanted.mean(1)),
        "outline": float(joined["own"].mean() / joined["other"].mean()),
    }


def main() -> None:
    """Train or read a run, measure it, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run in place of training one, as far as it is")
    parser.add_argument("--data", default="synthpeople/market")
    parser.add_argument("--sampler")
    parser.add_argument("--batch", type=int, help="rows of a batch")
    parser.add_argument(
        "--backbone", default="resnet18", help="encoder, which begins at random (%(default)s)"
    )
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--every", type=int, default=0, help="epochs between points of the curve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of dgnet")
    given = parser.parse_args()
    folder, seconds = trained(given)
    assembly = restore(folder, say=lambda line: None)
    config = assembly.config
    figures = measure(Composer.of(assembly.ctx), given.pairs, given.seed)
    lines = folder / CURVE
    curve = [json.loads(line) for line in lines.open(encoding="utf-8")] if lines.exists() else []
    content = {
        "synthetic": True,
        "data": config.data.name,
        "size": list(config.data.size),
        "backbone": config.model.backbone,
        "sampler": config.data.sampler,
        "steps": assembly.ctx.progress.iteration,
        "batch": config.data.batch_size,
        "seed": config.run.seed,
        "pairs": given.pairs,
        "cpu_seconds": round(seconds),
        **rounded(figures),
        "curve": curve,
    }
    text = json.dumps(content, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
