"""What Sync-Person-Cloud learns from synthetic people whose identities it never sees, and why.

Every row is the recipe `unsup_cc/quick` with the row's settings: the same people, the same encoder
after self-supervised pre-training, as many steps.

    python benchmarks/unsup_cc.py [--recipe NAME] [--rows both,ca] [--seeds 0,1] [--batch N]
                                  [--backbone NAME] [--epochs N] [--iterations N]
                                  [--start-epochs N] [--start-only] [--bf16] [--json FILE]

The paper's table 2 without remedies (`paper_*`) and with them (no prefix): `baseline` (one vector
per image), `ca` (with images in other clothes), `ca_ci` (and the constraint), `cs` (both memories
alone), `ca_cs`, `both` (all). Remedies one by one from `both`: `no_grey` clusters images as they
are, `no_swap` leaves backgrounds behind people in other clothes, `no_whiten` reads no cameras,
`no_real` keeps running statistics; `outfits` starts from pre-training with outfits. `truth` and
`truth_ca` have true identities in place of clusters (all of the method, and without the
constraint), `supervised` is the core's baseline with them: the upper bounds of the budget.

Reported are rank-1 and mAP of the features that training begins with and ends with, across clothes
and in the same ones, and at every clustering how many clusters, images in none, cameras per cluster
and the share of true pairs found; with `--start-only` at the first one alone, without training.
With `--json` every row is kept as soon as it is done. Results are on synthetic people and say
nothing about real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_core.runs.stages import Stages

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from reid_core import FieldKind, FieldSpec, LabelContext, Labeler
from reid_core.outputs import checked_output
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder
from reid_unsup_cc.memory import ClusterMemory
from reid_unsup_cc.plugin import UnsupCC

Row = Mapping[str, Mapping[str, Any]]

PAPER: Row = {
    "clustering": {"background": "keep", "cameras": "keep"},
    "synthesis": {"background": "keep"},
}
INSTANCE: Row = {"memory": {"mode": "instance"}}
NO_CLOTHES: Row = {"synthesis": {"method": "none"}}
FREE: Row = {"constraint_weight": 0.0}  # type: ignore[dict-item]

TABLE: dict[str, tuple[Row, ...]] = {
    "baseline": (INSTANCE, NO_CLOTHES, FREE),
    "ca": (INSTANCE, FREE),
    "ca_ci": (INSTANCE,),
    "cs": (NO_CLOTHES, FREE),
    "ca_cs": (FREE,),
    "both": (),
}
ROWS: dict[str, tuple[Row, ...]] = {
    **TABLE,
    **{f"paper_{name}": (PAPER, *row) for name, row in TABLE.items()},
    "no_grey": ({"clustering": {"background": "keep"}},),
    "no_swap": ({"synthesis": {"background": "keep"}},),
    "grey_swap": ({"synthesis": {"background": "grey"}},),
    "no_whiten": ({"clustering": {"cameras": "keep"}},),
    "no_real": (),
    "outfits": ({"start": "outfits"},),  # type: ignore[dict-item]
    "hardest_unit": ({"memory": {"hardest": "kl_unit"}},),
    "average": ({"memory": {"mode": "average"}},),
    "hard": ({"memory": {"mode": "hard"}},),
    "pise": ({"synthesis": {"method": "pise"}},),
    "truth": (),
    "truth_ca": (FREE,),
}
RUNNING = ("no_real", *(name for name in ROWS if name.startswith("paper_")))
"""Rows that keep running statistics."""

TRUTH = ("truth", "truth_ca")
SUPERVISED = "supervised"
PROTOCOLS = {"cc": "cross-clothes", "sc": "same-clothes"}


def settings_of(row: str) -> dict[str, Any]:
    """Return the plugin's settings of a row."""
    merged: dict[str, Any] = {}
    for layer in ROWS[row]:
        for key, value in layer.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    return merged


def flags_of(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return a row's configuration over the recipe."""
    schedule = {"epochs": options.epochs, "iterations_per_epoch": options.iterations}
    batch = {"batch_size": options.batch} if options.batch else {}
    start = settings_of(row).get("start", "core") if row in ROWS else "core"
    model = {
        "backbone": options.backbone,
        "pretrained": False,
        "start": "random" if start == "outfits" else "contrastive",
        "start_epochs": options.start_epochs,
        "start_batch_size": 128,
    }
    chosen = {} if row == SUPERVISED else {"plugins": {"unsup_cc": settings_of(row)}}
    return {
        "run": {"seed": seed, **({"plugins": []} if row == SUPERVISED else {})},
        "data": {"threads": 1, **batch},
        "engine": {"device": "cpu", "precision": "bf16" if options.bf16 else "fp32"},
        "model": model,
        "evaluation": {
            "protocols": tuple(PROTOCOLS.values()),
            "batch_norm": "running" if row in RUNNING else "real",
        },
        "schedule": {key: value for key, value in schedule.items() if value is not None},
        **chosen,
    }


def trained(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one row and return what was measured."""
    recipe = resolve(recipe=options.recipe).config if row == SUPERVISED else None
    flags = flags_of(row, seed, options)
    if recipe is not None:  # the recipe without its plugin's section
        sections = recipe.model_dump(mode="json", exclude={"plugins"}, exclude_none=True)
        flags = {name: {**sections.get(name, {}), **flags.get(name, {})} for name in sections}
        trainer = Recorder(assemble(resolve(flags), say=print, stages=Stages()))
    else:
        trainer = Recorder(
            assemble(resolve(flags, recipe=options.recipe), say=print, stages=Stages())
        )
    assembly = trainer.assembly
    plugin = assembly.plugins.get("unsup_cc")
    if row in TRUTH:
        spec = FieldSpec("pid", FieldKind.SCALAR)
        assembly.identities = ("unsup_cc", Labeler(spec, true_identities, when="epoch"))
    assembly.model.train()
    before = scores(trainer)
    clusters: list[dict[str, Any]] = []
    began = time.process_time()
    progress, epochs = assembly.ctx.progress, assembly.config.schedule.epochs
    for epoch in range(0 if options.start_only else epochs):
        trainer.train_epoch()
        progress.epoch, progress.step = epoch + 1, 0
        clusters += reported(plugin)
    seconds = time.process_time() - began
    agreement = agreed(trainer)
    if row not in TRUTH:
        trainer.begin_epoch()  # clusters of the features that the last step has left
        clusters += reported(plugin)
    return {
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        "steps": progress.iteration,
        "images": sum(trainer.rows),
        "start": before,
        "end": scores(trainer),
        "clusters": clusters,
        "hardest_by_cosine": agreement,
    }


def true_identities(labels: LabelContext) -> Any:
    """Return who everybody is: the bound of what clusters could be."""
    return np.array([sample.pid for sample in labels.source.samples], np.int64)


def reported(plugin: object) -> list[dict[str, Any]]:
    """Return the plugin's report on its clusters, where there is one."""
    if not isinstance(plugin, UnsupCC) or plugin.report is None:
        return []
    return [plugin.report.to_json()]


def agreed(trainer: Recorder) -> float | None:
    """Return how often, in the last epoch, the hardest vector was that of smallest cosine."""
    for criterion in trainer.assembly.model.criteria.values():
        if isinstance(criterion, ClusterMemory) and criterion.agreement[1]:
            return float(criterion.agreement[0] / criterion.agreement[1])
    return None


def scores(trainer: Recorder) -> dict[str, dict[str, float]]:
    """Return rank-1 and mean average precision by protocol, in per cent."""
    evaluation = trainer.evaluate("final")
    assert evaluation is not None
    return {
        short: {"rank1": 100 * float(result.cmc[0]), "map": 100 * float(result.mean_ap)}
        for short, result in zip(PROTOCOLS, evaluation.results, strict=True)
    }


def summary(values: Sequence[float | None], digits: int = 1, scale: float = 1.0) -> str:
    """Return mean and standard deviation over seeds."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{spread}"


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
    head = ("clusters", "in none", "NMI", "purity", "cameras", "same clothes %", "other clothes %")
    print(f"\n| row (synthetic) | epoch | {' | '.join(head)} |")
    print("|---|---|" + "---|" * len(head))
    for row, runs in rows.items():
        for epoch in range(len(runs[0]["clusters"])):
            found = [run["clusters"][epoch] for run in runs]
            cells = [summary([f[key] for f in found], 0) for key in ("clusters", "outliers")]
            cells += [summary([f["agreement"][k] for f in found], 3) for k in ("nmi", "purity")]
            cells += [summary([f["recall"]["cameras"] for f in found], 2)]
            cells += [
                summary([f["recall"][key] for f in found], scale=100)
                for key in ("same_clothes", "other_clothes")
            ]
            print(f"| {row} | {epoch} | {' | '.join(cells)} |")
    for row, runs in rows.items():
        share = summary([run["hardest_by_cosine"] for run in runs], scale=100)
        print(f"{row}: the hardest is that of smallest cosine in {share} % of updates")


def main() -> None:
    """Train the rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="paper_both,both")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--recipe", default="unsup_cc/quick")
    parser.add_argument(
        "--backbone", default="resnet18", help="which begins at random (%(default)s)"
    )
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--start-epochs", type=int, default=6)
    parser.add_argument("--start-only", action="store_true", help="cluster once, do not train")
    parser.add_argument("--batch", type=int, help="images; 4 of each pseudo-identity")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.json:
        checked_output(options.json, (".json",), option="--json")
    torch.set_num_threads(1)
    facts = {
        **{key: value for key, value in vars(options).items() if key not in ("json", "rows")},
        "synthetic": True,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    if options.json and options.json.exists():  # rows of an earlier call stay
        rows = json.loads(options.json.read_text("utf-8"))["rows"]
    for seed in (int(text) for text in options.seeds.split(",")):
        for row in (name.strip() for name in options.rows.split(",")):
            runs = rows.setdefault(row, [])
            if any(run["seed"] == seed for run in runs):
                continue
            runs.append(trained(row, seed, options))
            print(f"{row}, seed {seed}: {runs[-1]['start']} {runs[-1]['end']}", flush=True)
            if options.json:
                content = json.dumps({**facts, "rows": rows}, indent=2)
                options.json.write_text(content + "\n", "utf-8")
    show(rows)


if __name__ == "__main__":
    main()
