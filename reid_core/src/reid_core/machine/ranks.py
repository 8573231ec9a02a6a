"""Several ranks: who this process is, and how rows of all ranks come together.

A run under ``torchrun`` has one process per device. Batches are divided by rows; the vectors that
identity criteria see are gathered with their gradient, and batch normalisation takes its
statistics over all ranks, so that N ranks compute what one process with the whole batch would.

Tensors of a step go from device to device. What is on the host anyway, plain data, arrays and the
waiting for each other, goes from host to host: it takes no memory of a GPU and does not wait for
its work, and the hosts' patience may be long while rank 0 makes data or labels.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reid_core.errors import DeviceError

_PATIENCE = timedelta(days=1)
"""How long hosts wait for one of them; where a process fails, ``torchrun`` ends all of them."""

_hosts: dist.ProcessGroup | None = None
"""Of this process's `process_group`; None is the only group that there is."""


def world() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the other ranks where ``torchrun`` started several; leave them at the end.

    Args:
        device: ``engine.device``; with CUDA every rank takes the device of its local rank.

    Raises:
        DeviceError: there are more local ranks than CUDA devices.
    """
    global _hosts
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available() and device != "cpu"
    if cuda:
        if local >= torch.cuda.device_count():
            raise DeviceError(
                f"rank {local} of this machine has no CUDA device of its own (there are "
                f"{torch.cuda.device_count()}); start fewer processes"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        _hosts = dist.new_group(timeout=_PATIENCE, backend="gloo")
        yield
    finally:
        _hosts = None
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until all ranks are here."""
    if world()[1] > 1:
        dist.barrier(_hosts)


@contextmanager
def rank_0_first() -> Iterator[None]:
    """Let rank 0 run the block before the others, so that what it makes is there for them."""
    rank = world()[0]
    if rank > 0:
        barrier()
    try:
        yield
    finally:
        if rank == 0:
            barrier()


def broadcast(value: Any) -> Any:
    """Return rank 0's value on every rank; plain data or arrays."""
    if world()[1] == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_hosts)
    return box[0]


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any rank."""
    if world()[1] == 1:
        return flag
    value = torch.tensor(int(flag))
    dist.all_reduce(value, dist.ReduceOp.MAX, group=_hosts)
    return bool(value)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every rank's loss depends on every rank's rows.
        summed = cast(Tensor, _Sum.apply(grads[0]))  # type: ignore[no-untyped-call]
        start = dist.get_rank() * ctx.count
        return summed[start : start + ctx.count]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # A function again, so that a gradient's gradient (a penalty) is summed, too.
        return cast(Tensor, _Sum.apply(grads[0]))  # type: ignore[no-untyped-call]


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order, with their gradient.

    A loss over gathered rows is the whole batch's on every rank; averaging parameter gradients over
    ranks then gives the whole batch's gradient.

    Args:
        rows: ``B ...``, as many on every rank.
    """
    if world()[1] == 1:
        return rows
    return cast(Tensor, _Gather.apply(rows))  # type: ignore[no-untyped-call]


def gather_array(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of all ranks in rank order.

    Args:
        rows: ``n D``; ``n`` may differ between ranks.
    """
    return np.concatenate(gather_objects(rows)) if world()[1] > 1 else rows


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all ranks in rank order; plain data or arrays."""
    parts: list[Any] = [None] * world()[1]
    dist.all_gather_object(parts, value, group=_hosts)
    return parts


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and number of values per channel, over all ranks.

    Every rank's own are put together as Chan et al. (1979) do. A difference of squares would lose
    all digits, and even its sign, where the mean is large against the spread.

    Args:
        values: float32 ``B C ...``; a rank may have none.
    """
    axes = [0, *range(2, values.dim())]
    if values.numel():
        variance, mean = torch.var_mean(values, axes, correction=0)
    else:
        variance = mean = values.sum(axes)  # zeros that keep the graph
    count = torch.full_like(mean, values.numel() / values.shape[1])
    means, variances, counts = gather(torch.stack([mean, variance, count])[None]).unbind(1)
    everything = counts.sum(0)
    share = counts / everything
    total = (share * means).sum(0)
    within = (share * (variances + (means - total).square())).sum(0)
    return total, within, everything.detach()


class _AcrossRanks:
    """Mixed into a batch normalisation: statistics over the batches of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        norm = cast(_BatchNorm, self)
        if not norm.training:
            return super().forward(x)  # type: ignore[misc,no-any-return]
        values = x.float()
        mean, variance, count = _moments(values)
        if norm.track_running_stats and norm.running_mean is not None:
            self._move(norm, mean.detach(), variance.detach(), count)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        out = (values - mean.view(shape)) * (variance.view(shape) + norm.eps).rsqrt()
        if norm.affine:
            out = out * norm.weight.view(shape) + norm.bias.view(shape)
        out = out.to(x.dtype)
        # timm's variant carries its activation along.
        for name in ("drop", "act"):
            follow = getattr(norm, name, None)
            out = out if follow is None else follow(out)
        return out

    @staticmethod
    def _move(norm: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        norm.num_batches_tracked.add_(1)
        share = norm.momentum
        if share is None:
            share = 1.0 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance * count / (count - 1), share)


def synchronise_batch_norms(model: nn.Module) -> None:
    """Let every batch normalisation take its statistics over all ranks, parameters unchanged."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, _AcrossRanks):
            kind = type(module)
            module.__class__ = type(f"{kind.__name__}AcrossRanks", (_AcrossRanks, kind), {})


def wrapped(forward: nn.Module) -> nn.Module:
    """Return a module whose backward averages gradients over ranks; itself where there is one."""
    if world()[1] == 1:
        return forward
    parallel = nn.parallel.DistributedDataParallel
    # Newer torch renames the option; statistics are equal on all ranks without any copying.
    known = inspect.signature(parallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"find_unused_parameters": True, option: False}
    return parallel(forward, **options)
