"""Follow the gradient of every loss term: on which passes it is computed, and what it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reid_core.contract.step import LossTerm, weight_at
from reid_core.contract.views import PassView
from reid_core.loop.assembly import Assembly
from reid_core.loop.forward import UpdateForward
from reid_core.loop.trainer import Trainer


@dataclass(frozen=True)
class Reach:
    """How far a loss term of an update reaches.

    Args:
        update, term: whose it is.
        weight: its factor in the update's loss, the user's where there is one.
        passes: the passes from whose outputs it is computed with a gradient.
        parameters: the parameters that it gives a gradient and that its update steps.
        parts: the parts of the model to which they belong: ``encoder``, branches, necks, criteria.
    """

    update: str
    term: str
    weight: float
    passes: tuple[str, ...]
    parameters: frozenset[str]
    parts: tuple[str, ...]


def follow_terms(assembly: Assembly) -> list[Reach]:
    """Return the reach of all loss terms in a run's first steps, as many as its updates' period.

    Gradients are taken term by term, at the weights with which the run starts; nothing is stepped,
    and what batch normalisation moves is put back.

    Args:
        assembly: of one process, before its training.
    """
    trainer, parts, ctx = Trainer(assembly), assembly.parts, assembly.ctx
    before = {name: value.clone() for name, value in assembly.model.state_dict().items()}
    forward = cast(UpdateForward, parts.forward)
    assembly.model.train()
    trainer.begin_epoch()
    period = max(update.every[0] for update in parts.plan.updates)
    streams = trainer.streams(period)
    found = []
    for _ in range(period):
        batches = trainer.batches(streams)
        for update in parts.plan.due(ctx.progress.iteration):
            groups = (parts.plan.groups[name] for name in (*update.groups, *update.shares))
            stepped = sorted({name for group in groups for name in group.parameters})
            step, terms = forward.terms(update, batches)
            for term in terms.values():
                found.append(_reach(assembly, update.name, term, stepped, step.passes.values()))
        ctx.progress.iteration += 1
    for stream in streams.values():
        stream.close()
    ctx.progress.iteration = 0
    assembly.model.load_state_dict(before)
    return found


def _reach(
    assembly: Assembly, update: str, term: LossTerm, stepped: list[str], views: Iterable[PassView]
) -> Reach:
    model, name = assembly.model, term.name
    iteration = assembly.ctx.progress.iteration
    weight = assembly.config.loss_weights.get(name, weight_at(term.weight, iteration))
    if not term.value.requires_grad:
        return Reach(update, name, weight, (), frozenset(), ())
    shown = [(view.name, tensor) for view in views for tensor in _outputs(view)]
    inputs = [*(model.get_parameter(one) for one in stepped), *(tensor for _, tensor in shown)]
    gradients = torch.autograd.grad(term.value, inputs, retain_graph=True, allow_unused=True)
    reached = [gradient is not None for gradient in gradients]
    trained = {one for one, there in zip(stepped, reached, strict=False) if there}
    seen = {view for (view, _), there in zip(shown, reached[len(stepped) :], strict=True) if there}
    parts = {part for part, names in model.parts().items() if trained.intersection(names)}
    return Reach(
        update, name, weight, tuple(sorted(seen)), frozenset(trained), tuple(sorted(parts))
    )


def _outputs(view: PassView) -> Iterator[Tensor]:
    """Yield what a pass computed with a graph."""
    vectors = (vector for e in view.embedded.values() for vector in (e.raw, e.neck, e.unit))
    for tensor in (*view.feats.values(), *vectors, *view.logits.values()):
        if tensor.requires_grad:
            yield tensor
