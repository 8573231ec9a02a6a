"""A part head beside the baseline under equal budget, and what the head has learnt.

On synthetic people, the recipe `partaware/synthpeople` with fewer steps: the baseline is the same
run with `partaware.weight=0`, which is the core's baseline bit by bit. The head learns from the
parser's labels although the truth exists; a third arm learns from the truth. Its part maps of
people that it has not seen are measured against the truth, beside a constant guess.

    python benchmarks/partaware.py [--seeds 0,1,2] [--epochs 5] [--parser-epochs 5] [--out DIR]
                                   [--json FILE]

Everything is synthetic: the figures say nothing about real cameras.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from reid_core import ReidError, restore
from reid_partaware.segmenting import measure
from reid_search.sweeping.points import SweepRun, summarise
from reid_search.sweeping.runs import sweep

ARMS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {"plugins": {"partaware": {"weight": 0.0}}},
    "parts of the parser": {},
    "parts of the truth": {"run": {"plugins": ["partaware"]}, "labels": {}},
}


def flags_of(arm: str, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the configuration of a run."""
    flags: dict[str, Any] = {
        "run": {"plugins": ["parsing", "partaware"], "seed": seed},
        "data": {
            "name": given.data, "height": given.height, "width": given.height // 2,
            "batch_size": 64, "instances": 4, "sampler": "pk_camera", "threads": 1,
        },
        "augment": {"flip": 0.5, "pad": 4},
        "model": {"backbone": "resnet18", "pretrained": False},
        "optim": {"name": "adam", "lr": 1e-2, "weight_decay": 5e-4},
        "schedule": {
            "epochs": given.epochs, "iterations_per_epoch": 20, "warmup_epochs": 1,
            "decay": "cosine", "floor": 0.02, "per_iteration": True,
        },
        "engine": {"device": "cpu", "tensorboard": False},
        "labels": {"parts": "parsing"},
        "plugins": {"parsing": {"epochs": given.parser_epochs}},
    }  # fmt: skip
    for section, values in ARMS[arm].items():
        flags[section] = {**flags[section], **values} if values else {}
    if "parsing" not in flags["run"]["plugins"]:
        flags["plugins"].pop("parsing")
    return flags


def runs_of(arm: str, given: argparse.Namespace) -> list[SweepRun]:
    """Run an arm with every seed; what is finished is not run again."""
    out = given.out / arm.replace(" ", "_")
    out.mkdir(parents=True, exist_ok=True)
    return sweep(
        {},
        given.seeds,
        out,
        lambda settings: flags_of(arm, given, int(settings["run.seed"])),
        recipe="core/quick",
    )


def segmentation(folder: Path) -> dict[str, Any]:
    """Return how well a run's head sees the parts of unseen people, and the constant guess."""
    return {name: found.to_json() for name, found in measure(restore(folder)).items()}


def main() -> None:
    """Run all arms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="synthpeople:quick")
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--parser-epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-partaware"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.seeds = [int(seed) for seed in given.seeds.split(",")]
    torch.set_num_threads(1)
    figures: dict[str, Any] = {
        "synthetic": True,
        "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
        "budget": {"epochs": given.epochs, "steps": 20 * given.epochs, "height": given.height,
                   "parser_epochs": given.parser_epochs, "seeds": given.seeds},
        "arms": {},
    }  # fmt: skip
    for arm in ARMS:
        runs = runs_of(arm, given)
        (point,) = summarise(runs)
        content = json.loads((runs[0].folder / "results.json").read_text())["results"][0]
        entry: dict[str, Any] = {
            "mean": point.mean,
            "spread": point.spread,
            "single": {one.seed: one.scores for one in runs},
        }
        figures["data"] = {"name": given.data, "fingerprint": content["fingerprint"]}
        if arm != "baseline":
            found = [segmentation(one.folder) for one in runs]
            entry["segmentation"] = found
            entry["mean_iou"] = statistics.mean(f["head"]["mean_iou"] for f in found)
            entry["constant"] = found[0]["constant"]["mean_iou"]
        figures["arms"][arm] = entry
        print(arm, json.dumps({k: entry.get(k) for k in ("mean", "spread", "mean_iou")}, indent=1))
        if given.json:
            given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except ReidError as error:
        raise SystemExit(f"partaware: {error}") from error
