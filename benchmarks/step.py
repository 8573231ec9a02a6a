"""What the framework costs per training step, and what its switches gain: ratios in one run.

    python benchmarks/step.py [--rounds N] [--only NAME] [--json FILE]

1. `train_step` against a bare loop around the same model, losses and optimiser;
2. the same step with channels_last, with bfloat16, and with both;
3. batch-hard triplet against a loop over anchors;
4. hook calls with 0, 1, 5 and 10 plugins;
5. an update for a classifier alone, with a forward of its own and standing on main's; CAL's.

``--only updates`` (``step``, ``triplet``, ``hooks``) measures one part and leaves the others in the
file as they are. Figures are CPU seconds of one thread (`process_time`), measured in turns
(A B A B), medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from reid_core.runs.stages import Stages

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from reid_baselines.cal import Cal
from reid_core import (
    Branch,
    LossTerm,
    Pass,
    Plugin,
    RunConfig,
    Schedule,
    StepView,
    Update,
    batch_hard_triplet,
    hookimpl,
)
from reid_core.loop.assembly import Assembly
from reid_core.loop.step import train_step
from reid_core.loop.trainer import Trainer
from reid_core.plugins.calls import HookCalls
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve


def medians(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each contender, measured in turns after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            began = time.process_time()
            work()
            if number:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def assembled(
    cache: Path,
    backbone: str,
    size: tuple[int, int],
    batch: int,
    plugin: type[Plugin] | None = None,
    settings: Mapping[str, Any] | None = None,
    **engine: Any,
) -> Assembly:
    """Assemble the baseline, or a plugin with its settings beside it, on the toy data set."""
    flags = {
        "data": {
            "name": "toy:tiny",
            "height": size[0],
            "width": size[1],
            "batch_size": batch,
            "instances": batch // 8,
        },
        "model": {"backbone": backbone},
        "engine": {"device": "cpu", "precision": "fp32", "channels_last": False, **engine},
        "schedule": {"iterations_per_epoch": 1, "warmup_epochs": 0},
    }
    classes = {} if plugin is None else {"outfits": plugin}
    flags["plugins"] = {name: dict(settings or {}) for name in classes}
    resolved = resolve({**flags, "run": {"plugins": list(classes)}}, classes=classes)
    return assemble(resolved, cache=cache, say=lambda line: None, stages=Stages())


def framework_step(assembly: Assembly) -> Callable[[], object]:
    """Return one `train_step` on a fixed batch."""
    trainer = Trainer(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batches = _one_batch(trainer)
    return lambda: train_step(assembly.parts, batches, 0.0)


def bare_step(assembly: Assembly) -> Callable[[], object]:
    """Return the same step written out by hand: no plan, no hooks, no reports."""
    model: Any = assembly.model.train()
    batch = _one_batch(Trainer(assembly))["main"]
    optimiser = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=3.5e-4, weight_decay=5e-4
    )
    entropy = nn.CrossEntropyLoss(label_smoothing=assembly.config.identity.label_smoothing)
    neck = model.heads["core/global"].neck
    classifier = model.criteria["core/global"].classifier

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        raw = model.encoder(batch.image)["encoder/map"].mean((2, 3))
        loss = entropy(classifier(neck(raw)), batch.pid) + batch_hard_triplet(raw, batch.pid)
        loss.backward()
        optimiser.step()

    return step


def _one_batch(trainer: Trainer) -> dict[str, Any]:
    streams = trainer.streams(1)
    batches = trainer.batches(streams)
    for stream in streams.values():
        stream.close()
    return dict(batches)


def looped_triplet(vectors: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Batch-hard triplet with a loop over anchors, as older codebases of the field have it."""
    squares = vectors.pow(2).sum(1, keepdim=True)
    distances = (squares + squares.T - 2 * vectors @ vectors.T).clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels[None, :]
    positive, negative = [], []
    for row in range(len(labels)):
        positive.append(distances[row][same[row]].max())
        negative.append(distances[row][~same[row]].min())
    return torch.relu(torch.stack(positive) - torch.stack(negative) + margin).mean()


class Outfits(Plugin):
    """A classifier of outfits in an update of its own, as CAL has it."""

    again = Pass("outfits/again", branches=("deployed",))

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        """Add the classifier."""
        count = 1 + max(sample.clothes for sample in ctx.main.samples)
        sizes = ("deployed:neck",)

        def head(known: Any) -> nn.Module:
            return nn.Linear(known["deployed:neck"].channels, count)

        return [Branch("outfits/head", head, reads=(), sizes=sizes)]

    @hookimpl
    def reid_schedule(self) -> Schedule:
        """Learn after main."""
        return Schedule(updates=(Update("outfits/learn", ("outfits/head",), passes=(self.again,)),))

    @hookimpl
    def reid_losses(self, ctx: Any, step: StepView) -> list[LossTerm]:
        """Classify detached vectors."""
        if step.update != "outfits/learn":
            return []
        view = step.passes["outfits/again"]
        guess = ctx.module("outfits/head")(view.output("deployed:neck").detach())
        value = nn.functional.cross_entropy(guess.float(), view.batch.clothes)
        return [LossTerm("outfits/learn", value)]


class CheapOutfits(Outfits):
    """The same, standing on main's forward."""

    again = Pass("outfits/again", of="main", detached=True)


def timed_step(assembly: Assembly) -> Callable[[], tuple[float, float]]:
    """Return a step of two updates, main's and another's, that tells the seconds of each."""
    trainer = Trainer(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    batches = _one_batch(trainer)
    began: list[float] = []

    def forward(update: Update, given: Mapping[str, Any]) -> Any:
        began.append(time.process_time())
        return assembly.parts.forward(update, given)

    parts = replace(assembly.parts, forward=forward)

    def step() -> tuple[float, float]:
        began.clear()
        train_step(parts, batches, 0.0)
        main, other = began
        return other - main, time.process_time() - other

    return step


def updates(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Time a classifier's update within its step: CAL's, and one with a forward of its own."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for title, backbone, batch, kinds in (
        (
            "ResNet-18 128x64 B 64",
            "resnet18",
            64,
            {"own forward": Outfits, "of main": CheapOutfits},
        ),
        ("OSNet x0.25 128x64 B 32", "osnet_x0_25", 32, {"cal": Cal}),
    ):
        for label, kind in kinds.items():
            settings = {"begin": 0} if kind is Cal else {}
            with TemporaryDirectory() as folder:
                base = (Path(folder), backbone, (128, 64), batch)
                step = timed_step(assembled(*base, plugin=kind, settings=settings))
                times = [step() for _ in range(rounds + 1)][1:]
            main, update = map(statistics.median, zip(*times, strict=True))
            found.setdefault(title, {})[label] = {
                "main": main,
                "update": update,
                "share": update / (main + update),
            }
    return found


def triplets(rounds: int) -> dict[str, dict[str, float]]:
    """Compare both forms of the triplet loss, forward and backward."""
    found = {}
    for batch in (64, 128, 256):
        vectors = torch.randn(batch, 2048, requires_grad=True)
        labels = torch.arange(batch) // 4

        def backward(loss: Callable[[Tensor, Tensor], Tensor], v: Tensor, y: Tensor) -> None:
            loss(v, y).backward()

        times = medians(
            {
                "loop": lambda v=vectors, y=labels: backward(looped_triplet, v, y),
                "ours": lambda v=vectors, y=labels: backward(batch_hard_triplet, v, y),
            },
            rounds,
        )
        with torch.no_grad():
            losses = looped_triplet(vectors, labels), batch_hard_triplet(vectors, labels)
        gap = float((losses[0] - losses[1]).abs())
        found[f"B={batch}"] = {**times, "ratio": times["loop"] / times["ours"], "difference": gap}
    return found


class Silent(Plugin):
    """A plugin that answers the step's hooks with nothing."""

    @hookimpl
    def reid_losses(self, step: StepView) -> list[LossTerm]:
        """Return no term."""
        return []

    @hookimpl
    def reid_data_synthesis(self, update: str) -> list[Any]:
        """Generate nothing."""
        return []


def hooks(steps: int = 2000) -> dict[str, float]:
    """Return microseconds of a step's hook calls by number of plugins, random scopes included."""
    found = {}
    step = StepView(Update("main", terms=("*",)), 0, 0, {})
    nothing: Any = None
    progress = SimpleNamespace(iteration=0)
    ctx: Any = SimpleNamespace(
        config=RunConfig(), device=torch.device("cpu"), progress=progress, rank=0
    )
    for count in (0, 1, 5, 10):
        calls = HookCalls({f"silent{n}": Silent(f"silent{n}") for n in range(count)})
        began = time.process_time()
        for _ in range(steps):
            for _ in range(2):
                calls.data_synthesis(ctx, nothing, None, "main")
            calls.losses(ctx, step)
        found[f"{count} plugins"] = 1e6 * (time.process_time() - began) / steps
    return found


def steps(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Compare steps and print each table as it comes."""
    found = {}
    with TemporaryDirectory() as folder:
        for title, backbone, size, batch in (
            ("ResNet-18 128x64 B 64", "resnet18", (128, 64), 64),
            ("ResNet-50 256x128 B 16", "resnet50", (256, 128), 16),
        ):
            base = (Path(folder), backbone, size, batch)
            both = {"precision": "bf16", "channels_last": True}
            contenders = {
                "bare loop": bare_step(assembled(*base)),
                "train_step": framework_step(assembled(*base)),
                "channels_last": framework_step(assembled(*base, channels_last=True)),
                "bf16": framework_step(assembled(*base, precision="bf16")),
                "bf16 + channels_last": framework_step(assembled(*base, **both)),
            }
            times = medians(contenders, rounds)
            bare = times["bare loop"]
            found[title] = {
                label: {"seconds": t, "images_per_second": batch / t, "ratio": bare / t}
                for label, t in times.items()
            }
            print(f"\n{title}: images/s per core, ratio to the bare loop")
            for label, t in times.items():
                print(f"  {label:<22} {batch / t:8.1f}  {bare / t:5.2f}x")
            print(f"  cost of the framework: {100 * (times['train_step'] / bare - 1):+.1f} %")
    return found


def processor() -> str:
    """Name the processor and count its cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def tell(results: Mapping[str, Any]) -> None:
    """Print what there is of the triplet loss, the hooks and the updates."""
    if "triplet" in results:
        print("\nbatch-hard triplet, forward and backward")
    for label, row in results.get("triplet", {}).items():
        print(
            f"  {label:<6} loop {1e3 * row['loop']:6.2f} ms, ours {1e3 * row['ours']:6.2f} ms: "
            f"{row['ratio']:.1f}x (difference {row['difference']:.0e})"
        )
    if "hooks" in results:
        print("\nhook calls of one step (microseconds, random scopes included)")
    for label, value in results.get("hooks", {}).items():
        print(f"  {label:<11} {value:7.1f}  ({value / 200:.2f} % of a 20 ms step)")
    for title, rows in results.get("updates", {}).items():
        print(f"\na classifier's update behind main ({title})")
        for label, row in rows.items():
            print(
                f"  {label:<11} {1e3 * row['main']:7.1f} ms and {1e3 * row['update']:6.1f} ms: "
                f"{100 * row['share']:.1f} % of a step"
            )


def main() -> None:
    """Run everything, or one part, and print the ratios."""
    parts: dict[str, Callable[[int], Any]] = {
        "step": steps,
        "triplet": triplets,
        "hooks": lambda rounds: hooks(),
        "updates": updates,
    }
    parser = argparse.ArgumentParser(description="Cost of the framework per training step.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=parts, help="one part; the file keeps the others")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }
    for name in [options.only] if options.only else parts:
        results[name] = parts[name](options.rounds)
    tell(results)
    if options.json:
        kept = {}
        if options.only and options.json.exists():
            kept = json.loads(options.json.read_text("utf-8"))
        options.json.write_text(json.dumps({**kept, **results}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
