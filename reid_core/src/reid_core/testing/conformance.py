"""The conformance suite: what must be true of every plugin, as tests for its own suite.

One line in a plugin's tests, ``test_conforms = conformance_suite("san")``, runs all of it on the
toy data set. Every check is a function of a `Subject` and raises an `AssertionError` that says
what was seen; it is shown to fail on a probe plugin broken on purpose.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reid_core.engine.assembly import Assembly
from reid_core.engine.device import memory_format_of
from reid_core.engine.state import trainable_state
from reid_core.errors import ConflictError
from reid_core.model.embedder import load_embedder
from reid_core.plugins.discovery import installed, load_class
from reid_core.plugins.plugin import Plugin
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly


@dataclass(frozen=True)
class Subject:
    """A plugin under test.

    Args:
        name: the plugin.
        cache, folder: a cache folder and an empty folder for files.
        settings: configuration over the tiny run's: sections, and ``plugins.<name>``.
        classes: plugin classes that need no entry point.
    """

    name: str
    cache: Path
    folder: Path
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, type[Plugin]] = field(default_factory=dict)

    def assemble(
        self, *others: str, reverse: bool = False, **sections: Mapping[str, Any]
    ) -> Assembly:
        """Assemble a tiny run of the plugin and others, in this order or the reverse one."""
        names = (*others, self.name) if reverse else (self.name, *others)
        classes = {**PROBES, **self.classes}
        return tiny_assembly(names, self.settings, sections, cache=self.cache, classes=classes)

    @property
    def has_own_role(self) -> bool:
        """Whether it claims a slot or makes labels, and so cannot be inert."""
        plugin = self.assemble().plugins[self.name]
        return bool(plugin.claims) or hasattr(plugin, "reid_pseudo_labels")


def check_light_import(subject: Subject) -> None:
    """The entry point's module imports without torch, so that discovery stays fast."""
    record = installed().get(subject.name)
    cls = subject.classes.get(subject.name) or load_class(subject.name)
    module = record.target.partition(":")[0] if record else cls.__module__
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, f"importing {module} imports torch (or fails): {done.stderr!r}"


def check_names(subject: Subject) -> None:
    """Every branch, output, embedding, group, update and term is in its owner's space."""
    assembly = subject.assemble()
    trainer = Recorder(assembly)
    trainer.train_epoch()
    known = (*assembly.plugins, "encoder")
    names = [*assembly.model.declarations, *assembly.parts.plan.groups, *trainer.metrics.seen]
    names += [out for b in assembly.model.declarations.values() for out in b.writes]
    for name in names:
        assert name.partition("/")[0] in known, f"'{name}' belongs to nobody ({known})"


def check_gradients(subject: Subject) -> None:
    """Every trainable parameter is in one group and gets a gradient in some update."""
    assembly = subject.assemble()
    model, plan = assembly.model, assembly.parts.plan
    grouped = [name for group in plan.groups.values() for name in group.parameters]
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped)), "a parameter is in two groups"
    assert set(grouped) == trainable, f"not in a group: {sorted(trainable - set(grouped))[:3]}"
    reached = _reached(assembly)
    idle = tuple(
        f"branches.{branch.name}.{prefix}"
        for branch in model.declarations.values()
        for prefix in branch.may_be_idle
    )
    missed = sorted(n for n in trainable - reached if not n.startswith(idle or ("\0",)))
    assert not missed, f"no update gives a gradient to {', '.join(missed[:3])} ({len(missed)})"


def _reached(assembly: Assembly) -> set[str]:
    """Return the parameters that an update which steps them gives a gradient."""
    trainer = Recorder(assembly)
    parts, reached = assembly.parts, set()
    assembly.model.train()
    trainer.begin_epoch()
    period = max(update.every[0] for update in parts.plan.updates)
    streams = trainer.streams(period)
    for _ in range(period):
        batches = trainer.batches(streams)
        for update in parts.plan.due(assembly.ctx.progress.iteration):
            parts.optimisers.clear()
            loss, _ = parts.forward(update, batches)
            loss.backward()
            for name in (*update.groups, *update.shares):
                for parameter in parts.plan.groups[name].parameters:
                    if assembly.model.get_parameter(parameter).grad is not None:
                        reached.add(parameter)
        assembly.ctx.progress.iteration += 1
    for stream in streams.values():
        stream.close()
    return reached


def check_inert(subject: Subject) -> None:
    """With all its weights 0 a plugin without slot or label leaves the baseline's trace alone."""
    if subject.has_own_role:
        return
    probe = Recorder(subject.assemble())
    own = probe.assembly.config.model.backbone
    if own in {offer.name for _, offer in probe.assembly.calls.backbones()}:
        return  # without the plugin there is no such encoder to compare with
    probe.train_epoch()
    if max(probe.rows) > probe.assembly.config.data.batch_size:
        return  # images that join the batch are rows of the baseline's own losses
    weights = {name: 0.0 for name in probe.metrics.seen if not name.startswith("core/")}
    plain = {k: v for k, v in subject.settings.items() if k not in ("plugins", "own", "labels")}
    baseline = Recorder(tiny_assembly((), plain, _without_defaults(probe), cache=subject.cache))
    silent = Recorder(subject.assemble(loss_weights=weights))
    baseline.fit()
    silent.fit()
    for step, (ours, theirs) in enumerate(zip(baseline.trace, silent.trace, strict=True)):
        for name, value in ours.items():
            assert theirs[name] == value, (
                f"step {step}: {name} is {value} without the plugin and {theirs[name]} with all "
                "its weights 0"
            )
    after = trainable_state(silent.assembly.model)
    for name, tensor in trainable_state(baseline.assembly.model).items():
        assert torch.equal(tensor, after[name]), f"'{name}' differs although all weights are 0"


def _without_defaults(trainer: Recorder) -> dict[str, dict[str, Any]]:
    """Return the configuration that the plugin's defaults brought, for the run without it."""
    dumped = trainer.assembly.config.model_dump(mode="json")
    return {
        name: dumped[name] for name in ("data", "augment", "model", "identity", "optim", "schedule")
    }


def check_order(subject: Subject) -> None:
    """The order in which plugins are named changes no loss by a single bit."""
    for other in PROBES:
        if other == subject.name:
            continue
        try:
            forward = Recorder(subject.assemble(other))
        except ConflictError:
            continue
        backward = Recorder(subject.assemble(other, reverse=True))
        forward.fit()
        backward.fit()
        assert forward.trace == backward.trace, (
            f"{subject.name},{other} and {other},{subject.name} differ: "
            f"{forward.trace[-1]} and {backward.trace[-1]}"
        )


def check_composition(subject: Subject) -> None:
    """With every probe it trains with finite losses, or conflicts naming both plugins."""
    for other in PROBES:
        if other == subject.name:
            continue
        conflict = ""
        try:
            trainer = Recorder(subject.assemble(other))
        except ConflictError as error:
            conflict = str(error)
        if conflict:
            named = [name for name in (other, subject.name) if f"'{name}'" in conflict]
            assert len(named) == 2, f"the conflict names {named}, not both plugins: {conflict}"
        else:
            trainer.fit()
            assert trainer.trace, f"no step was done with '{other}'"


def check_resume(subject: Subject) -> None:
    """Saved, rebuilt with plugins reversed and resumed, it equals the uninterrupted run."""
    checkpoint = subject.folder / "resume.pt"
    whole = Recorder(subject.assemble("pairs"))
    whole.fit()
    first = Recorder(subject.assemble("pairs"), checkpoint)
    first.train_epoch()
    first.assembly.ctx.progress.epoch, first.assembly.ctx.progress.step = 1, 0
    first.save()
    second = Recorder(subject.assemble("pairs", reverse=True), checkpoint)
    second.resume()
    second.fit()
    rest = whole.trace[-len(second.trace) :]
    assert second.trace == rest, f"resumed {second.trace[-1]}, uninterrupted {rest[-1]}"
    resumed = trainable_state(second.assembly.model)
    for name, tensor in trainable_state(whole.assembly.model).items():
        assert torch.equal(tensor, resumed[name]), f"'{name}' differs after resuming"


def check_export(subject: Subject) -> None:
    """The exported embedder computes the same, and holds nothing that only training needs."""
    assembly = subject.assemble()
    trainer = Recorder(assembly)
    trainer.fit()
    live = assembly.embedder().eval()
    path = subject.folder / "embedder.safetensors"
    live.save(path)
    # Convolutions round differently in another memory format: compare in the same one.
    stored = load_embedder(path)
    stored.to(memory_format=memory_format_of(assembly.config.engine))  # type: ignore[call-overload]
    images = torch.rand(3, 3, *stored.size)
    with torch.inference_mode():
        assert torch.equal(live(images), stored(images)), "the stored embedder computes otherwise"
    deployed = {f"branches.{name}." for name in stored.branches}
    deployed |= {f"heads.{name}." for name in stored.heads} | {"encoder."}
    for name in stored.state_dict():
        assert name.startswith(tuple(deployed)), f"'{name}' is stored but not deployed"
    training_only = set(assembly.model.declarations) - set(stored.branches)
    described = path.with_suffix(".json").read_text("utf-8")
    for name in training_only:
        assert f'"{name}"' not in described, f"branch '{name}' is described but not deployed"


CHECKS: dict[str, Callable[[Subject], None]] = {
    "light_import": check_light_import,
    "names": check_names,
    "gradients": check_gradients,
    "inert": check_inert,
    "order": check_order,
    "composition": check_composition,
    "resume": check_resume,
    "export": check_export,
}
"""All checks by name."""


def conformance_suite(
    name: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    classes: Mapping[str, type[Plugin]] | None = None,
) -> Callable[..., None]:
    """Return a test function that runs every check on a plugin.

    Assign it to a name that starts with ``test_``; it takes the fixtures ``reid_cache`` and
    ``tmp_path`` and is parametrised by check.

    Args:
        name: the plugin, installed or in ``classes``.
        settings: configuration that the plugin needs on tiny data, by section; its own settings
            under ``plugins``: ``{"plugins": {"san": {"weight": 0.5}}}``.
        classes: plugin classes by name that need no entry point.
    """
    import pytest

    @pytest.mark.parametrize("check", list(CHECKS))
    def test_conforms(check: str, reid_cache: Path, tmp_path: Path) -> None:
        subject = Subject(name, reid_cache, tmp_path, settings or {}, classes or {})
        CHECKS[check](subject)

    return test_conforms
