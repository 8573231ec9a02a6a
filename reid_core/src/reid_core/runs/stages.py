"""Stages: runs inside the run, made once and reused under a key of their content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from reid_core.config import RunConfig
from reid_core.contract.context import RunContext
from reid_core.contract.events import RunBegan, RunEnded
from reid_core.contract.names import check_known, check_owned
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataSet, Source
from reid_core.contract.stages import Stage
from reid_core.errors import PluginError, ReidError
from reid_core.loop.assembly import Assembly
from reid_core.loop.trainer import Interrupted, Trainer
from reid_core.model.embedder import Embedder
from reid_core.model.graph import ReidModel
from reid_core.outputs import forget_after, write_json, write_text
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.assembly.datasets import load_source
from reid_core.runs.assembly.keys import key_of, stage_contents
from reid_core.runs.resolve import resolve

INHERITED = ("data", "augment", "model", "optim", "engine")
"""Sections of the run's configuration that a stage takes over where it does not say otherwise."""


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Args:
        name, key: the stage, and what identifies its content.
        folder: its configuration, metrics and checkpoint.
        model: its model in evaluation mode, on the run's device.
        assembly: what it was made with.
    """

    name: str
    key: str
    folder: Path
    model: ReidModel
    assembly: Assembly

    def module(self, branch: str) -> nn.Module:
        """Return a branch's module, or the encoder.

        Raises:
            PluginError: there is no such branch.
        """
        if branch == "encoder":
            return self.model.encoder
        check_known(branch, list(self.model.branches), f"stage '{self.name}' has no branch")
        return self.model.branches[branch]

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.assembly.config

    @property
    def source(self) -> Source:
        """What it was trained on."""
        return self.assembly.ctx.main

    def embedder(self) -> Embedder:
        """Return the stage's deployed part."""
        return self.assembly.embedder().eval()


class Stages:
    """Makes the stages of runs by assembling and training them."""

    def result(self, ctx: RunContext, stage: Stage) -> StageResult:
        """See `run_stage`."""
        with _named(stage):
            return run_stage(ctx, stage)

    def key(self, ctx: RunContext, stage: Stage) -> str:
        """See `stage_key`."""
        with _named(stage):
            return stage_key(ctx, stage)


@contextmanager
def _named(stage: Stage) -> Iterator[None]:
    """Put the stage's name in front of what goes wrong within it."""
    try:
        yield
    except Interrupted:
        raise
    except ReidError as error:
        said = str(error)
        if not said.startswith(f"stage '{stage.name}'"):
            error.args = (f"stage '{stage.name}': {said}",)
        raise


def run_stage(ctx: RunContext, stage: Stage) -> StageResult:
    """Make a stage, or read it where it was made before.

    Before the first stage of a run is trained, everything behind it is tried out: what cannot work
    is refused now and not after the training. In such a trial a stage is what it begins with.

    Args:
        ctx: the run; its sources, configuration and cache are the stage's surroundings.
        stage: what to make.

    Raises:
        ReidError: the stage cannot work; its name stands in front.
    """
    trainer, folder, key = prepare_stage(ctx, stage)
    assembly = trainer.assembly
    if ctx.trial:
        return StageResult(stage.name, key, folder, assembly.model.eval(), assembly)
    if (folder / "checkpoint.pt").exists():
        trainer.resume()
    if ctx.rank == 0:
        assembly.ctx.folder = folder
        progress = assembly.ctx.progress
        forget_after(folder, progress.epoch, progress.iteration)
    if assembly.ctx.progress.epoch == assembly.config.schedule.epochs:
        ctx.say(f"[{stage.name}] reused: {folder}")
    else:
        if ctx.try_out is not None:
            ctx.try_out()
        _train(ctx, stage, trainer, folder)
    if ctx.folder is not None:
        note = ctx.folder / "stages" / f"{stage.name.replace('/', '-')}.json"
        write_json(note, {"stage": stage.name, "key": key, "folder": str(folder)})
    return StageResult(stage.name, key, folder, assembly.model.eval(), assembly)


def stage_key(ctx: RunContext, stage: Stage) -> str:
    """Return what a stage's result depends on, as a short hash, without making it."""
    return prepare_stage(ctx, stage)[2]


def prepare_stage(ctx: RunContext, stage: Stage) -> tuple[Trainer, Path, str]:
    """Assemble a stage without training it; return its trainer, its folder and its key."""
    owner = stage.name.partition("/")[0]
    check_owned(owner, "stage", stage.name)
    source = _source(ctx, stage)
    resolved = resolve(
        _sections(ctx, stage),
        recipe={"run": {"recipe": f"stage {stage.name}"}},
        classes=_classes(stage),
    )
    dataset = DataSet(f"{stage.name} on {source.name}", source)
    assembly = assemble(
        resolved,
        cache=ctx.cache,
        say=lambda line: ctx.say(f"[{stage.name}] {line}"),
        dataset=dataset,
        rehearsal=ctx.rehearsal,
        stages=ctx.stages,
        trial=ctx.trial,
        try_out=ctx.try_out,
    )
    key = key_of(stage_contents(assembly, owner))
    folder = ctx.cache / "stages" / stage.name / key
    return Trainer(assembly, folder / "checkpoint.pt"), folder, key


def _classes(stage: Stage) -> dict[str, type[Plugin]]:
    """Return the plugins that a stage brings as classes."""
    classes = {}
    for name, cls in stage.plugins.items():
        if cls is None:
            continue
        if not (isinstance(cls, type) and issubclass(cls, Plugin)):
            raise PluginError(f"stage '{stage.name}': plugin '{name}' is no subclass of Plugin")
        classes[name] = cls
    return classes


def _train(ctx: RunContext, stage: Stage, trainer: Trainer, folder: Path) -> None:
    assembly = trainer.assembly
    images = len(assembly.ctx.main)
    ctx.say(f"[{stage.name}] training on {images} images of '{assembly.ctx.main.name}'")
    if ctx.rank == 0:
        write_text(folder / "config.toml", assembly.config.to_toml())
    trainer.emit(RunBegan(assembly.config, folder, {"stage": stage.name}))
    outcome = "failed"
    try:
        trainer.fit()
        outcome = "finished"
    finally:
        facts = {"seconds": round(trainer.seconds, 1), "images": trainer.images}
        trainer.emit(RunEnded(folder, outcome, facts))


def _source(ctx: RunContext, stage: Stage) -> Source:
    if stage.data is not None:
        source = load_source(stage.data, ctx.config.data.root, ctx.cache, ctx.providers)
    else:
        said = f"stage '{stage.name}' trains on the unknown source"
        check_known(stage.source, ctx.sources, said)
        source = ctx.sources[stage.source]
    if not stage.identities:
        # The pids themselves go, so that nothing in the stage can look at them.
        samples = tuple(replace(sample, pid=-1) for sample in source.samples)
        source = replace(source, samples=samples, identities=False)
    return replace(source, name="main")


def _sections(ctx: RunContext, stage: Stage) -> dict[str, Any]:
    run = ctx.config.model_dump(mode="json", include=set(INHERITED), exclude_none=True)
    sections: dict[str, Any] = {
        name: {**run.get(name, {}), **stage.settings.get(name, {})}
        for name in {*run, *stage.settings}
    }
    if not stage.identities and "sampler" not in stage.settings.get("data", {}):
        sections["data"]["sampler"] = "random"
    # Two things are the run's own matter: where it starts from, which a stage that inherited it
    # would never reach, and whom it holds out, who are gone from the source already.
    for section, key, plain in (("model", "start", "random"), ("data", "validation", 0.0)):
        sections[section][key] = stage.settings.get(section, {}).get(key, plain)
    if ctx.rehearsal:
        # Part of the key, so that no run takes a rehearsed stage for a trained one.
        once = {"epochs": 1, "iterations_per_epoch": 1, "warmup_epochs": 0}
        sections["schedule"] = {**sections.get("schedule", {}), **once}
    sections["run"] = {"plugins": list(stage.plugins), "seed": ctx.config.run.seed}
    return sections
