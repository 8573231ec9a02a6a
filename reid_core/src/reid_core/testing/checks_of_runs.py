"""Checks of what a plugin does to runs: inertness, order, company, resuming, numbers on CUDA."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from reid_core.errors import ConflictError
from reid_core.loop.state import trainable_state
from reid_core.loop.step import train_step
from reid_core.testing.elsewhere import ELSEWHERE, elsewhere
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.subject import Subject
from reid_core.testing.tiny import Recorder, tiny_assembly


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
        forward.train_epoch()
        backward.train_epoch()
        assert forward.trace == backward.trace, (
            f"{subject.name},{other} and {other},{subject.name} differ: "
            f"{forward.trace[-1]} and {backward.trace[-1]}"
        )
        after = trainable_state(backward.assembly.model)
        for name, tensor in trainable_state(forward.assembly.model).items():
            assert torch.equal(tensor, after[name]), f"'{name}' differs with {other} named first"


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
            trainer.train_epoch()
            assert trainer.trace, f"no step was done with '{other}'"
            check_finite(trainer, f"with '{other}'")


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


def check_finite(trainer: Recorder, where: str) -> None:
    """Refuse a loss that is not finite in any step."""
    for number, step in enumerate(trainer.trace):
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
    check_finite(trainer, "in bfloat16")
    for name, parameter in assembly.model.named_parameters():
        assert parameter.dtype == torch.float32, f"'{name}' is {parameter.dtype} after training"


def check_compile(subject: Subject, device: str = "cuda") -> None:
    """It trains with a compiled encoder, and everything keeps the name under which it is stored."""
    engine = {"device": device, "precision": "fp32"}
    trainer = Recorder(subject.assemble(engine={**engine, "compile": True}))
    trainer.fit()
    check_finite(trainer, "with a compiled encoder")
    theirs = set(trainer.assembly.model.state_dict())
    ours = set(subject.assemble(engine=engine).model.state_dict())
    assert theirs == ours, f"compiled, entries are called {sorted(theirs - ours)[:3]}"


def check_device(subject: Subject) -> None:
    """On another device than the CPU it computes the same, and no step waits for the device."""
    # Fused attention sums in another order on every device: the same sums are compared.
    with sdpa_kernel(SDPBackend.MATH):
        here, _ = _epoch_on(subject, "cpu", [])
    with elsewhere() as waits, sdpa_kernel(SDPBackend.MATH):
        there, waited = _epoch_on(subject, ELSEWHERE.type, waits)
    assert len(waited) <= subject.waits * len(there), f"a step waits for the device: {waited[-1]}"
    for step, (ours, theirs) in enumerate(zip(here, there, strict=True)):
        for name, value in ours.items():
            assert theirs[name] == value, (
                f"step {step}: {name} is {value} on the CPU and {theirs[name]} on another device"
            )


def _epoch_on(
    subject: Subject, device: str, waits: list[str]
) -> tuple[list[dict[str, float]], list[str]]:
    """Train an epoch; return every step's losses, and which of the waits were the steps'."""
    trainer = Recorder(subject.assemble(engine={"device": device}))
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
