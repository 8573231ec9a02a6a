"""Whole models of the papers, and runs that are stepped once at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from reid_core import DataSet, Sample, Source
from reid_core.loop.assembly import Assembly
from reid_core.loop.step import train_step
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

SIX = {"data": {"height": 96}}
"""An input whose six rows at stride 16 the stripes of both methods divide."""


def whole(
    folder: Path,
    names: Sequence[str],
    identities: int,
    size: tuple[int, int],
    **sections: Mapping[str, Any],
) -> Assembly:
    """Assemble a run on a data set of so many people, one grey image each."""
    image = folder / "grey.png"
    Image.fromarray(np.full((size[0], size[1], 3), 128, np.uint8)).save(image)
    samples = tuple(Sample(image, pid, 0, split="train") for pid in range(identities))
    flags: dict[str, Any] = {
        "run": {"plugins": list(names)},
        "data": {"height": size[0], "width": size[1], "batch_size": 8, "sampler": "random"},
        "model": {"backbone": "resnet50"},
        "engine": {"device": "cpu"},
    }
    for section, values in sections.items():
        flags[section] = {**flags.get(section, {}), **values}
    dataset = DataSet("grey", Source("main", samples))
    return assemble(resolve(flags), cache=folder, say=lambda line: None, dataset=dataset)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Run:
    """A tiny run of plugins and probes of which single steps are looked at."""

    def __init__(self, cache: Path, plugins: Sequence[str], *layers: Mapping[str, Any]) -> None:
        self.assembly = tiny_assembly(plugins, SIX, *layers, cache=cache, classes=PROBES)
        self.model = self.assembly.model
        self.trainer = Recorder(self.assembly)
        self.model.train()
        self.trainer.begin_epoch()
        self.streams = self.trainer.streams(8)

    def step(self) -> dict[str, Any]:
        """Do one training step and return the reports by update."""
        return train_step(self.assembly.parts, self.trainer.batches(self.streams), 0.0)

    def moved_by_step(self) -> set[str]:
        """Do one training step and return the names of the parameters that it changed."""
        before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.step()
        return {n for n, p in self.model.named_parameters() if not p.equal(before[n])}
