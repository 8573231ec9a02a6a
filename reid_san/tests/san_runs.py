"""Tiny runs of SAN, of which single updates and steps are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from reid_core.loop.assembly import Assembly
from reid_core.loop.forward import UpdateReport
from reid_core.loop.step import train_step
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_flags

SHORT = {"pg_epochs": 1, "pg_iterations": 2, "pg_batch": 8, "pairs_batch": 4}
"""SAN-PG in two steps."""

HEADS = ("heads.", "criteria.")
DECODER = "branches.san/decoder."


def san(
    cache: Path,
    settings: dict[str, Any] | None = None,
    *others: str,
    said: list[str] | None = None,
    folder: Path | None = None,
    classes: dict[str, Any] | None = None,
    **sections: Any,
) -> Assembly:
    """Assemble a tiny run of SAN, and others beside it."""
    beside = sections.pop("plugins_too", {})
    layer = {"plugins": {"san": {**SHORT, **(settings or {})}, **beside}}
    flags = tiny_flags(("san", *others), layer, sections)
    say = (lambda line: None) if said is None else said.append
    resolved = resolve(flags, classes={**PROBES, **(classes or {})})
    return assemble(resolved, cache=cache, folder=folder, say=say, stages=Stages())


class Run:
    """A run whose updates and steps are done one at a time."""

    def __init__(self, assembly: Assembly, steps: int = 4) -> None:
        self.assembly = assembly
        self.model = assembly.model
        self.trainer = Recorder(assembly)
        self.model.train()
        self.trainer.begin_epoch()
        self.streams = self.trainer.streams(steps)

    def batches(self) -> Any:
        return self.trainer.batches(self.streams)

    def forward(self, update: str = "main") -> tuple[Tensor, UpdateReport]:
        """Return an update's loss and report."""
        parts = self.assembly.parts
        (declared,) = (u for u in parts.plan.updates if u.name == update)
        found: tuple[Tensor, UpdateReport] = parts.forward(declared, self.batches())
        return found

    def reached(self, update: str = "main") -> set[str]:
        """Return the parameters to which an update's loss gives a gradient that is not zero."""
        loss, _ = self.forward(update)
        loss.backward()
        found = {n for n, p in self.model.named_parameters() if p.grad is not None}
        return {n for n in found if self.model.get_parameter(n).grad.abs().max() > 0}  # type: ignore[union-attr]

    def step(self) -> dict[str, UpdateReport]:
        """Do one training step."""
        return train_step(self.assembly.parts, self.batches(), 0.0)


def write_pairs(
    root: Path,
    side: int = 32,
    names: Sequence[str] = ("a", "b", "c", "d"),
    frontal: bool = False,
    layout: str = "noise",
) -> Path:
    """Write a folder of pairs as users have them, of noise."""
    rng = np.random.default_rng(0)
    shapes = {"images": (64, 32, 3), "textures": (side, side, 3)}
    if frontal:
        shapes["frontal"] = (64, 32, 3)
    for folder, shape in shapes.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            pixels = rng.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    (root / "textures" / "layout.txt").write_text(f"{layout}\n")
    return root
