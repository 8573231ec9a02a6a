"""Random streams that do not disturb each other: every scope draws from a seed of its own.

Building a plugin first, or dropout in a branch of weight 0, must not move the encoder's initial
weights or the baseline's trace. So everything random runs in a scope that is named by the run's
seed and by what it is for, never in the global stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def scope_seed(seed: int, *scope: str | int) -> int:
    """Return a 63-bit seed for a scope, the same on every machine."""
    text = "\x1f".join(str(part) for part in (seed, *scope))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def scoped(seed: int, *scope: str | int) -> Iterator[None]:
    """Run a block with torch, NumPy and Python random streams of its own; restore them after.

    Args:
        seed: the run's seed.
        scope: what the randomness is for.
    """
    import random

    import numpy as np
    import torch

    value = scope_seed(seed, *scope)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(value)
        random.seed(value)
        np.random.seed(value & 0xFFFFFFFF)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Run a block with torch's deterministic algorithms; operations without one warn.

    Without them, sums over several CPU threads differ in the last bit from run to run.
    """
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


class StepScopes:
    """The random scopes of one step: a torch stream for every part of the model and every hook.

    The same part has the same stream in every pass and every update of a step, so that two
    forwards agree.

    Args:
        seed: the run's seed.
        iteration: of the run.
        rank: of the process.
        cuda: whether the current CUDA device's stream is scoped as well.
    """

    def __init__(self, seed: int, iteration: int, rank: int = 0, cuda: bool = False) -> None:
        self._prefix = hashlib.sha256(f"{seed}|step|{iteration}|{rank}|".encode())
        self._cuda = cuda

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Run a block with the stream of a part; restore the outer one after."""
        with self.several() as begin:
            begin(part)
            yield

    @contextmanager
    def several(self) -> Iterator[Callable[[str], None]]:
        """Run a block that begins one part's stream after the other; restore the outer one once."""
        import torch

        generator = torch.default_generator
        state = generator.get_state()
        cuda_state = torch.cuda.get_rng_state() if self._cuda else None

        def begin(part: str) -> None:
            digest = self._prefix.copy()
            digest.update(part.encode())
            seed = int.from_bytes(digest.digest()[:8], "big") >> 1
            generator.manual_seed(seed)
            if self._cuda:
                torch.cuda.manual_seed(seed)

        try:
            yield begin
        finally:
            generator.set_state(state)
            if cuda_state is not None:
                torch.cuda.set_rng_state(cuda_state)
