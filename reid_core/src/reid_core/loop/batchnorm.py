"""Say what batch normalisation does in a pass, without a trace left behind."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def pass_mode(
    model: nn.Module,
    bn: Literal["update", "batch", "running"],
    dropout: bool = True,
    still: Collection[str] = (),
) -> Iterator[None]:
    """Run a block with the batch normalisation of a pass.

    Only modules in training mode are touched, so frozen branches stay as they are.

    Args:
        model: in training mode.
        bn: ``update`` (statistics of the batch, buffers move), ``batch`` (statistics of the batch,
            buffers untouched) or ``running``.
        dropout: whether dropout is on.
        still: names of parameters that stay as they are; a normalisation all of whose parameters
            are among them is ``running``, whatever the others are.
    """
    off: list[tuple[nn.Module, str]] = []
    for name, module in model.named_modules():
        if not module.training:
            continue
        if not dropout and _drops(module):
            off.append((module, "training"))
        elif isinstance(module, _BatchNorm):
            if bn == "running" or (still and _waits(name, module, still)):
                off.append((module, "training"))
            elif bn == "batch" and module.track_running_stats:
                # Without tracked statistics torch normalises by the batch and leaves the buffers
                # alone, num_batches_tracked included; a momentum of 0 would still count batches.
                off.append((module, "track_running_stats"))
    for module, switch in off:
        setattr(module, switch, False)
    try:
        yield
    finally:
        for module, switch in off:
            setattr(module, switch, True)


def _waits(name: str, norm: nn.Module, still: Collection[str]) -> bool:
    own = [f"{name}.{parameter}" for parameter, _ in norm.named_parameters()]
    return bool(own) and all(parameter in still for parameter in own)


def _drops(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) or type(module).__name__ == "DropPath"
