"""Random streams that do not disturb each other: every scope draws from a seed of its own.

Building a plugin first, or dropout in a branch of weight 0, must not move the encoder's initial
weights or the baseline's trace. So everything random runs in a scope that is named by the run's
seed and by what it is for, never in the global stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def scope_seed(seed: int, *scope: str | int) -> int:
    """Return a 63-bit seed for a scope, the same on every machine."""
    text = "\x1f".join(str(part) for part in (seed, *scope))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def scoped(seed: int, *scope: str | int, cuda: bool = False) -> Iterator[None]:
    """Run a block with torch, NumPy and Python random streams of its own; restore them after.

    Args:
        seed: the run's seed.
        scope: what the randomness is for.
        cuda: whether the current CUDA device's stream is scoped as well.
    """
    import random

    import numpy as np
    import torch

    value = scope_seed(seed, *scope)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.default_generator.manual_seed(value)
        if cuda:
            torch.cuda.manual_seed(value)
        random.seed(value)
        np.random.seed(value & 0xFFFFFFFF)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def torch_scoped(seed: int, cuda: bool = False) -> Iterator[None]:
    """Run a block with a torch random stream of its own; the light form for parts of a step.

    Args:
        seed: of the stream, from `scope_seed`.
        cuda: whether the current CUDA device's stream is scoped as well.
    """
    import torch

    generator = torch.default_generator
    state = generator.get_state()
    cuda_state = torch.cuda.get_rng_state() if cuda else None
    generator.manual_seed(seed)
    if cuda:
        torch.cuda.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state)
