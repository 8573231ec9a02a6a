"""The run's optimiser once more, with moments of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_core import Optimiser

if TYPE_CHECKING:
    from reid_core import RunConfig


def like_the_runs(config: RunConfig, follows_schedule: bool = True) -> Optimiser:
    """Return the optimiser that a run names, with all of its settings, for a group or an update.

    Args:
        config: of the run.
        follows_schedule: whether the run's warm-up and decay scale its learning rate.
    """
    run = config.optim
    return Optimiser(
        run.name,
        run.lr,
        run.weight_decay,
        run.momentum,
        run.nesterov,
        run.betas,
        follows_schedule,
        run.options,
    )
