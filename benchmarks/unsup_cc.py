"""What Sync-Person-Cloud learns from synthetic people whose identities it never sees.

Every row is the recipe `unsup_cc/quick` with the row's settings: the same people, the same encoder
after the core's self-supervised stage, as many steps. `recolor` has images in other clothes and the
constraint, `pise` likewise with the network's, `unconstrained` no constraint, `none` neither;
`average`, `hard` and `instance` have `recolor` and one memory only (table 3).

    python benchmarks/unsup_cc.py [--recipe NAME] [--rows recolor,none] [--seeds 0,1] [--batch N]
                                  [--epochs N] [--iterations N] [--start-epochs N] [--bf16]
                                  [--json FILE]

Reported are rank-1 and mAP of the features that training begins with and ends with, across clothes
and in the same ones, and at every epoch's start and after the last step the clusters: how many, how
many images are in none, and how they agree with the truth. With `--json` every row is kept as soon
as it is done. Results are on synthetic people and say nothing about real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder
from reid_unsup_cc.plugin import UnsupCC

ROWS: dict[str, dict[str, Any]] = {
    "recolor": {},
    "none": {"synthesis": {"method": "none"}},
    "unconstrained": {"constraint_weight": 0.0},
    "pise": {"synthesis": {"method": "pise"}},
    "average": {"memory": {"mode": "average"}},
    "hard": {"memory": {"mode": "hard"}},
    "instance": {"memory": {"mode": "instance"}},
}
PROTOCOLS = {"cc": "cross-clothes", "sc": "same-clothes"}


def trained(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one row and return what was measured."""
    schedule = {"epochs": options.epochs, "iterations_per_epoch": options.iterations}
    batch = {"batch_size": options.batch} if options.batch else {}
    flags: dict[str, Any] = {
        "run": {"seed": seed},
        "data": {"threads": 1, **batch},
        "engine": {"device": "cpu", "precision": "bf16" if options.bf16 else "fp32"},
        "model": {"start_epochs": options.start_epochs} if options.start_epochs else {},
        "evaluation": {"protocols": tuple(PROTOCOLS.values())},
        "plugins": {"unsup_cc": ROWS[row]},
        "schedule": {key: value for key, value in schedule.items() if value is not None},
    }
    trainer = Recorder(assemble(resolve(flags, recipe=options.recipe), say=print))
    plugin = trainer.assembly.plugins["unsup_cc"]
    assert isinstance(plugin, UnsupCC)
    before = scores(trainer)
    clusters, began = [], time.process_time()
    progress, epochs = trainer.assembly.ctx.progress, trainer.assembly.config.schedule.epochs
    for epoch in range(epochs):
        trainer.train_epoch()
        progress.epoch, progress.step = epoch + 1, 0
        clusters.append(reported(plugin))
    seconds = time.process_time() - began
    trainer.begin_epoch()  # clusters of the features that the last step has left
    clusters.append(reported(plugin))
    return {
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        "steps": progress.iteration,
        "images": sum(trainer.rows),
        "start": before,
        "end": scores(trainer),
        "clusters": clusters,
    }


def reported(plugin: UnsupCC) -> dict[str, Any]:
    """Return the plugin's report on its clusters."""
    assert plugin.report is not None
    return plugin.report.to_json()


def scores(trainer: Recorder) -> dict[str, dict[str, float]]:
    """Return rank-1 and mean average precision by protocol, in per cent."""
    evaluator = trainer.assembly.evaluator
    assert evaluator is not None
    results = evaluator.evaluate(trainer.assembly.embedder()).results
    return {
        short: {"rank1": 100 * float(result.cmc[0]), "map": 100 * float(result.mean_ap)}
        for short, result in zip(PROTOCOLS, results, strict=True)
    }


def summary(values: Sequence[float], digits: int = 1) -> str:
    """Return mean and standard deviation over seeds."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def show(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Print the tables."""
    print("\n| row (synthetic) | features | cc rank-1 | cc mAP | sc rank-1 | sc mAP |")
    print("|---|---|---|---|---|---|")
    for row, runs in rows.items():
        for when in ("start", "end"):
            cells = [
                summary([run[when][protocol][metric] for run in runs])
                for protocol in PROTOCOLS
                for metric in ("rank1", "map")
            ]
            print(f"| {row} | {when} | {' | '.join(cells)} |")
    print("\n| row (synthetic) | epoch | clusters | in none | NMI | ARI | purity | ARI of all |")
    print("|---|---|---|---|---|---|---|---|")
    for row, runs in rows.items():
        for epoch in range(len(runs[0]["clusters"])):
            found = [run["clusters"][epoch] for run in runs]
            plain = [summary([f[key] for f in found], 0) for key in ("clusters", "outliers")]
            agreed = [
                summary([f["agreement"][key] for f in found], 3)
                for key in ("nmi", "ari", "purity", "ari_all")
            ]
            print(f"| {row} | {epoch} | {' | '.join([*plain, *agreed])} |")


def main() -> None:
    """Train the rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="recolor,none")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--recipe", default="unsup_cc/quick")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--start-epochs", type=int)
    parser.add_argument("--batch", type=int, help="images; 4 of each pseudo-identity")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = {
        **{key: value for key, value in vars(options).items() if key != "json"},
        "synthetic": True,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in (int(text) for text in options.seeds.split(",")):
        for row in (name.strip() for name in options.rows.split(",")):
            rows.setdefault(row, []).append(trained(row, seed, options))
            print(f"{row}, seed {seed}: {rows[row][-1]}", flush=True)
            if options.json:
                content = json.dumps({**facts, "rows": rows}, indent=2)
                options.json.write_text(content + "\n", "utf-8")
    show(rows)


if __name__ == "__main__":
    main()
