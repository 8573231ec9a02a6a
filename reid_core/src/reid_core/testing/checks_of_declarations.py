"""Checks of what a plugin declares: names, slots, parameters, outputs, and what is deployed."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import torch

from reid_core.contract.model import CLEAN_IMAGE, Tap
from reid_core.contract.samples import Source
from reid_core.data.clips import frames_of
from reid_core.data.decoding import read_field
from reid_core.errors import ConflictError
from reid_core.machine.devices import placed
from reid_core.model.graph import tap_of
from reid_core.model.modes import evaluating
from reid_core.model.stored import load_embedder
from reid_core.plugins.discovery import installed, load_class
from reid_core.runs.manifests import manifests_of
from reid_core.runs.reach import follow_terms
from reid_core.testing.probe_plugins import RIVAL
from reid_core.testing.subject import Subject
from reid_core.testing.tiny import Recorder


def check_light_import(subject: Subject) -> None:
    """Without a manifest its module is imported to list it, and then imports no torch."""
    record = installed().get(subject.name)
    if record is not None and record.contents is not None:
        subject.skip("its manifest says what it consists of: nothing is imported to list it")
        return
    cls = subject.classes.get(subject.name) or load_class(subject.name)
    module = record.target.partition(":")[0] if record else cls.__module__
    call = [sys.executable, "-c", _WATCHED, module]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode != _HEAVY, (
        f"importing {module} imports torch, {done.stderr.strip()}; `reid plugins manifest "
        "DISTRIBUTION` writes down what is listed, so that nothing need be imported"
    )
    assert done.returncode == 0, f"importing {module} fails: {done.stderr}"


_HEAVY = 77
_WATCHED = f"""
import importlib, os, sys, traceback

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            for place in [f for f in traceback.extract_stack() if f.filename[0] != "<"][-1:]:
                print("in", place.filename, "line", place.lineno, file=sys.stderr, flush=True)
            os._exit({_HEAVY})

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""
"""Import a module, and stop where torch would be imported."""


def check_manifest(subject: Subject) -> None:
    """Where its package has a manifest, that says what it consists of."""
    record = installed().get(subject.name)
    if record is None:
        subject.skip("it is a class of no distribution")
        return
    there = {
        path: made for path, made in manifests_of(record.distribution).items() if path.is_file()
    }
    if not there:
        subject.skip("its package has none")
    for path, made in there.items():
        assert path.read_text("utf-8") == made.text(), (
            f"{path} is not true: write it anew with `reid plugins manifest {record.distribution}`"
        )


def check_claims(subject: Subject) -> None:
    """It fills the slots that it claims, deploys only as their owner, and yields to a choice."""
    assembly = subject.untouched
    slots, plugin = assembly.ctx.slots, assembly.plugins[subject.name]
    for slot in plugin.claims:
        assert slots[slot] == subject.name, f"it claims '{slot}', which '{slots[slot]}' fills"
    owner = slots["embedding"]
    for name in assembly.embedder().heads:
        assert name.partition("/")[0] == owner, (
            f"'{name}' describes people at test, and the slot 'embedding' is '{owner}'s; claim it, "
            "or declare the embedding with at_test=False"
        )
    if "embedding" in plugin.claims:
        _check_loss_of_slot(subject)


def _check_loss_of_slot(subject: Subject) -> None:
    (rival,) = RIVAL
    conflict = ""
    try:
        assembly = subject.assemble(rival, own={"embedding": rival})
    except ConflictError as error:
        conflict = str(error)
    if conflict:
        named = f"'{subject.name}'" in conflict and f"'{rival}'" in conflict
        assert named, f"without its slot it refuses without naming both plugins: {conflict}"
    else:
        deployed = list(assembly.embedder().heads)
        assert deployed == [f"{rival}/global"], (
            f"the user gave the slot 'embedding' to '{rival}', and deployed are {deployed}; ask "
            "ctx.owns(self.name, 'embedding')"
        )


def check_names(subject: Subject) -> None:
    """Every branch, output, embedding, group, update and term is in its owner's space."""
    trainer = subject.alone
    assembly = trainer.assembly
    known = (*assembly.plugins, "encoder")
    names = [*assembly.model.declarations, *assembly.parts.plan.groups, *trainer.metrics.seen]
    names += [out for b in assembly.model.declarations.values() for out in b.writes]
    for name in names:
        assert name.partition("/")[0] in known, f"'{name}' belongs to nobody ({known})"


def check_declared(subject: Subject) -> None:
    """What is declared is what is there: outputs keep their shape in training, sources are used."""
    assembly = subject.assemble()
    model, plan = assembly.model, assembly.parts.plan
    used = {one.source for update in plan.updates for one in update.passes}
    for request in assembly.plugins[subject.name].sources:
        assert request.name in used, f"no pass runs on the source '{request.name}' that it asks for"
    trainer = Recorder(assembly)
    model.train()
    trainer.begin_epoch()
    streams = trainer.streams(1)
    batches = {name: assembly.prepare(next(streams[name]), assembly.ctx.device) for name in used}
    for stream in streams.values():
        stream.close()
    for name, batch in batches.items():
        fields = {**batch.readable, CLEAN_IMAGE: batch.image}
        arguments = (batch.image, fields, name, ("*",))
        with torch.no_grad():
            training = model.run(*arguments, frames=batch.frames)
        with evaluating(model):
            dry = model.run(*arguments, frames=batch.frames)
        for output in training:
            ours, theirs = (
                tap_of(output, o[output], batch.image.shape[2]) for o in (training, dry)
            )
            assert ours == theirs, (
                f"output '{output}' is {_shape(ours)} in training, and {_shape(theirs)} when it "
                "was declared to its readers"
            )


def _shape(tap: Tap) -> str:
    return f"{tap.channels} channels at stride {tap.stride}"


def check_gradients(subject: Subject) -> None:
    """Every trainable parameter is in one group and gets a gradient in some update."""
    assembly = subject.assemble()
    model, plan = assembly.model, assembly.parts.plan
    grouped = [name for group in plan.groups.values() for name in group.parameters]
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped)), "a parameter is in two groups"
    assert set(grouped) == trainable, f"not in a group: {sorted(trainable - set(grouped))[:3]}"
    reaches = (reach for reach in follow_terms(assembly) if reach.weight)
    reached = {name for reach in reaches for name in reach.parameters}
    idle = tuple(
        f"branches.{branch.name}.{prefix}"
        for branch in model.declarations.values()
        for prefix in branch.may_be_idle
    )
    missed = sorted(n for n in trainable - reached if not n.startswith(idle or ("\0",)))
    assert not missed, f"no update gives a gradient to {', '.join(missed[:3])} ({len(missed)})"


def check_pickling(subject: Subject) -> None:
    """Samples with their fields can be pickled, so that other processes can load them."""
    assembly = subject.untouched
    dataset = assembly.ctx.dataset
    tested = Source("query", dataset.query[:1], dataset.query_fields)
    for source in (*assembly.ctx.sources.values(), tested):
        samples = source.samples[:2]
        try:
            loaded, specs = pickle.loads(pickle.dumps((samples, dict(source.fields))))
        except Exception as error:
            raise AssertionError(
                f"samples of the source '{source.name}' cannot be pickled ({error}); a field is a "
                "file, a number or an array"
            ) from None
        for sample, again in zip(frames_of(samples, specs), frames_of(loaded, specs), strict=True):
            for name, spec in source.fields.items():
                ours, theirs = (read_field(one.fields[name], spec) for one in (sample, again))
                assert np.array_equal(ours, theirs), (
                    f"field '{name}' of '{source.name}' has changed"
                )
        assert specs == dict(source.fields)


def check_export(subject: Subject) -> None:
    """The exported embedder computes the same, and holds nothing that only training needs."""
    assembly = subject.alone.assembly
    live = assembly.embedder().eval()
    path = subject.folder / "embedder.safetensors"
    live.save(path)
    # Convolutions round differently in another memory format: compare in the same one.
    stored = load_embedder(path)
    placed(stored, assembly.config.engine)
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
