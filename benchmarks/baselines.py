"""The quick recipes of the baselines as they are: what each learns, and what it costs.

    python benchmarks/baselines.py [--recipe bot/quick ...] [--seeds 0,1] [--again] [--work DIR]

Runs ``reid run --recipe NAME --seed N`` in one thread for every quick recipe of reid-baselines, and
the core's, that has no row yet, one after the other, and keeps each row in `RESULTS` as soon as it
is finished. `docs/generate.py` makes the table of the README of reid-baselines of them. Recipes
differ in encoder, start and size of the images: what a mechanism adds under one start and budget
stands in docs/evidence.md. Figures of synthetic people say nothing about real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "baselines.json"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def recipes() -> list[str]:
    """Return the quick recipes: the core's, then those of reid-baselines."""
    folder = Path(str(files("reid_baselines"))) / "recipes"
    found = sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/quick*.toml"))
    return ["core/quick", *found]


def command(recipe: str, seed: int) -> list[str]:
    """Return the words of the one command that makes a row."""
    return ["reid", "run", "--recipe", recipe, "--seed", str(seed)]


def row_of(
    folder: Path, recipe: str, seed: int, commit: str, cpu: float, wall: float
) -> dict[str, Any]:
    """Return the row of a finished run.

    Args:
        folder: of the run.
        recipe, seed: what was run.
        commit: of the code.
        cpu, wall: seconds.
    """
    stored = json.loads((folder / "results.json").read_text("utf-8"))
    config = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    schedule, model = config["schedule"], config["model"]
    return {
        "recipe": recipe,
        "seed": seed,
        "command": " ".join(command(recipe, seed)),
        "commit": commit,
        "measured": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {_processor()}, one thread",
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "data": config["data"]["name"],
        "fingerprint": stored["results"][0]["fingerprint"],
        "size": [config["data"]["height"], config["data"]["width"]],
        "backbone": model["backbone"],
        "start": model["pretrained"] or "random",
        "steps": schedule["epochs"] * schedule["iterations_per_epoch"],
        "parameters": json.loads((folder / "run.json").read_text("utf-8"))["parameters_deployed"],
        "untrained": _scores(stored.get("untrained") or []),
        "scores": _scores(stored["results"]),
    }


def _scores(results: list[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        one["protocol"]: {name: round(one["metrics"][name], 6) for name in ("rank1", "mAP")}
        for one in results
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if "model name" in line)


def read_rows(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the rows in the order of the recipes, by seed."""
    return _in_order(json.loads(path.read_text("utf-8")) if path.exists() else [])


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = {name: place for place, name in enumerate(recipes())}
    return sorted(rows, key=lambda row: (order.get(row["recipe"], len(order)), row["seed"]))


def keep(row: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Put a row in the place of an older one of the same recipe and seed."""
    same = (row["recipe"], row["seed"])
    rows = [one for one in read_rows(path) if (one["recipe"], one["seed"]) != same]
    path.write_text(json.dumps(_in_order([*rows, dict(row)]), indent=1) + "\n", "utf-8")


def measure(recipe: str, seed: int, work: Path) -> dict[str, Any]:
    """Run a recipe in a process of one thread and return its row."""
    folder = work / f"{recipe.replace('/', '_')}_{seed}"
    words = [*command(recipe, seed), "--out", str(folder), "-s", "engine.tensorboard=false"]
    words[0] = str(Path(sys.executable).with_name("reid"))
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, env={**os.environ, **dict.fromkeys(THREADS, "1")})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return row_of(folder, recipe, seed, commit, cpu, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", action="append", default=[])
    parser.add_argument("--seeds", default="0", help="0 or 0,1")
    parser.add_argument("--again", action="store_true", help="also what has a row")
    parser.add_argument("--work", type=Path, default=Path("runs/baselines"))
    given = parser.parse_args()
    if unknown := sorted({*given.recipe} - {*recipes()}):
        sys.exit(f"baselines: there is no recipe {unknown[0]}; there are {', '.join(recipes())}")
    for seed in map(int, given.seeds.split(",")):
        for recipe in given.recipe or recipes():
            there = any((row["recipe"], row["seed"]) == (recipe, seed) for row in read_rows())
            if there and not given.again:
                continue
            row = measure(recipe, seed, given.work)
            keep(row)
            score = row["scores"]["standard"]
            shown = f"{100 * score['rank1']:.1f} / {100 * score['mAP']:.1f}"
            print(f"{recipe}, seed {seed}: {shown}; {row['cpu_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
