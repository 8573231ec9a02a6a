"""The plan of a step: groups, updates and passes, the core's and the plugins', merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid_core.contract.step import MAIN, Group, Update


@dataclass(frozen=True)
class StepPlan:
    """What one training step does.

    Args:
        groups: all optimiser groups by name, parameters written out in full.
        updates: in the order in which they run; their ``groups`` and ``passes`` are complete.
        main_without: patterns of terms that ``main`` leaves to other updates.
    """

    groups: Mapping[str, Group]
    updates: tuple[Update, ...]
    main_without: tuple[str, ...] = ()

    def without(self, update: Update) -> tuple[str, ...]:
        """Return the patterns of terms that an update leaves to another one."""
        return self.main_without if update.name == MAIN else ()

    def frozen(self, epoch: int) -> frozenset[str]:
        """Return the names of the parameters that are not stepped in an epoch."""
        groups = (group for group in self.groups.values() if epoch < group.frozen_until)
        return frozenset(name for group in groups for name in group.parameters)

    def due(self, step: int, epoch: int | None = None) -> tuple[Update, ...]:
        """Return the updates of a step.

        Args:
            step: of the run, 0-based.
            epoch: 0-based; None takes updates that begin later for due.
        """
        found = [
            one for one in self.updates if one.due(step) and (epoch is None or epoch >= one.begin)
        ]
        while True:
            shown = {one.name for update in found for one in update.passes}
            # Who stands on another's forward cannot run without it.
            standing = [u for u in found if all(p.of is None or p.of in shown for p in u.passes)]
            if len(standing) == len(found):
                return tuple(found)
            found = standing

    @property
    def shown_again(self) -> frozenset[str]:
        """The passes whose outputs another update shows again."""
        return frozenset(p.of for u in self.updates for p in u.passes if p.of is not None)
