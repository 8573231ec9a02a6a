"""The forward of one update: all its passes, branches, criteria and losses, as one module.

One module, so that several ranks need one DistributedDataParallel with one forward and one
backward per update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.criterion import IdentityOutput
from reid_core.contract.model import CLEAN_IMAGE, Embedding
from reid_core.contract.names import check_owned
from reid_core.contract.step import LossTerm, Pass, Synthetic, Update, weight_at
from reid_core.contract.views import Embedded, PassView, StepView, UpdateReport, matches
from reid_core.errors import PluginError
from reid_core.loop.batchnorm import pass_mode
from reid_core.loop.plan import StepPlan
from reid_core.loop.synthesis import check_synthetic, joined, labelled
from reid_core.machine.ranks import gather
from reid_core.model.graph import ReidModel, gathered
from reid_core.plugins.calls import HookCalls, scopes_of


@dataclass(frozen=True)
class IdentityTerm:
    """A term of an identity criterion: whose, its value, and its factor, the pass's included."""

    embedding: str
    value: Tensor
    factor: float = 1.0


class UpdateForward(nn.Module):
    """Compute the loss of an update.

    Args:
        model: the training model.
        ctx: the run.
        calls: the run's hooks.
        plan: groups and updates.
    """

    def __init__(self, model: ReidModel, ctx: RunContext, calls: HookCalls, plan: StepPlan) -> None:
        super().__init__()
        self.model = model
        self._ctx, self._calls, self._plan = ctx, calls, plan
        self._shown: dict[str, PassView] = {}

    def forward(self, update: Update, batches: Mapping[str, Batch]) -> tuple[Tensor, UpdateReport]:
        """Return the loss with its graph, and a report without.

        Args:
            update: what to compute.
            batches: a prepared batch of every source that the update's passes name.
        """
        step, terms = self.terms(update, batches)
        return self._summed(terms, step.passes[update.passes[0].name])

    def terms(
        self, update: Update, batches: Mapping[str, Batch]
    ) -> tuple[StepView, dict[str, LossTerm]]:
        """Return an update's passes and its loss terms by name, with their graphs.

        Args:
            update: what to compute.
            batches: a prepared batch of every source that the update's passes name.
        """
        if any(one.of is not None for one in update.passes):
            # It stands on what earlier updates of the step computed.
            shown = {one.name: self._shown[str(one.of)] for one in update.passes}
            again = {name: replace(view, name=name, shared=False) for name, view in shown.items()}
            return self._seen(update, again, {})
        ctx, calls, first = self._ctx, self._calls, update.passes[0]
        batch = batches[first.source]
        views: dict[str, PassView] = {}
        identity: dict[str, IdentityTerm] = {}
        generated = calls.data_synthesis(ctx, batch, None, update.name)
        longer, soft = joined(batch, self._checked(generated, batch, before=True))
        for one in update.passes:
            rows = longer if one is first else batches[one.source]
            views[one.name], terms = self._pass(one, rows, soft if one is first else None)
            identity |= terms
        generated = calls.data_synthesis(ctx, batch, dict(views), update.name)
        for synthetic in self._checked(generated, batch, before=False):
            views[synthetic.name], terms = self._generated(synthetic, batch)
            identity |= terms
        for name in self._plan.shown_again & views.keys():
            self._shown[name] = _detached(views[name])
        return self._seen(update, views, identity)

    def _seen(
        self, update: Update, views: Mapping[str, PassView], identity: Mapping[str, IdentityTerm]
    ) -> tuple[StepView, dict[str, LossTerm]]:
        progress, without = self._ctx.progress, self._plan.without(update)
        step = StepView(update, progress.epoch, progress.iteration, views, without)
        return step, self._terms(step, identity)

    def _pass(
        self, one: Pass, batch: Batch, soft: Tensor | None
    ) -> tuple[PassView, dict[str, IdentityTerm]]:
        clean = batch.image
        image = clean if one.image == "clean" or batch.erased is None else batch.erased
        taught = one.weights is not None
        labels = batch.pid if batch.identities and (one.shared or taught) else None
        arguments = self._arguments(batch, image, one.branches, labels, soft)
        with pass_mode(self.model, one.bn, still=self._still()):
            if one.weights is not None:
                found = self._with_weights(one.weights, arguments)
            else:
                found = self.model(*arguments)
        view, terms = _viewed(one.name, batch, image, found, one.shared, self.model.embeddings)
        return view, {} if taught else terms

    def _with_weights(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return what the model gives with other weights, without a graph."""
        owner = name.partition("/")[0]
        offers = {offer.name: offer for _, offer in self._calls.weights(self._ctx, owner)}
        # Detached, for mixed precision keeps what it has cast for passes that need a gradient.
        values = {entry: value.detach() for entry, value in self.model.named_parameters()}
        if name in offers:
            values |= offers[name].values
        with torch.no_grad():
            return torch.func.functional_call(self.model, values, arguments)

    def _still(self) -> frozenset[str]:
        return self._plan.frozen(self._ctx.progress.epoch)

    def _generated(
        self, synthetic: Synthetic, batch: Batch
    ) -> tuple[PassView, dict[str, IdentityTerm]]:
        rows = labelled(synthetic, batch)
        labels = rows.pid if rows.identities and synthetic.identity_weight else None
        live = synthetic.route == "detached"
        if live:
            rows = replace(rows, image=rows.image.detach())
        arguments = self._arguments(rows, rows.image, ("*",), labels, synthetic.soft_targets)
        with pass_mode(self.model, "batch", dropout=live, still=self._still()):
            if live:
                found = self.model(*arguments)
            else:
                fixed = {name: value.detach() for name, value in self.model.named_parameters()}
                found = torch.func.functional_call(self.model, fixed, arguments)
        view, terms = _viewed(synthetic.name, rows, rows.image, found, live, self.model.embeddings)
        # Terms of generated images say where they come from: core/global/ce@dgnet/mixed.
        named = {
            f"{name}@{synthetic.name}": replace(
                term, factor=term.factor * synthetic.identity_weight
            )
            for name, term in terms.items()
            if matches(term.embedding, synthetic.identity_of)
        }
        return view, named

    def _arguments(
        self,
        batch: Batch,
        image: Tensor,
        branches: tuple[str, ...],
        labels: Tensor | None,
        soft: Tensor | None,
    ) -> tuple[Any, ...]:
        fields = {**batch.readable, CLEAN_IMAGE: batch.image}
        scopes = scopes_of(self._ctx)
        return image, fields, batch.source, branches, scopes, labels, soft, batch.frames

    def _terms(self, step: StepView, identity: Mapping[str, IdentityTerm]) -> dict[str, LossTerm]:
        terms: dict[str, LossTerm] = {}
        for name, term in identity.items():
            weight = weight_at(self.model.embeddings[term.embedding].weight, step.iteration)
            terms[name] = LossTerm(name, term.value, weight * term.factor)
        for owner, loss in self._calls.losses(self._ctx, step):
            check_owned(owner, "loss term", loss.name)
            wrong = ""
            if loss.name in terms:
                wrong = "is returned twice"
            elif not isinstance(loss.value, Tensor):
                wrong = f"is a {type(loss.value).__name__}; it must be a scalar tensor"
            elif loss.value.dim():
                wrong = f"has shape {tuple(loss.value.shape)}; it must be a scalar"
            if wrong:
                raise PluginError(f"plugin '{owner}': loss term '{loss.name}' {wrong}")
            terms[loss.name] = loss
        wanted = {name: term for name, term in sorted(terms.items()) if step.wants(name)}
        if not wanted:
            raise PluginError(f"update '{step.update}' has no loss term to sum")
        return wanted

    def _summed(
        self, terms: Mapping[str, LossTerm], first: PassView
    ) -> tuple[Tensor, UpdateReport]:
        chosen = self._ctx.config.loss_weights
        iteration = self._ctx.progress.iteration
        weights = {
            name: chosen.get(name, weight_at(term.weight, iteration))
            for name, term in terms.items()
        }
        # A term of weight 0 stays out of the sum: its graph must not touch anything.
        summed = [weights[n] * term.value.float() for n, term in terms.items() if weights[n]]
        zero = next(iter(terms.values())).value.detach().float() * 0
        total = torch.stack(summed).sum() if summed else zero
        report = UpdateReport(
            {name: term.value.detach().float() for name, term in terms.items()},
            weights,
            total.detach(),
            {
                name: gathered(Embedded(e.raw.detach(), e.neck.detach(), e.unit.detach()))
                for name, e in first.embedded.items()
                if name in self.model.criteria
            },
            gather(first.batch.pid) if first.batch.identities else None,
        )
        return total, report

    def _checked(
        self, generated: list[tuple[str, Synthetic]], batch: Batch, before: bool
    ) -> list[Synthetic]:
        seen: set[str] = set()
        for owner, synthetic in generated:
            check_synthetic(owner, synthetic, batch, before)
            if synthetic.name in seen:
                raise PluginError(
                    f"plugin '{owner}': generated images '{synthetic.name}' are returned twice"
                )
            seen.add(synthetic.name)
        return sorted((s for _, s in generated), key=lambda s: s.name)


def _detached(view: PassView) -> PassView:
    """Return a pass without its graph."""
    return replace(
        view,
        feats={name: value.detach() for name, value in view.feats.items()},
        embedded={
            name: Embedded(e.raw.detach(), e.neck.detach(), e.unit.detach())
            for name, e in view.embedded.items()
        },
        logits={name: value.detach() for name, value in view.logits.items()},
    )


def _viewed(
    name: str,
    batch: Batch,
    image: Tensor,
    found: tuple[dict[str, Tensor], dict[str, Embedded], dict[str, IdentityOutput]],
    shared: bool,
    declared: Mapping[str, Embedding],
) -> tuple[PassView, dict[str, IdentityTerm]]:
    outputs, embedded, identity = found
    logits = {name: o.logits for name, o in identity.items() if o.logits is not None}
    terms = {
        f"{embedding}/{term}": IdentityTerm(embedding, value, output.weights.get(term, 1.0))
        for embedding, output in identity.items()
        for term, value in output.terms.items()
    }
    return PassView(name, batch, image, outputs, embedded, logits, shared, declared), terms
