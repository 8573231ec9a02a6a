"""Two gloo ranks: they must compute what one process does with the whole batch, and end equal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reid_core.contract.context import RunContext
from reid_core.contract.step import Update
from reid_core.contract.views import UpdateReport
from reid_core.loop import forward
from reid_core.loop.assembly import Assembly
from reid_core.loop.state import trainable_state
from reid_core.machine.randomness import StepScopes
from reid_core.plugins import calls
from reid_core.testing.forking import failure_of
from reid_core.testing.subject import Shared, Subject
from reid_core.testing.tiny import Recorder

RANKS = 2

_PATIENCE = timedelta(seconds=60)
"""How long a rank waits for the other: those that wait for different things wait for ever."""

_CLOSE = 1e-2
"""How far numbers may be from those of one process, relatively: statistics over ranks are summed in
another order."""

_PARALLEL = 5e-2
"""The same for gradients, which go back through more of them."""

_NOTHING = 1e-5
"""What counts as 0 beside numbers of one process."""


def check_ranks(subject: Subject) -> None:
    """Two gloo ranks compute what one process does, and end with equal weights.

    At the weights with which the run starts, every term's mean over the ranks is that of one
    process, and so are gradients and vectors. Terms that draw random numbers are left out (a rank
    draws for its rows), and those that `Subject.per_rank` names.
    """
    alone = _trained(subject)
    # Runs that other checks have assembled stay here.
    failure = failure_of(_work, (replace(subject, shared=Shared()),), RANKS)
    assert not failure, f"with {RANKS} ranks: {failure.splitlines()[-1]}"
    ranks = [torch.load(_file(subject, rank)) for rank in range(RANKS)]
    first, second = ranks
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), (
            f"after training '{name}' differs between ranks: it has moved by what one rank alone "
            "has seen (gather rows with ctx.gather)"
        )
    if not torch.equal(alone["labels"], first["labels"]):
        reason = "clusters hang on the last digit, and with them which rows come"
        subject.skip(reason, "numbers of one process")
        return
    for name, vectors in alone["vectors"].items():
        apart = _apart(first["vectors"][name], vectors)
        assert apart < _CLOSE, (
            f"on {RANKS} ranks vectors of '{name}' differ from those of one process, by "
            f"{apart:.2g} of their length: a row's vector must not depend on which rows share its "
            "rank"
        )
    _compare_losses(subject, alone, ranks)


def _compare_losses(
    subject: Subject, alone: Mapping[str, Any], ranks: list[Mapping[str, Any]]
) -> None:
    """Compare terms and gradients, but for what is drawn at random or declared to be a rank's."""
    again = _trained(subject, other_draws=True)
    spoilt = set()
    for key, value in alone["terms"].items():
        update, _, term = key.partition(":")
        drawn = not torch.allclose(again["terms"].get(key, value * torch.nan), value, rtol=1e-6)
        if drawn or any(fnmatchcase(term, pattern) for pattern in subject.per_rank):
            reason = "it draws at random" if drawn else "it is declared to be per_rank"
            subject.skip(f"{reason}; its update's gradient is left out, too", f"term '{term}'")
            spoilt.add(update)
            continue
        shares = torch.stack([rank["terms"][key] for rank in ranks])
        assert _apart(shares.mean(), value) < _CLOSE, (
            f"on {RANKS} ranks the loss term '{term}' of update '{update}' is "
            f"{' and '.join(f'{share:.4g}' for share in shares.tolist())}, in one process "
            f"{value:.4g}: what compares rows of a batch, or counts them, needs those of all ranks "
            "(ctx.gather)"
        )
    for key, gradient in alone["gradients"].items():
        update, _, group = key.partition(":")
        apart = _apart(ranks[0]["gradients"][key], gradient)
        assert update in spoilt or apart < _PARALLEL, (
            f"on {RANKS} ranks the gradient of group '{group}' in update '{update}' differs from "
            f"that of one process, by {apart:.2g} of its length"
        )


def _apart(found: Tensor, wanted: Tensor) -> float:
    gap = (found - wanted).norm()
    return 0.0 if gap < _NOTHING else float(gap / wanted.norm().clamp(min=1e-12))


def _trained(subject: Subject, other_draws: bool = False) -> dict[str, Any]:
    """Train a tiny run and return what is compared.

    In its first steps, as many as its updates' period, nothing moves: losses and gradients are
    those of the initial weights, whatever the order of updates.

    Args:
        subject: the plugin.
        other_draws: let the steps draw other random numbers, and stop when the weights would move.
    """
    assembly = subject.assemble()
    for module in assembly.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0  # it draws per rank
        elif isinstance(getattr(module, "drop_prob", None), float):
            module.drop_prob = 0.0  # type: ignore[assignment]  # so does stochastic depth
    trainer = Recorder(assembly)
    main: list[UpdateReport] = []
    terms: dict[str, Tensor] = {}
    add = trainer.metrics.add

    def keep(reports: Mapping[str, UpdateReport]) -> None:
        main.extend(report for name, report in reports.items() if name == "main")
        for update, report in reports.items():
            for name, value in report.terms.items():
                terms.setdefault(f"{update}:{name}", value)
        add(reports)

    trainer.metrics.add = keep  # type: ignore[method-assign]
    gradients = _hold_still(assembly)
    if other_draws:
        assembly.model.train()
        with _drawing_otherwise():
            trainer.train_epoch()
    else:
        trainer.fit()
    state = {name: value.clone() for name, value in trainable_state(assembly.model).items()}
    ranks = assembly.ctx.world_size
    share = assembly.config.data.batch_size // ranks
    # Generated rows that joined a rank's batch stand behind its real ones.
    vectors = {
        name: torch.cat([part[:share] for part in embedded.neck.float().chunk(ranks)])
        for name, embedded in main[0].embedded.items()
    }
    labels = torch.tensor([sample.pid for sample in assembly.ctx.main.samples])
    return {
        "state": state,
        "vectors": vectors,
        "terms": terms,
        "gradients": gradients,
        "labels": labels,
    }


def _hold_still(assembly: Assembly) -> dict[str, Tensor]:
    """Let no optimiser step in the first steps; return what fills with the gradients of groups."""
    optimisers, progress = assembly.parts.optimisers, assembly.ctx.progress
    period = max(update.every[0] for update in assembly.parts.plan.updates)
    named = {name: p for name, p in assembly.model.named_parameters() if p.requires_grad}
    step = optimisers.step
    gradients: dict[str, Tensor] = {}

    def note(update: Update, epoch: int, factor: float) -> None:
        if progress.iteration >= period:
            step(update, epoch, factor)
            return
        for group, _ in optimisers.stepped(update, epoch):
            parts = [named[name] for name in group.parameters]
            found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parts]
            flat = torch.cat([grad.flatten() for grad in found])
            gradients.setdefault(f"{update.name}:{group.name}", flat)

    optimisers.step = note  # type: ignore[method-assign]
    return gradients


@contextmanager
def _drawing_otherwise() -> Iterator[None]:
    """Let all parts of a step draw other numbers than a run of this seed does."""

    def other(ctx: RunContext) -> StepScopes:
        return StepScopes(ctx.config.run.seed + 1, ctx.progress.iteration, ctx.rank)

    with patch.object(calls, "scopes_of", other), patch.object(forward, "scopes_of", other):
        yield


def _file(subject: Subject, rank: int) -> str:
    return str(subject.folder / f"rank{rank}.pt")


def _work(rank: int, subject: Subject) -> None:
    torch.set_num_threads(1)
    os.environ["REID_CACHE"] = str(subject.cache)
    meeting = f"file://{subject.folder}/meeting"
    dist.init_process_group("gloo", meeting, rank=rank, world_size=RANKS, timeout=_PATIENCE)
    try:
        torch.save(_trained(subject), _file(subject, rank))
    finally:
        dist.destroy_process_group()
