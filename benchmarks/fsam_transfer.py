"""Does what a body's shape says about identity reach a network that sees the image?

FSAM stands on a shape stream S that knows people across clothes better than the appearance stream
A, and on A's learning it from S's predictions. Here both are looked at alone: S sees the true part
masks of synthetic people at the size of the image, is trained first and then frozen, and A learns
its predictions (KL, T = 4) beside identities. All rows have one network, one budget, one data set.

    python benchmarks/fsam_transfer.py [--rows A,S,"A <- S",...] [--seeds 0,1,2] [--steps N]
                                       [--size 64x32] [--keep DIR] [--json FILE]

| row | what it asks |
| --- | --- |
| `A`, `S` | is there anything to learn: is S above A across clothes? Otherwise no row is judged |
| `A <- S` | does A learn it from S's predictions? |
| `A+mask`, `A+mask <- S` | positive control: does a network that is given the mask learn it? |
| `A, parts first` | does A gain when it has learnt to tell parts apart before identities? |
| `A + partaware` | does a part head on A beside identities help? |
| `... <- S` | and does S's teaching help then? |

Each row is also tested with the head and the lower arms greyed, and with the clothes greyed, which
says what the row recognises people by. `--keep` stores the networks that other rows begin with, so
that rows can be run one by one. Figures are synthetic: nothing here says anything of real people.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reid_core import (
    Branch,
    Embedding,
    Encoder,
    LossTerm,
    Need,
    NoEncoder,
    Plugin,
    RunContext,
    Settings,
    StepView,
    Supervision,
    Tap,
    hookimpl,
)
from reid_core.contract.fields import PART_CLASSES
from reid_core.loop.assembly import Assembly
from reid_core.model.embedder import embedder_of
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder
from reid_fsam.extractor import ShapeExtractor
from reid_fsam.losses import divergence

# isort: split
# Behind reid_core, which lets timm import torchvision beside any build of torch.
from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet

PROTOCOLS = {"cc": "cross-clothes", "sc": "same-clothes"}
GREYED = {
    "": (),
    "head greyed": ("head", "lower arm"),
    "clothes greyed": ("torso", "upper arm", "upper leg", "lower leg", "foot"),
}
Sees = Literal["image", "mask", "both"]


@register_model
def narrow_resnet18(num_classes: int = 0, **of_weights: Any) -> ResNet:
    """Return a ResNet-18 of half the width, a quarter of the work; there are no weights of it."""
    channels = (32, 64, 128, 256)
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, channels=channels)  # type: ignore[arg-type]


class Stream(nn.Module):
    """One network that sees the image, the true mask, or both.

    Args:
        sees: which.
        size: height and width.
    """

    def __init__(self, sees: Sees, size: tuple[int, int]) -> None:
        super().__init__()
        channels = {"image": 3, "mask": len(PART_CLASSES), "both": 3 + len(PART_CLASSES)}[sees]
        self.network = ShapeExtractor("narrow_resnet18", size, channels, routing="single")
        self.sees = sees
        self.greyed: tuple[int, ...] = ()

    def forward(self, image: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last map and its mean; see the class."""
        planes = []
        if self.sees != "mask":
            grey = torch.isin(parts, torch.tensor(self.greyed, dtype=parts.dtype))
            planes.append(image.masked_fill(grey[:, None], 0.0))  # the mean colour
        if self.sees != "image":
            planes.append(F.one_hot(parts.long(), len(PART_CLASSES)).permute(0, 3, 1, 2).float())
        *_, last, pooled = self.network(torch.cat(planes, 1))
        return last, pooled


class SeenSettings(Settings):
    """Settings of `Seen`."""

    sees: Sees = "image"
    identities: bool = True
    weight: Annotated[float, Field(ge=0)] = 0.0
    temperature: Annotated[float, Field(gt=0)] = 4.0


class Teacher(nn.Module):
    """A trained stream with neck and classifier: identity logits of a mask.

    Args:
        assembly: of the run that trained it.
    """

    def __init__(self, assembly: Assembly) -> None:
        super().__init__()
        model = assembly.model
        self.stream, self.head = model.branches["seen/stream"], model.heads["seen/person"]
        self.classifier = model.criteria["seen/person"].classifier

    def forward(self, image: Tensor, parts: Tensor) -> Tensor:
        """Return logits ``B K``."""
        return self.classifier(self.head(self.stream(image, parts)[1]).neck)  # type: ignore[operator, no-any-return]


class Seen(Plugin):
    """The run's only network: it takes the encoder's and the embedding's place."""

    Settings = SeenSettings
    settings: SeenSettings
    claims = ("backbone", "embedding")
    needs = (Need("identities"), Need("parts"))
    teacher: Teacher | None = None
    """Of all instances: the shape stream whose predictions they learn."""

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Leave the encoder's place empty; the stream sees more than the image."""
        return NoEncoder()

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the stream, and its teacher."""
        person = Embedding(
            self.own("person"),
            reads=self.own("pooled"),
            supervision=Supervision() if self.settings.identities else None,
        )
        stream = Branch(
            self.own("stream"),
            Stream(self.settings.sees, ctx.image_size),
            ("image", "parts"),
            (self.own("map"), self.own("pooled")),
            (person,),
        )
        if not self.settings.weight:
            return [stream]
        teacher, writes = type(self).teacher, (self.own("taught"),)
        assert teacher is not None
        reads = ("image", "parts")
        return [stream, Branch(self.own("teacher"), teacher, reads, writes, frozen=True)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the divergence of the stream's predictions from the teacher's."""
        if not self.settings.weight:
            return []
        view, heat = step.main, self.settings.temperature
        taught = view.output(self.own("taught")).detach() / heat
        value = heat**2 * divergence(taught, view.logits[self.own("person")] / heat)
        return [LossTerm(self.own("divergence"), value, self.settings.weight)]


@dataclass(frozen=True)
class Row:
    """What a row sees, whether S teaches it, what it begins with, what is stacked on it."""

    sees: Sees = "image"
    taught: bool = False
    parts_first: bool = False
    partaware: bool = False


ROWS = {
    "A": Row(),
    "S": Row("mask"),
    "A <- S": Row(taught=True),
    "A+mask": Row("both"),
    "A+mask <- S": Row("both", taught=True),
    "A, parts first": Row(parts_first=True),
    "A, parts first <- S": Row(parts_first=True, taught=True),
    "A + partaware": Row(partaware=True),
    "A + partaware <- S": Row(partaware=True, taught=True),
}


def built(row: Row, seed: int, options: argparse.Namespace, identities: bool = True) -> Assembly:
    """Build the run of a row; without identities only parts are learnt."""
    seen = {"sees": row.sees, "identities": identities, "temperature": options.temperature}
    plugins: dict[str, Any] = {"seen": {**seen, "weight": options.weight * row.taught}}
    if row.partaware:
        plugins["partaware"] = {"stream": ("seen/map",)}
    height, width = (int(side) for side in options.size.split("x"))
    flags: dict[str, Any] = {
        "run": {"seed": seed, "plugins": list(plugins)},
        "data": {"name": options.data, "height": height, "width": width, "threads": 1},
        "engine": {"device": "cpu", "precision": "fp32"},
        "evaluation": {"protocols": tuple(PROTOCOLS.values())},
        "schedule": {"epochs": 10, "iterations_per_epoch": options.steps // 10},
        "plugins": plugins,
    }
    return assemble(
        resolve(flags, recipe="core/quick", classes={"seen": Seen}), say=lambda line: None
    )


def kept(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Return where a network that other rows begin with is stored."""
    return options.keep / f"{name}-{options.size}-{options.steps}-{seed}.pt"


def teach(seed: int, options: argparse.Namespace) -> None:
    """Set the teacher of the rows to come: S of this seed, trained where it is not stored."""
    path, assembly = kept("S", seed, options), built(ROWS["S"], seed, options)
    if not path.is_file():
        Recorder(assembly).fit()
        torch.save(assembly.model.state_dict(), path)
    assembly.model.load_state_dict(torch.load(path))
    Seen.teacher = Teacher(assembly)


def know_parts(stream: nn.Module, seed: int, options: argparse.Namespace) -> None:
    """Let a stream begin with one that has learnt to tell parts apart, without identities."""
    path = kept("parts", seed, options)
    if not path.is_file():
        first = built(Row(partaware=True), seed, options, identities=False)
        Recorder(first).fit()
        torch.save(first.model.branches["seen/stream"].state_dict(), path)
    stream.load_state_dict(torch.load(path))


def trained(name: str, seed: int, options: argparse.Namespace) -> tuple[Recorder, float]:
    """Train a row; return its trainer, and the CPU seconds without what it begins with."""
    row = ROWS[name]
    if row.taught:
        teach(seed, options)
    assembly = built(row, seed, options)
    if row.parts_first:
        know_parts(assembly.model.branches["seen/stream"], seed, options)
    trainer = Recorder(assembly)
    began = time.process_time()
    trainer.fit()
    if name == "S":
        torch.save(assembly.model.state_dict(), kept("S", seed, options))
    return trainer, time.process_time() - began


def scores(assembly: Assembly) -> dict[str, dict[str, float]]:
    """Return rank-1 and mAP in per cent by protocol, of the image as it is and greyed."""
    assert assembly.evaluator is not None
    stream = assembly.model.branches["seen/stream"]
    assert isinstance(stream, Stream)
    found = {}
    for probe, parts in GREYED.items():
        if probe and stream.sees != "image":
            continue
        stream.greyed = tuple(PART_CLASSES.index(part) for part in parts)
        embedder = embedder_of(assembly.model, assembly.config.data.size, ("seen/person",)).eval()
        for short, result in zip(
            PROTOCOLS, assembly.evaluator.evaluate(embedder).results, strict=True
        ):
            key = f"{short}, {probe}" if probe else short
            found[key] = {"rank1": 100 * result.cmc[0], "map": 100 * result.mean_ap}
    return found


def summary(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return 'rank-1 / mAP', mean and standard deviation over seeds; '-' where not tested."""
    if key not in rows[0]["scores"]:
        return "-"
    cells = []
    for measure in ("rank1", "map"):
        values = [row["scores"][key][measure] for row in rows]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):.1f}{spread}")
    return " / ".join(cells)


def table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the rows as a table."""
    columns = [f"{p}{', ' + g if g else ''}" for g in GREYED for p in PROTOCOLS]
    lines = [f"| row (synthetic), rank-1 / mAP | seeds | {' | '.join(columns)} |"]
    lines.append("|---" * (2 + len(columns)) + "|")
    for name, rows in found.items():
        cells = " | ".join(summary(rows, column) for column in columns)
        lines.append(f"| {name} | {len(rows)} | {cells} |")
    return "\n".join(lines)


def judged(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Say whether S is above A across clothes in every seed that both have."""
    means = {
        name: {row["seed"]: row["scores"]["cc"]["map"] for row in found.get(name, ())}
        for name in ("A", "S")
    }
    seeds = sorted(means["A"].keys() & means["S"].keys())
    if not seeds:
        return "S and A were not compared: no transfer can be judged"
    gaps = ", ".join(f"{means['S'][seed] - means['A'][seed]:+.1f}" for seed in seeds)
    above = all(means["S"][seed] > means["A"][seed] for seed in seeds)
    verdict = "is" if above else "is not always: no transfer can be judged"
    return f"S above A across clothes, mAP by seed: {gaps}; it {verdict}"


def main() -> None:
    """Train the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS).replace("A, parts", "A; parts"))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data", default="synthpeople/prcc:quick")
    parser.add_argument("--size", default="64x32", help="height x width of images and masks")
    parser.add_argument("--steps", type=int, default=500, help="of 64 images")
    parser.add_argument("--weight", type=float, default=1.0, help="of KL")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fsam_transfer"))
    parser.add_argument("--json", type=Path, help="figures; what stands there is kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    facts = {key: getattr(options, key) for key in ("data", "size", "steps", "temperature")}
    facts |= {"weight": options.weight, "synthetic": True, "torch": torch.__version__}
    content: dict[str, Any] = {**facts, "python": platform.python_version(), "rows": {}}
    if options.json and options.json.is_file():
        stored = json.loads(options.json.read_text("utf-8"))
        if any(stored[key] != value for key, value in facts.items()):
            parser.error(f"{options.json} has figures of other settings; name another file")
        content["rows"] = stored["rows"]
    found = content["rows"]
    rows = [row.strip().replace(";", ",") for row in options.rows.split(",")]
    if unknown := [row for row in rows if row not in ROWS]:
        parser.error(f"no rows {unknown}; there are {', '.join(ROWS)} (write ';' for ',')")
    for seed in map(int, options.seeds.split(",")):
        for name in rows:
            trainer, seconds = trained(name, seed, options)
            last = trainer.trace[-options.steps // 10 :]
            terms = {
                term.partition(":")[2]: round(statistics.fmean(step[term] for step in last), 4)
                for term in last[-1]
            }
            row = {"seed": seed, "cpu_seconds": round(seconds, 1), "last_terms": terms}
            row["scores"] = scores(trainer.assembly)
            others = [old for old in found.get(name, ()) if old["seed"] != seed]
            found[name] = sorted([*others, row], key=lambda r: r["seed"])
            print(f"{name}, seed {seed}: {row}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    print(f"\n{table(found)}\n\n{judged(found)}")


if __name__ == "__main__":
    main()
