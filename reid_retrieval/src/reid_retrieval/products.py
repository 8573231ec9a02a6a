"""Inner products of features, by the fastest library here that is as exact as float32 allows.

Nearly all the time of retrieval goes into them. Which library is fastest depends on the processor,
and some of them silently compute in bfloat16 or TF32 where the hardware can. So each is tried once
per process on a small problem: one that errs more than float32 does is never taken, and of the
others the fastest is. Ties and near-ties aside, a result does not depend on the choice.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_retrieval.errors import ConfigError, did_you_mean
from reid_retrieval.features import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

Multiply = Callable[[FloatArray, FloatArray, FloatArray], None]
"""``multiply(queries, gallery, out)`` writes the products ``n G`` of ``n D`` and ``G D``; float32
on the host, rows contiguous."""

ERROR_BOUND = 2e-6
"""Largest error of a product that is still float32's, as a share of the two features' norms.

Sums of 512 terms in float32 err by about 1e-7; TF32 errs by 1e-4 and bfloat16 by 1e-3.
"""

ENVIRONMENT = "REID_PRODUCTS"
"""Environment variable that names the library where nothing else does."""

_CLEARLY_FASTER = 1.03
"""A library that comes later in `HOST_LIBRARIES` is taken only if it is faster by this factor, so
that noise does not decide between equals."""

thread_seconds = (
    time.thread_time if time.get_clock_info("thread_time").resolution < 1e-6 else time.perf_counter
)
"""Time that this thread works: on a busy machine, wall time is mostly that of others."""

_ROWS_AT_ONCE = 4096
"""Gallery rows of one call to oneDNN, which returns products in memory of its own."""


def _numpy(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    np.matmul(queries, gallery.T, out=out)


def _torch(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    import torch

    with full_precision():
        torch.mm(tensor_of(queries), tensor_of(gallery).t(), out=tensor_of(out))


def _onednn(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    import torch

    # torch.mm goes to oneDNN only after a global switch, which also permits bfloat16. The
    # operator that torch's own compiler calls needs no switch, and stays in float32.
    linear = torch.ops.mkldnn._linear_pointwise
    asked, offered, products = tensor_of(queries), tensor_of(gallery), tensor_of(out)
    with full_precision():
        for start in range(0, len(gallery), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            products[:, rows] = linear(asked, offered[rows], None, "none", [], "")


def _cuda(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    import torch

    with full_precision():
        asked, offered = tensor_of(queries).cuda(), tensor_of(gallery).cuda()
        tensor_of(out).copy_(torch.mm(asked, offered.t()))


HOST_LIBRARIES: Mapping[str, Multiply] = {"numpy": _numpy, "torch": _torch, "onednn": _onednn}
"""Libraries on the host: NumPy's BLAS, torch's default, oneDNN through torch."""

LIBRARIES = (*HOST_LIBRARIES, "cuda")
"""All libraries that can be asked for by name; ``cuda`` is torch on the current CUDA device."""


@dataclass(frozen=True)
class Trial:
    """How a library did on the small problem.

    Args:
        error: largest error, as a share of the features' norms; infinite where it failed.
        seconds: shortest time of one product.
        problem: why it cannot be taken; empty if it can.
    """

    error: float
    seconds: float
    problem: str = ""


_asked: ContextVar[str] = ContextVar("reid_products", default="auto")


@contextmanager
def products_by(library: str | None) -> Iterator[None]:
    """Let retrieval in this block multiply by a library; None leaves the choice as it is.

    Args:
        library: one of `LIBRARIES`, or ``auto``: the environment's, otherwise the fastest.

    Raises:
        ConfigError: there is no such library, or it cannot be taken here.
    """
    if library is None:
        yield
        return
    if library != "auto":
        _require(library)
    token = _asked.set(library)
    try:
        yield
    finally:
        _asked.reset(token)


def chosen_library(host: bool = True) -> str:
    """Return the library that multiplies: asked for, named by the environment, or the fastest.

    Args:
        host: whether the features are on the host; of others, ``cuda`` is the fastest.

    Raises:
        ConfigError: the environment names a library that cannot be taken.
    """
    named = _asked.get()
    if named == "auto":
        named = os.environ.get(ENVIRONMENT) or "auto"
        if named != "auto":
            _require(named)
    if named == "auto":
        there = not host and not cuda_trial().problem
        return "cuda" if there else fastest_library(trials())
    return named


def host_multiply(library: str | None = None) -> Multiply:
    """Return what multiplies arrays on the host: by ``library``, otherwise the chosen one."""
    name = library or chosen_library()
    return HOST_LIBRARIES[name]


def fastest_library(found: Mapping[str, Trial]) -> str:
    """Return the fastest library that can be taken; earlier ones win unless clearly beaten."""
    best = "numpy"
    for name, trial in found.items():
        if not trial.problem and trial.seconds * _CLEARLY_FASTER < found[best].seconds:
            best = name
    return best


def trials() -> Mapping[str, Trial]:
    """Return how every library on the host does: measured once per process, in under 0.1 s.

    Those of torch are tried only where torch is already imported: importing it takes longer than
    evaluating a small data set.
    """
    return _trials("torch" in sys.modules)


@cache
def _trials(with_torch: bool) -> Mapping[str, Trial]:
    if not with_torch:
        return {"numpy": Trial(0.0, 0.0)}  # no choice, nothing to measure
    return try_out(HOST_LIBRARIES)


@cache
def cuda_trial() -> Trial:
    """Return how the current CUDA device does, transfers included: measured once per process."""
    import torch

    if not torch.cuda.is_available():
        return Trial(np.inf, np.inf, "there is no CUDA device")
    return try_out({"cuda": _cuda})["cuda"]


def try_out(libraries: Mapping[str, Multiply], rounds: int = 5) -> dict[str, Trial]:
    """Measure the errors and times of libraries on random features, in turns."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((256, 512), np.float32)
    gallery = rng.standard_normal((2048, 512), np.float32)
    out = np.empty((len(queries), len(gallery)), np.float32)
    found = {name: _first(multiply, queries, gallery, out) for name, multiply in libraries.items()}
    for _ in range(rounds - 1):
        for name, trial in found.items():
            if not trial.problem:
                seconds = _time(libraries[name], queries, gallery, out)
                found[name] = replace(trial, seconds=min(seconds, trial.seconds))
    return found


def _first(multiply: Multiply, queries: FloatArray, gallery: FloatArray, out: FloatArray) -> Trial:
    """Return the error of a library, and the time of its first product."""
    try:
        seconds = _time(multiply, queries, gallery, out)
    except (RuntimeError, AttributeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        return Trial(np.inf, np.inf, f"it fails here ({reason})")
    some, others = slice(0, 32), slice(0, 256)
    asked, offered = queries[some].astype(np.float64), gallery[others].astype(np.float64)
    norms = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(offered, axis=1)
    worst = float((np.abs(out[some, others] - asked @ offered.T) / norms).max())
    problem = ""
    if not worst <= ERROR_BOUND:  # not >, which NaN would pass
        problem = f"its error of {worst:.1e} is above {ERROR_BOUND:.0e}, float32's"
    return Trial(worst, seconds, problem)


def _time(multiply: Multiply, queries: FloatArray, gallery: FloatArray, out: FloatArray) -> float:
    began = thread_seconds()
    multiply(queries, gallery, out)
    return thread_seconds() - began


def _require(name: str) -> None:
    """Refuse a library that does not exist, or that cannot be taken here."""
    if name not in LIBRARIES:
        known = ", ".join(("auto", *LIBRARIES))
        raise ConfigError(
            f"unknown library '{name}' for inner products{did_you_mean(name, LIBRARIES)}; "
            f"known: {known}"
        )
    problem = ""
    if name == "cuda":
        problem = cuda_trial().problem
    elif name != "numpy":
        import_module("torch")  # its libraries are tried only where it is imported
        problem = trials()[name].problem
    if problem:
        raise ConfigError(f"inner products by '{name}' are not possible: {problem}; use auto")


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep torch's float32 products in float32 in this block, whatever the process permits.

    The switches are torch's and global: they are touched only if something else is permitted, and
    set back afterwards.
    """
    import torch

    # Typed loosely: which of these exist depends on torch's version.
    backends: Any = torch.backends
    switches: list[Any] = [
        switch
        for switch in (backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None))
        if hasattr(switch, "fp32_precision")
    ]
    before = [switch.fp32_precision for switch in switches]
    legacy = None if switches else torch.get_float32_matmul_precision()
    changed = [
        (switch, value)
        for switch, value in zip(switches, before, strict=True)
        if value not in ("none", "ieee")
    ]
    try:
        for switch, _ in changed:
            switch.fp32_precision = "ieee"
        if legacy not in (None, "highest"):
            torch.set_float32_matmul_precision("highest")
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        for switch, value in changed:
            switch.fp32_precision = value
        if legacy not in (None, "highest"):
            torch.set_float32_matmul_precision(legacy)


def tensor_of(array: FloatArray) -> Tensor:
    """Return a tensor over an array's memory; of a read-only one it must not be written to."""
    import torch

    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        # torch has no read-only tensors and warns of that; features are never written to.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
