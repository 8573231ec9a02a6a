"""Learning rates as a function of where the run stands: no state, so nothing to restore."""

from __future__ import annotations

import math

from reid_core.config import ScheduleSection
from reid_core.loop.catalogue import factors_of

DECAYS = ("step", "cosine", "constant")
"""Decays of the core by name."""


def rate_factor(schedule: ScheduleSection, epoch: int, share: float = 0.0) -> float:
    """Return the factor on every scheduled learning rate.

    Args:
        schedule: warm-up and decay, in epochs.
        epoch: 0-based.
        share: how much of the epoch is done, in ``[0, 1)``; counts with ``per_iteration``.

    Returns:
        Positive factor; 1 between warm-up and the first decay.
    """
    time = epoch + (share if schedule.per_iteration else 0.0)
    warmup, start = schedule.warmup_epochs, schedule.warmup_start
    if time < warmup:
        if schedule.warmup_shape == "exponential":
            return float(start ** (1 - time / warmup))
        return start + (1 - start) * time / warmup
    if schedule.decay == "step":
        return float(schedule.gamma ** sum(time >= milestone for milestone in schedule.milestones))
    if schedule.decay == "cosine":
        length = max(schedule.epochs - warmup, 1e-9)
        wave = 0.5 * (1 + math.cos(math.pi * min(1.0, (time - warmup) / length)))
        return schedule.floor + (1 - schedule.floor) * wave
    if schedule.decay == "constant":
        return 1.0
    after, factors = max(time - warmup, 0.0), factors_of(schedule)
    here, share = int(after), after - int(after)
    return factors[here] + share * (factors[here + 1] - factors[here])
