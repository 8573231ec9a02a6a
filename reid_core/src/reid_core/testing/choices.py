"""Choices among numbers: they must be the same in bfloat16 as in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reid_core.loop.forward import UpdateForward
from reid_core.model.precision import full_precision
from reid_core.testing.rounding import plain_name
from reid_core.testing.subject import Subject
from reid_core.testing.tiny import Recorder

_CHOOSING = {
    *("argmax", "argmin", "max", "min", "aminmax", "topk", "sort", "argsort", "kthvalue"),
    *("mode", "median", "gt", "lt", "ge", "le", "eq", "ne", "round", "floor", "ceil", "trunc"),
    *("searchsorted", "bucketize", "nonzero", "unique", "multinomial"),
}
"""Operations by which numbers become indices, orders or flags."""

_EXACT = 1e-3
"""How far numbers that a choice is made of may move, relatively: bfloat16 moves them by 4e-3."""


def check_choices(subject: Subject) -> None:
    """What its losses choose among rows is the same in bfloat16 as in float32.

    Networks run in float32 both times, so that losses and identity criteria see equal features;
    what they choose by (distances, similarities) must not be rounded to three digits.
    """
    plain, mixed = (_choices(subject, mixed) for mixed in (False, True))
    assert list(plain) == list(mixed)
    for update, ours in plain.items():
        theirs = mixed[update]
        assert [name for name, _ in ours] == [name for name, _ in theirs], (
            f"update '{update}' chooses by other operations in bfloat16"
        )
        for (name, exact), (_, rounded) in zip(ours, theirs, strict=True):
            there = exact.isfinite() & rounded.isfinite()
            apart = (exact - rounded)[there].abs() / exact[there].abs().clamp(min=1e-3)
            assert not (apart > _EXACT).any(), (
                f"update '{update}' chooses ({name}) by numbers that bfloat16 has rounded, by up "
                f"to {float(apart.max()):.1e} of their size: compute them with "
                "reid_core.inner_products, or within reid_core.full_precision"
            )


def _choices(subject: Subject, mixed: bool) -> dict[str, list[tuple[str, Tensor]]]:
    """Return by update what its first step chooses by: operations and the numbers they read."""
    trainer = Recorder(subject.assemble())
    assembly, progress = trainer.assembly, trainer.assembly.ctx.progress
    forward = assembly.parts.forward
    assert isinstance(forward, UpdateForward)
    model = assembly.model
    networks = [model.encoder, *model.branches.values(), *model.heads.values()]
    model.train()
    trainer.begin_epoch()
    period = max(update.every[0] for update in assembly.parts.plan.updates)
    streams = trainer.streams(period)
    found: dict[str, list[tuple[str, Tensor]]] = {}
    with _in_full_precision(networks):
        for _ in range(period):
            batches = trainer.batches(streams)
            for update in assembly.parts.plan.due(progress.iteration):
                seen = _Choices()
                with torch.autocast("cpu", torch.bfloat16, enabled=mixed), seen:
                    forward.terms(update, batches)
                found.setdefault(update.name, seen.found)
            progress.iteration += 1
    for stream in streams.values():
        stream.close()
    return found


@contextmanager
def _in_full_precision(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Let modules compute in float32, whatever calls them."""

    def exactly(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with full_precision(torch.empty(0)):
                return forward(*args, **kwargs)

        return call

    for module in modules:
        module.forward = exactly(module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


class _Choices(TorchDispatchMode):
    """Notes the floating numbers that choices read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = plain_name(func)
        if name in _CHOOSING:
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor) and leaf.is_floating_point():
                    self.found.append((name, leaf.detach().float().clone()))
        return func(*args, **(kwargs or {}))
