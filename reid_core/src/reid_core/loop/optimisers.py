"""Optimisers: one per group, its state keyed by parameter names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.config import OptimSection
from reid_core.contract.step import Group, Update
from reid_core.errors import CheckpointError
from reid_core.loop.catalogue import make_optimiser
from reid_core.loop.plan import StepPlan


class Optimisers:
    """The optimisers of a run.

    Every group has one; an update with an optimiser of its own has another one, with moments of
    its own, for each of the groups that it steps.

    Args:
        plan: groups and updates.
        parameters: the model's trainable parameters by name.
        settings: the run's optimiser.
    """

    def __init__(
        self, plan: StepPlan, parameters: Mapping[str, nn.Parameter], settings: OptimSection
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._parameters = dict(parameters)
        self._optimisers: dict[str, torch.optim.Optimizer] = {}
        for update in plan.updates:
            for name in (*update.groups, *update.shares):
                group = plan.groups[name]
                wanted = update.optimiser or group.optimiser
                where = "optim" if wanted is None else f"group '{group.name}'"
                values = [self._parameters[one] for one in group.parameters]
                made = make_optimiser(values, wanted or settings, where)
                self._optimisers.setdefault(self._key(update, name), made)
        self._initial = {key: _plain(optimiser) for key, optimiser in self._optimisers.items()}

    @staticmethod
    def _key(update: Update, group: str) -> str:
        return f"{group}@{update.name}" if update.optimiser else group

    def stepped(self, update: Update, epoch: int) -> Iterator[tuple[Group, torch.optim.Optimizer]]:
        """Yield the groups that an update steps in an epoch, with their optimisers."""
        for name in (*update.groups, *update.shares):
            group = self._plan.groups[name]
            if epoch >= group.frozen_until:
                yield group, self._optimisers[self._key(update, name)]

    def parameters(self, update: Update, epoch: int) -> list[nn.Parameter]:
        """Return the parameters that an update steps in an epoch."""
        return [
            self._parameters[name]
            for group, _ in self.stepped(update, epoch)
            for name in group.parameters
        ]

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, update: Update, epoch: int, factor: float) -> None:
        """Step an update's groups.

        Args:
            update: the update.
            epoch: groups that are frozen until later stay as they are.
            factor: of the run's learning-rate schedule.
        """
        for group, optimiser in self.stepped(update, epoch):
            optimiser.param_groups[0]["lr"] = self.rate(group, update, factor)
            optimiser.step()

    def rate(self, group: Group, update: Update, factor: float) -> float:
        """Return the learning rate at which an update steps a group."""
        wanted = update.optimiser or group.optimiser
        base = self._settings.lr * factor
        if wanted is not None:
            base = wanted.lr * (factor if wanted.follows_schedule else 1.0)
        return base * group.lr_scale * update.lr_scale

    def state_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return moments and counters by optimiser and parameter name."""
        states = {}
        for key, optimiser in sorted(self._optimisers.items()):
            names = self._plan.groups[key.partition("@")[0]].parameters
            states[key] = {
                name: dict(optimiser.state[self._parameters[name]])
                for name in names
                if self._parameters[name] in optimiser.state
            }
            # Some of timm's count their steps for all parameters at once.
            moved = _plain(optimiser)
            if moved != self._initial[key]:
                states[key][_GROUP] = moved
        return states

    def load_state_dict(self, states: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Restore what `state_dict` returned, whatever the order of plugins was.

        Raises:
            CheckpointError: other optimisers, other parameters, or other shapes.
        """
        if set(states) != set(self._optimisers):
            odd = ", ".join(sorted(set(states) ^ set(self._optimisers)))
            raise CheckpointError(f"the checkpoint has other optimiser groups: {odd}")
        for key, by_name in states.items():
            optimiser = self._optimisers[key]
            names = self._plan.groups[key.partition("@")[0]].parameters
            for name, state in by_name.items():
                if name == _GROUP:
                    optimiser.param_groups[0].update(state)
                    continue
                if name not in names:
                    raise CheckpointError(f"optimiser group '{key}' has no parameter '{name}'")
                parameter = self._parameters[name]
                optimiser.state[parameter] = {
                    label: _restored(value, parameter, label, f"{name} ({label})")
                    for label, value in state.items()
                }


_MOMENTS = frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"})
"""What has the shape of its parameter in any optimiser; others factorise or keep rows."""

_GROUP = "@group"
"""Stands for all parameters of an optimiser among their names."""


def _plain(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the settings of an optimiser that are single numbers, but for the learning rate."""
    values = optimiser.param_groups[0].items()
    found = {k: v.clone() if isinstance(v, Tensor) and not v.dim() else v for k, v in values}
    return {k: v for k, v in found.items() if k != "lr" and isinstance(v, int | float | Tensor)}


def _restored(value: Any, parameter: nn.Parameter, label: str, what: str) -> Any:
    if not isinstance(value, Tensor):
        return value
    if label in _MOMENTS and value.dim() and value.shape != parameter.shape:
        raise CheckpointError(
            f"optimiser state of {what} has shape {tuple(value.shape)}, the parameter "
            f"{tuple(parameter.shape)}"
        )
    # Counters stay where torch keeps them, on the CPU; moments go beside their parameter.
    return value.to(parameter.device) if value.dim() else value


def global_norm_clipper(limit: float | None) -> Callable[[list[nn.Parameter]], None]:
    """Return a function that clips gradients to a global norm; None leaves them alone."""

    def clip(parameters: list[nn.Parameter]) -> None:
        if limit is not None:
            nn.utils.clip_grad_norm_(parameters, limit)

    return clip
