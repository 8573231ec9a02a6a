"""Checks of what a plugin does to runs: inertness, order, company, resuming, numbers on CUDA."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reid_core.loop.state import trainable_state
from reid_core.loop.step import train_step
from reid_core.testing.elsewhere import ELSEWHERE, elsewhere
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.subject import Subject
from reid_core.testing.tiny import Recorder, tiny_assembly


def check_inert(subject: Subject) -> None:
    """With all its weights 0 a plugin without slot or label leaves the baseline's trace alone."""
    if subject.own_role:
        subject.skip(f"{subject.own_role}, so the run without it is another one")
        return
    probe = subject.alone
    config = probe.assembly.config
    if config.model.backbone in {
        offer.name for _, offer in probe.assembly.calls.offered("backbones")
    }:
        subject.skip(f"without it there is no encoder '{config.model.backbone}' to compare with")
        return
    if max(probe.rows) > config.data.batch_size:
        subject.skip("images that join the batch are rows of the baseline's own losses")
        return
    silence = {name: 0.0 for name in probe.metrics.seen if not name.startswith("core/")}
    trace, state = _baseline(subject, probe)
    silent = Recorder(subject.assemble(loss_weights=silence))
    # Terms that begin late have weights before they are seen.
    silent.metrics.seen |= set(silence)
    silent.fit()
    for step, (ours, theirs) in enumerate(zip(trace, silent.trace, strict=True)):
        for name, value in ours.items():
            assert theirs[name] == value, (
                f"step {step}: {name} is {value} without the plugin and {theirs[name]} with all "
                "its weights 0"
            )
    after = trainable_state(silent.assembly.model)
    for name, tensor in state.items():
        assert torch.equal(tensor, after[name]), f"'{name}' differs although all weights are 0"


Run = tuple[list[dict[str, float]], dict[str, Tensor]]

_BASELINES: dict[str, Run] = {}
"""The last run without a plugin by its configuration: most plugins are compared with the same."""


def _baseline(subject: Subject, probe: Recorder) -> Run:
    """Return trace and state of the run without the plugin, with what its defaults brought."""
    dumped = probe.assembly.config.model_dump(mode="json")
    inherited = ("data", "augment", "model", "identity", "optim", "schedule")
    plain = {k: v for k, v in subject.settings.items() if k not in ("plugins", "own", "labels")}
    layers = plain, {name: dumped[name] for name in inherited}
    key = json.dumps([str(subject.cache), *layers], sort_keys=True, default=str)
    if key not in _BASELINES:
        baseline = Recorder(tiny_assembly((), *layers, cache=subject.cache))
        baseline.fit()
        _BASELINES.clear()
        _BASELINES[key] = baseline.trace, trainable_state(baseline.assembly.model)
    return _BASELINES[key]


def check_order(subject: Subject) -> None:
    """The order in which plugins are named changes no loss by a single bit."""
    for other in _probes(subject):
        forward = subject.beside(other)
        if forward.conflict:
            subject.skip("the two do not go together", f"beside '{other}'")
            continue
        backward = Recorder(subject.assemble(other, reverse=True))
        backward.train_epoch()
        assert forward.trace == backward.trace, (
            f"{subject.name},{other} and {other},{subject.name} differ: "
            f"{forward.trace[-1]} and {backward.trace[-1]}"
        )
        after = trainable_state(backward.assembly.model)
        for name, tensor in forward.state.items():
            assert torch.equal(tensor, after[name]), f"'{name}' differs with {other} named first"


def check_composition(subject: Subject) -> None:
    """With every probe it trains with finite losses, or conflicts naming both plugins."""
    for other in _probes(subject):
        found = subject.beside(other)
        if found.conflict:
            named = [name for name in (other, subject.name) if f"'{name}'" in found.conflict]
            assert len(named) == 2, (
                f"the conflict names {named}, not both plugins: {found.conflict}"
            )
        else:
            assert found.trace, f"no step was done with '{other}'"
            check_finite(found.trace, f"with '{other}'")


def _probes(subject: Subject) -> list[str]:
    return [name for name in PROBES if name != subject.name]


def check_resume(subject: Subject) -> None:
    """Saved, rebuilt with plugins reversed and resumed, it equals the uninterrupted run."""
    checkpoint = subject.folder / "resume.pt"
    others: tuple[str, ...] = ("pairs",)
    if subject.beside("pairs").conflict:
        subject.skip("the two do not go together", "beside 'pairs'")
        others = ()
    whole = Recorder(subject.assemble(*others), checkpoint)
    whole.train_epoch()
    whole.assembly.ctx.progress.epoch, whole.assembly.ctx.progress.step = 1, 0
    whole.save()
    whole.checkpoint = None
    whole.fit()
    second = Recorder(subject.assemble(*others, reverse=True), checkpoint)
    second.resume()
    second.checkpoint = None
    second.fit()
    rest = whole.trace[-len(second.trace) :]
    assert second.trace == rest, f"resumed {second.trace[-1]}, uninterrupted {rest[-1]}"
    resumed = trainable_state(second.assembly.model)
    for name, tensor in trainable_state(whole.assembly.model).items():
        assert torch.equal(tensor, resumed[name]), f"'{name}' differs after resuming"


def check_finite(trace: Sequence[Mapping[str, float]], where: str) -> None:
    """Refuse a loss that is not finite in any step."""
    for number, step in enumerate(trace):
        for name, value in step.items():
            assert math.isfinite(value), f"{name} is {value} in step {number} {where}"


def check_bf16(subject: Subject, device: str = "cuda") -> None:
    """It trains in bfloat16: losses are computed in float32, and parameters stay float32."""
    trainer = Recorder(subject.assemble(engine={"device": device, "precision": "bf16"}))
    assembly, progress = trainer.assembly, trainer.assembly.ctx.progress
    forward: Any = assembly.parts.forward
    trainer.begin_epoch()
    streams = trainer.streams(1)
    batches = trainer.batches(streams)
    for update in assembly.parts.plan.due(progress.iteration):
        with assembly.parts.autocast():
            _, terms = forward.terms(update, batches)
        for name, term in terms.items():
            kind = term.value.dtype
            assert kind == torch.float32, f"loss term '{name}' is {kind}; compute it in float32"
    for stream in streams.values():
        stream.close()
    trainer.fit()
    check_finite(trainer.trace, "in bfloat16")
    for name, parameter in assembly.model.named_parameters():
        assert parameter.dtype == torch.float32, f"'{name}' is {parameter.dtype} after training"


def check_compile(subject: Subject, device: str = "cuda") -> None:
    """It trains with a compiled encoder, and everything keeps the name under which it is stored."""
    engine = {"device": device, "precision": "fp32"}
    trainer = Recorder(subject.assemble(engine={**engine, "compile": True}))
    trainer.fit()
    check_finite(trainer.trace, "with a compiled encoder")
    theirs = set(trainer.assembly.model.state_dict())
    ours = set(subject.assemble(engine=engine).model.state_dict())
    assert theirs == ours, f"compiled, entries are called {sorted(theirs - ours)[:3]}"


def check_device(subject: Subject) -> None:
    """On another device than the CPU it computes the same, and no step waits for the device."""
    with elsewhere() as waits, sdpa_kernel(SDPBackend.MATH):
        there, waited = _epoch_elsewhere(subject, waits)
    here = subject.alone.trace[: len(there)]
    assert len(waited) <= subject.waits * len(there), f"a step waits for the device: {waited[-1]}"
    for step, (ours, theirs) in enumerate(zip(here, there, strict=True)):
        for name, value in ours.items():
            assert theirs[name] == value, (
                f"step {step}: {name} is {value} on the CPU and {theirs[name]} on another device"
            )


def _epoch_elsewhere(
    subject: Subject, waits: list[str]
) -> tuple[list[dict[str, float]], list[str]]:
    """Train an epoch; return every step's losses, and which of the waits were the steps'."""
    trainer = Recorder(subject.assemble(engine={"device": ELSEWHERE.type}))
    assembly = trainer.assembly
    trainer.begin_epoch()
    steps = assembly.steps_per_epoch(0)
    streams = trainer.streams(steps)
    reports = []
    before = len(waits)
    for step in range(steps):
        batches = trainer.batches(streams)
        reports.append(train_step(assembly.parts, batches, step / steps))
        trainer.advance(assembly.config.data.batch_size)
    waited = waits[before:]
    for stream in streams.values():
        stream.close()
    for report in reports:
        trainer.metrics.add(report)
    return trainer.trace, waited
