"""`pise` and `recolor` on synthetic people, against the same people truly dressed otherwise.

    python benchmarks/pise.py [--json FILE] [--sheet FILE]

The network is trained by its stage, at 128 x 64 and a reduced width, on `synthpeople-redressed`,
and measured on test people of `synthpeople`: neither they nor their clothes and cameras were in
training. Everybody gets the outfit of somebody else's picture. The renderer takes the same picture
in that outfit: the truth, to the last fold of cloth, with the outfit's own cut. What counts is the
mean absolute error in grey levels (0 .. 255):

- clothing: pixels that show upper clothes, lower clothes or shoes, in the picture or in the truth;
- same class: those of them that show the same kind in both, so that a cut that changes is left out;
- whole: all pixels.

Beside both methods stand the picture as it is, and the network before its training, which paints
little but the mean colours of the template's regions. The data are made first and not timed; CPU
time is that of all threads. `--seeds` trains several networks. `pise` is worth its training only
where its error is below `recolor`'s. Figures on synthetic people say nothing about real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reid_core import Sample, open_context
from reid_core.data.decoding import read_field
from reid_core.images import read_image
from reid_core.machine.randomness import deterministic
from reid_core.runs.assembly.datasets import load_dataset, load_source
from reid_synthpeople.redress import render_dressed, shot_of, world_behind
from reid_unsup_cc.dressing import CLOTHING
from reid_unsup_cc.pise import PISE
from reid_unsup_cc.pise_training import PISESettings, pise_stage, trained_pise
from reid_unsup_cc.recolor import Recolor

TEST = "synthpeople:quick"
WHERE = ("clothing", "same class", "whole")
TOGETHER = 32

Dress = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def cases(samples: Sequence[Sample], spec: Any) -> Iterator[Case]:
    """Yield pictures, templates and truths, each with its garments, in groups."""
    world = world_behind(samples[0].path)
    for start in range(0, len(samples), TOGETHER):
        group = samples[start : start + TOGETHER]
        # Halfway through the list is somebody else.
        others = [
            samples[(start + i + len(samples) // 2) % len(samples)] for i in range(len(group))
        ]
        pairs = zip(group, others, strict=True)
        assert all(a.extra["figure"] != b.extra["person"] for a, b in pairs)
        true = render_dressed(world, [shot_of(s) for s in group], [shot_of(s) for s in others])
        yield (
            *tensors(
                [read_image(s.path) for s in group],
                [read_field(s.fields["garments"], spec) for s in group],
            ),
            *tensors(
                [read_image(s.path) for s in others],
                [read_field(s.fields["garments"], spec) for s in others],
            ),
            *tensors([picture.image for picture in true], [picture.garments for picture in true]),
        )


def tensors(images: Sequence[Any], labels: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return images as float ``B 3 H W`` in 0 .. 1 and labels as int64 ``B H W``."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return pixels, torch.from_numpy(np.stack(labels)).long()


def errors(made: Tensor, case: Case) -> Tensor:
    """Return sums of absolute errors and numbers of pixels, ``3 2``, a row for each of `WHERE`."""
    garments, true, worn = case[1], case[4], case[5]
    off = 255 * (made.clamp(0, 1) - true).abs().mean(1)
    kinds = torch.tensor(CLOTHING)
    clothing = torch.isin(garments, kinds) | torch.isin(worn, kinds)
    masks = (clothing, clothing & (garments == worn), torch.ones_like(clothing))
    return torch.stack([torch.stack([off[m].sum(), m.sum()]) for m in masks]).double()


@torch.inference_mode()
def measured(methods: dict[str, Dress], people: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Return the mean absolute error of every method, in grey levels."""
    found = {}
    for name, dress in methods.items():
        total = sum(errors(dress(*case[:4]), case) for case in people)
        assert isinstance(total, Tensor)
        means = (total[:, 0] / total[:, 1]).tolist()
        found[name] = {where: round(mean, 3) for where, mean in zip(WHERE, means, strict=True)}
    return found


def unchanged(images: Tensor, *others: Tensor) -> Tensor:
    """Return the pictures as they are."""
    return images


@torch.inference_mode()
def draw_sheet(methods: dict[str, Dress], case: Case, path: Path, count: int) -> None:
    """Draw a row per person: picture, template, what the methods make of them, truth."""
    columns = [case[0], case[2], *(dress(*case[:4]) for dress in methods.values()), case[4]]
    rows = [torch.cat([column[row] for column in columns], 2) for row in range(count)]
    half = (len(rows) + 1) // 2
    halves = [torch.cat(rows[:half], 1), torch.cat(rows[half:], 1)]
    gap = torch.ones(3, halves[0].shape[1], 12)
    sheet = torch.cat([halves[0], gap, halves[1]], 2).clamp(0, 1)
    pixels = (255 * sheet).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).resize((2 * pixels.shape[1], 2 * pixels.shape[0])).save(path)


def trained(given: argparse.Namespace, seed: int, cache: Path) -> tuple[Any, float]:
    """Train the network; return it and the CPU seconds that it took."""
    settings = PISESettings(
        width=given.width,
        epochs=given.epochs,
        iterations=given.iterations,
        batch=given.batch,
        lr=given.lr,
    )
    flags = {
        "run": {"seed": seed},
        "data": {"threads": 1},
        "engine": {"device": "cpu", "tensorboard": False},
    }
    ctx, _ = open_context(flags, with_data=False)
    ctx = replace(ctx, cache=cache)
    load_source(settings.data, None, cache, ctx.providers)
    with deterministic(True):
        began = time.process_time()
        network = trained_pise(ctx.stage(pise_stage(settings)))
        return network, time.process_time() - began


def table(found: dict[str, Any]) -> str:
    """Return the figures as text: means over seeds, and their spread."""
    lines = [
        "synthetic people: figures on them say nothing about real ones",
        f"{found['test']['pictures']} pictures of {found['test']['people']} unseen people",
        f"{'mean absolute error':<22}" + "".join(f"{where:>18}" for where in WHERE),
    ]
    for name in ("unchanged", "untrained", "recolor", "pise"):
        cells = [
            spread([seed["errors"][name][where] for seed in found["seeds"]]) for where in WHERE
        ]
        lines.append(f"{name:<22}" + "".join(f"{cell:>18}" for cell in cells))
    seconds = [seed["cpu_seconds"] for seed in found["seeds"]]
    lines.append(f"training: {', '.join(f'{s:.0f}' for s in seconds)} s of one core")
    below = all(
        seed["errors"]["pise"][where] < seed["errors"]["recolor"][where]
        for seed in found["seeds"]
        for where in WHERE
    )
    lines.append(f"pise is {'below' if below else 'NOT below'} recolor everywhere, with every seed")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return mean and, of several, standard deviation."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(set(values)) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """Train, measure and print."""
    options = argparse.ArgumentParser(description="Clothing transfer against the truth.")
    options.add_argument(
        "--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0]
    )
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--iterations", type=int, default=180, help="Steps of an epoch")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--width", type=int, default=16)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--cache", type=Path, help="Where data and networks are kept")
    options.add_argument("--sheet", type=Path, help="Draw pictures of the first seed")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    with TemporaryDirectory() as folder:
        cache = given.cache or Path(folder)
        ctx, _ = open_context({}, with_data=False)
        dataset = load_dataset(TEST, None, cache, ctx.providers)
        samples = [*dataset.query, *dataset.gallery]
        samples.sort(key=lambda sample: sample.extra["figure"])
        people = list(cases(samples, dataset.query_fields["garments"]))
        seeds = []
        for seed in given.seeds:
            network, seconds = trained(given, seed, cache)
            torch.manual_seed(seed)
            controls = {"unchanged": unchanged, "untrained": PISE(given.width).eval()}
            methods: dict[str, Dress] = {"recolor": Recolor(), "pise": network}
            found = measured({**controls, **methods}, people)
            seeds.append({"seed": seed, "cpu_seconds": round(seconds), "errors": found})
            if given.sheet and seed == given.seeds[0]:
                draw_sheet(methods, people[len(people) // 3], given.sheet, 16)
    figures = {
        "synthetic": True,
        "budget": {k: getattr(given, k) for k in ("epochs", "iterations", "batch", "width", "lr")},
        "size": [128, 64],
        "test": {
            "data": TEST,
            "pictures": len(samples),
            "people": len({sample.extra["figure"] for sample in samples}),
        },
        "seeds": seeds,
    }
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
