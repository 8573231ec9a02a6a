"""The rows of FSAM's tables on synthetic people who change clothes, under one budget.

Every row is the recipe `fsam/quick` with the row's settings and an encoder from random weights: the
same data, seeds, steps, parser.

    python benchmarks/fsam.py [--rows A,S,full] [--seeds 0,1,2] [--epochs N] [--iterations N]
                              [--small] [--masks 32x16] [--bf16] [--json FILE]

`A` and `S` come from one run without mutual learning, in which the two streams share nothing but
their batches; `S*` sees the frozen parser's masks. `KL only`, `full` and `no L_R` report the
appearance stream and, as `S (MU)`, the shape stream. `fro` takes the norm of equation 9 as printed,
`PRCC's weights` λ_KL = λ_SI = 5; of every run A's cross-entropy at the end says whether it learnt.
Masks are compared with the coarse ones (equation 4) and with the true parts. Data and the parser
are made first. Results are on synthetic people and say nothing about real ones.
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

from reid_core.runs.stages import Stages

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from reid_core.loop.assembly import Assembly
from reid_core.model.embedder import embedder_of
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder
from reid_fsam.comparing import measure_masks
from reid_retrieval.features import FeatureSet
from reid_retrieval.retrieval import evaluate_all

RECIPE = "fsam/quick"
MODEL = {"backbone": "resnet18", "pretrained": False}
"""The tables' encoder, from random weights."""

A, S = "core/global", "fsam/shape"
RUNS: dict[str, dict[str, Any]] = {
    "strangers": {"mutual": "none"},
    "coarse": {"mutual": "none", "stream": "coarse"},
    "kl": {"branches": "single", "si_weight": 0.0, "keep_weight": 0.0},
    "full": {},
    "no_keep": {"keep_weight": 0.0},
    "fro": {"si_norm": "fro"},
    "prcc": {"kl_weight": 5.0, "si_weight": 5.0},
    "prcc_fro": {"kl_weight": 5.0, "si_weight": 5.0, "si_norm": "fro"},
}
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "A": ("strangers", (A,)),
    "S": ("strangers", (S,)),
    "A+S": ("strangers", (A, S)),
    "S*": ("coarse", (S,)),
    "KL only": ("kl", (A,)),
    "full": ("full", (A,)),
    "S (MU)": ("full", (S,)),
    "A+S (MU)": ("full", (A, S)),
    "no L_R": ("no_keep", (A,)),
    "fro": ("fro", (A,)),
    "PRCC's weights": ("prcc", (A,)),
    "PRCC's weights (fro)": ("prcc_fro", (A,)),
}
SMALL = {"height": 64, "width": 32}
PARSER_SIZE = (128, 64)
"""A quarter of the pixels, for `--small`; the parser still sees what it was trained on."""

PROTOCOLS = {"cc": "cross-clothes", "sc": "same-clothes"}


def trained(run: str, seed: int, options: argparse.Namespace) -> tuple[Recorder, float]:
    """Train one run; return its trainer and the CPU seconds of the training."""
    sizes: dict[str, Any] = {"parser_size": PARSER_SIZE} if options.small else {}
    sizes["mask_size"] = tuple(map(int, options.masks.split("x"))) if options.masks else None
    flags: dict[str, Any] = {
        "run": {"seed": seed},
        "data": {"name": options.data, "threads": 1, **(SMALL if options.small else {})},
        "model": MODEL,
        "engine": {"device": "cpu", "precision": "bf16" if options.bf16 else "fp32"},
        "evaluation": {"embed": (A, S), "protocols": tuple(PROTOCOLS.values())},
        "plugins": {"fsam": {**RUNS[run], **sizes}},
        "schedule": {"epochs": options.epochs, "iterations_per_epoch": options.iterations},
    }
    flags["schedule"] = {k: v for k, v in flags["schedule"].items() if v is not None}
    trainer = Recorder(
        assemble(resolve(flags, recipe=RECIPE), say=lambda line: None, stages=Stages())
    )
    began = time.process_time()
    trainer.fit()
    return trainer, time.process_time() - began


def scores(assembly: Assembly, embed: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return rank-1 and mean average precision of embeddings by protocol, in per cent."""
    assert assembly.evaluator is not None
    embedder = embedder_of(assembly.model, assembly.config.data.size, embed).eval()
    results = assembly.evaluator.evaluate(embedder).results
    return named(results)


def chance(assembly: Assembly) -> dict[str, dict[str, float]]:
    """Return the scores of features that are drawn at random."""
    assert assembly.evaluator is not None
    evaluation = assembly.evaluator.evaluate(
        embedder_of(assembly.model, assembly.config.data.size, (A,)).eval()
    )
    random = np.random.default_rng(0)
    query, gallery = (
        FeatureSet(random.normal(size=(len(s), 64)).astype(np.float32), s.labels)
        for s in (evaluation.query, evaluation.gallery)
    )
    return named(evaluate_all(query, gallery, assembly.evaluator.protocols))


def named(results: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Return results by the short names of their protocols."""
    return {
        short: {"rank1": 100 * result.cmc[0], "map": 100 * result.mean_ap}
        for short, result in zip(PROTOCOLS, results, strict=True)
    }


def masks(assembly: Assembly) -> dict[str, float] | None:
    """Return how the live parser's masks compare; None where none is live."""
    branches: Any = dict(assembly.model.branches)
    if "fsam/coarse" not in branches:
        return None
    return measure_masks(assembly, branches["fsam/parser"], branches["fsam/coarse"])


def summary(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def main() -> None:
    """Train the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data", default="synthpeople/prcc:quick")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--masks", help="height x width of masks; without it that of the image")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row.strip() for row in options.rows.split(",") if row.strip() in ROWS]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    torch.set_num_threads(1)
    found: dict[str, Any] = {"rows": {}, "runs": {}, "chance": None}
    for run in dict.fromkeys(ROWS[row][0] for row in rows):
        for seed in seeds:
            trainer, seconds = trained(run, seed, options)
            assembly = trainer.assembly
            first = {k.partition(":")[2]: v for k, v in trainer.trace[0].items()}
            found["runs"].setdefault(run, []).append(
                {
                    "seed": seed,
                    "cpu_seconds": round(seconds, 1),
                    "images": trainer.images,
                    "masks": masks(assembly),
                    "last_ce": trainer.trace[-1][f"main:{A}/ce"],
                    "step_0": {k: v for k, v in first.items() if k.startswith("fsam/simil")},
                }
            )
            found["chance"] = found["chance"] or chance(assembly)
            for row in (r for r in rows if ROWS[r][0] == run):
                result = scores(assembly, ROWS[row][1])
                found["rows"].setdefault(row, []).append({"seed": seed, **result})
                print(f"{row}, seed {seed}: {result}", flush=True)
            print(f"{run}, seed {seed}: {found['runs'][run][-1]}", flush=True)
            if options.json:
                facts = {
                    "data": options.data,
                    "synthetic": True,
                    "recipe": RECIPE,
                    "bf16": options.bf16,
                    "epochs": options.epochs,
                    "iterations": options.iterations,
                    "small": options.small,
                    "masks": options.masks,
                }
                facts |= {"torch": torch.__version__, "python": platform.python_version()}
                options.json.write_text(json.dumps({**facts, **found}, indent=2) + "\n", "utf-8")
    print(f"\n| row (synthetic) | {' | '.join(f'{p} rank-1 | {p} mAP' for p in PROTOCOLS)} |")
    print("|---" * (1 + 2 * len(PROTOCOLS)) + "|")
    for row, results in found["rows"].items():
        cells = [summary([r[p][m] for r in results]) for p in PROTOCOLS for m in ("rank1", "map")]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
