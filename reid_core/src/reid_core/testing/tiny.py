"""Tiny runs for tests: assemble, take steps, and keep every loss bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from reid_core.contract.plugin import Plugin
from reid_core.contract.views import UpdateReport
from reid_core.loop.assembly import Assembly
from reid_core.loop.trainer import Trainer
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages

TINY: dict[str, dict[str, Any]] = {
    "data": {"name": "toy:tiny", "height": 64, "width": 32, "batch_size": 8, "instances": 2},
    "augment": {"pad": 2, "erasing": 0.5},
    "model": {"backbone": "test_resnet", "pretrained": False},
    "optim": {"lr": 7e-4},
    "schedule": {"epochs": 2, "iterations_per_epoch": 2, "warmup_epochs": 1},
    "engine": {"device": "cpu", "log_every": 1, "tensorboard": False, "precision": "fp32"},
    "evaluation": {"ranked_list": 0, "untrained": False},
}
"""A run of four steps of eight images in well under a second."""


def tiny_flags(
    plugins: Sequence[str] = (), *layers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the configuration of a tiny run; later layers rule."""
    flags: dict[str, Any] = {"run": {"plugins": list(plugins)}}
    for layer in (TINY, *layers):
        for section, values in layer.items():
            flags[section] = {**flags.get(section, {}), **values}
    return flags


def tiny_assembly(
    plugins: Sequence[str] = (),
    *layers: Mapping[str, Mapping[str, Any]],
    cache: Path,
    classes: Mapping[str, type[Plugin]] | None = None,
    folder: Path | None = None,
) -> Assembly:
    """Assemble a tiny run.

    Args:
        plugins: names, in any order.
        layers: configuration over `TINY`.
        cache: the cache folder.
        classes: plugin classes that need no entry point.
        folder: the run's folder.
    """
    resolved = resolve(tiny_flags(plugins, *layers), classes=classes)
    return assemble(resolved, cache=cache, folder=folder, say=lambda line: None, stages=Stages())


def first_forward(assembly: Assembly) -> tuple[Tensor, UpdateReport]:
    """Return loss and report of the update ``main`` on a run's first batch; nothing is stepped."""
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    main = next(update for update in assembly.parts.plan.updates if update.name == "main")
    found: tuple[Tensor, UpdateReport] = assembly.parts.forward(
        main, trainer.batches(trainer.streams(1))
    )
    return found


class Recorder(Trainer):
    """A trainer that keeps the value of every loss term of every step.

    Attributes:
        trace: one mapping per step: ``update:term`` to its value as a float.
        rows: rows of every step's main pass, generated ones included.
    """

    def __init__(self, assembly: Assembly, checkpoint: Path | None = None) -> None:
        super().__init__(assembly, checkpoint)
        self.trace: list[dict[str, float]] = []
        self.rows: list[int] = [0]
        add = self.metrics.add

        def keep(reports: Any) -> None:
            self.trace.append(
                {
                    f"{update}:{name}": value.item()
                    for update, report in reports.items()
                    for name, value in report.terms.items()
                }
            )
            labels = reports["main"].labels if "main" in reports else None
            self.rows.append(0 if labels is None else len(labels))
            add(reports)

        self.metrics.add = keep  # type: ignore[method-assign]
