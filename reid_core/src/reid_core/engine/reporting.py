"""Tell what an assembled run consists of and what one step of it does."""

from __future__ import annotations

from collections.abc import Iterator

from reid_core.engine.assembly import Assembly
from reid_core.engine.trainer import Trainer


def report_lines(assembly: Assembly) -> Iterator[str]:
    """Run one step and yield lines that describe the run.

    Who fills which slot, the order of branches, updates with their passes and the terms that they
    sum, parameters per group, parameters deployed.
    """
    ctx, model, plan = assembly.ctx, assembly.model, assembly.parts.plan
    yield "slots:"
    for slot, owner in ctx.slots.items():
        yield f"  {slot}: {owner}"
    yield "sources:"
    for name, source in ctx.sources.items():
        fields = ", ".join(assembly.loaders[name].specs) or "no fields"
        yield f"  {name}: {len(source)} images, {fields}"
    yield "branches, in order:"
    for name, branch in model.declarations.items():
        reads = ", ".join(branch.reads) or "nothing"
        writes = ", ".join(branch.writes) or "nothing"
        yield f"  {name}: {reads} -> {writes}{' (frozen)' if branch.frozen else ''}"
    yield "embeddings:"
    for name, embedding in model.embeddings.items():
        role = "deployed" if embedding.at_test else "training only"
        yield f"  {name}: {role}"
    reports = _reports_of_one_epoch(assembly)
    yield "updates, in order:"
    for update in plan.updates:
        period, offset = update.every
        when = "" if period == 1 else f", in steps {offset} modulo {period}"
        passes = ", ".join(f"{one.name} on {one.source}" for one in update.passes)
        yield f"  {update.name}{when}: passes {passes}"
        for term, weight in sorted(reports.get(update.name, {}).items()):
            yield f"    {term} x {weight:g}"
    yield "parameters per group:"
    for name, group in plan.groups.items():
        count = sum(model.get_parameter(parameter).numel() for parameter in group.parameters)
        yield f"  {name}: {count:,}"
    deployed = sum(parameter.numel() for parameter in assembly.embedder().parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    yield f"parameters: {total:,} in training, {deployed:,} deployed"


def _reports_of_one_epoch(assembly: Assembly) -> dict[str, dict[str, float]]:
    """Return weights of terms by update, from the first steps of the run."""
    trainer = Trainer(assembly)
    assembly.model.train()
    trainer.train_epoch()
    return trainer.metrics.terms_by_update
