"""Tell what an assembled run consists of and what one step of it does."""

from __future__ import annotations

from collections.abc import Iterator

from reid_core.contract.step import Update
from reid_core.loop.assembly import Assembly
from reid_core.loop.trainer import Trainer
from reid_core.runs.describing import describe
from reid_core.runs.reach import Reach, follow_terms


def report_lines(assembly: Assembly) -> Iterator[str]:
    """Run the first steps and yield lines that describe the run.

    Who fills which slot, the order of branches, updates with their passes and the terms that they
    sum, for each term the passes that it is computed on and what it trains, parameters per group,
    parameters deployed.
    """
    ctx, model, facts = assembly.ctx, assembly.model, describe(assembly)
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
        yield f"  {name}: {'deployed' if embedding.at_test else 'training only'}"
    reaches = follow_terms(assembly)
    Trainer(assembly).train_epoch()
    yield "updates, in order:"
    for update in assembly.parts.plan.updates:
        # A term that is due in several of the steps is one term.
        terms = {one.term: one for one in reaches if one.update == update.name}
        yield from _lines_of(update, [terms[name] for name in sorted(terms)])
    yield "parameters per group:"
    for name, count in facts["groups"].items():
        yield f"  {name}: {count:,}"
    total, deployed = facts["parameters"], facts["parameters_deployed"]
    yield f"parameters: {total:,} in training, {deployed:,} deployed"


def _lines_of(update: Update, reaches: list[Reach]) -> Iterator[str]:
    """Yield an update's passes, then of each term where it is computed and what it trains."""
    period, offset = update.every
    when = "" if period == 1 else f", in steps {offset} modulo {period}"
    declared = [one.name for one in update.passes]
    generated = {name for one in reaches for name in one.passes} - set(declared)
    passes = [f"{one.name} on {one.source}" for one in update.passes]
    passes += [f"{name} on generated images" for name in sorted(generated)]
    yield f"  {update.name}{when}: passes {', '.join(passes)}"
    for one in reaches:
        # What reads detached vectors or images alone leaves no trace of its pass.
        read = ", ".join(one.passes or declared)
        trained = ", ".join(one.parts) or "nothing"
        yield f"    {one.term} x {one.weight:g} on {read}, trains {trained}"
