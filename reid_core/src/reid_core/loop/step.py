"""One training step, from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.step import MAIN, Update
from reid_core.contract.views import UpdateReport
from reid_core.loop.optimisers import Optimisers
from reid_core.loop.plan import StepPlan
from reid_core.loop.rates import rate_factor
from reid_core.model.graph import ReidModel


@dataclass(frozen=True)
class StepParts:
    """What a step works with; built once per run.

    Args:
        ctx: the run.
        model: the training model.
        forward: `UpdateForward`, bare or wrapped for several ranks.
        plan: groups and updates.
        optimisers: of all groups.
        autocast: opens the run's mixed precision.
        clip: clips gradients in place.
        after: what plugins do after the last update of a step.
    """

    ctx: RunContext
    model: ReidModel
    forward: Callable[[Update, Mapping[str, Batch]], tuple[Tensor, UpdateReport]] | nn.Module
    plan: StepPlan
    optimisers: Optimisers
    autocast: Callable[[], AbstractContextManager[None]]
    clip: Callable[[list[nn.Parameter]], None]
    after: Callable[[RunContext, Mapping[str, UpdateReport]], None]


def train_step(
    parts: StepParts, batches: Mapping[str, Batch], share: float
) -> dict[str, UpdateReport]:
    """Do one training step: every update that is due, one after the other.

    An update is one forward of all its passes, one backward, one step of the optimisers of its
    groups. Each runs its own forward on what the updates before it left, or, with ``at_start``, on
    what the step before left; gradients never cross from one update to the next. Nothing here
    waits for the device.

    Args:
        parts: what the step works with.
        batches: prepared batches by source.
        share: how much of the epoch is done, in ``[0, 1)``.

    Returns:
        A report per update that ran.
    """
    progress, optimisers = parts.ctx.progress, parts.optimisers
    factor = rate_factor(parts.ctx.config.schedule, progress.epoch, share)
    reports: dict[str, UpdateReport] = {}
    due = parts.plan.due(progress.iteration, progress.epoch)
    early = {
        one.name: (_backward(parts, one, batches), _taken(parts, one))
        for one in due
        if one.at_start
    }
    for update in due:
        if update.at_start:
            (loss, report), gradients = early[update.name]
            for parameter, gradient in gradients:
                parameter.grad = gradient
        else:
            loss, report = _backward(parts, update, batches)
        if loss.requires_grad:
            parts.clip(optimisers.parameters(update, progress.epoch))
            optimisers.step(update, progress.epoch, factor)
        if update.name == MAIN and report.labels is not None:
            with torch.no_grad():
                for name, criterion in parts.model.criteria.items():
                    if name in report.embedded:
                        criterion.update(report.embedded[name], report.labels)  # type: ignore[operator]
        reports[update.name] = report
    with torch.no_grad():
        parts.after(parts.ctx, reports)
    progress.iteration += 1
    progress.step += 1
    return reports


def _backward(
    parts: StepParts, update: Update, batches: Mapping[str, Batch]
) -> tuple[Tensor, UpdateReport]:
    """Compute an update's loss and, in place of all older ones, its gradients."""
    parts.optimisers.clear()
    with parts.autocast():
        loss, report = parts.forward(update, batches)
    if loss.requires_grad:
        loss.backward()
    return loss, report


def _taken(parts: StepParts, update: Update) -> list[tuple[nn.Parameter, Tensor | None]]:
    """Return the gradients of the parameters that an update steps."""
    steps = parts.optimisers.parameters(update, parts.ctx.progress.epoch)
    return [(parameter, parameter.grad) for parameter in steps]
