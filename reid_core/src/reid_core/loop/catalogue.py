"""Optimisers and schedules by name: the core's four, and those of torch.optim and timm."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from reid_core.config import OptimSection, ScheduleSection
from reid_core.contract.step import OPTIMISERS, Optimiser
from reid_core.errors import ConfigError, did_you_mean

T = TypeVar("T")

_NOT_STEPPED_SO = {
    "lbfgs": "it calls the loss again within a step",
    "sparseadam": "it takes sparse gradients alone",
    "muon": "it takes matrices alone",
}
"""Those of torch.optim that no step of a run can use, and why."""


def make_optimiser(
    values: Sequence[nn.Parameter], wanted: Optimiser | OptimSection, where: str
) -> torch.optim.Optimizer:
    """Return an optimiser.

    Args:
        values: parameters.
        wanted: name and settings.
        where: whose it is, for messages.

    Raises:
        ConfigError: an unknown name or setting.
    """
    name, extra = wanted.name, dict(wanted.options)
    options: dict[str, Any] = {"lr": wanted.lr, "weight_decay": wanted.weight_decay}
    if name in OPTIMISERS and extra:
        raise ConfigError(
            f"{where}: the optimiser '{name}' takes no options ({', '.join(extra)}); they are for "
            "others of torch.optim and timm"
        )
    known = _of_torch()
    moments = {"momentum": wanted.momentum, "betas": tuple(map(float, wanted.betas))}
    if name not in OPTIMISERS:  # the others have defaults of their own
        moments = {key: new for key, new in moments.items() if new != getattr(Optimiser, key)}
    if name not in known:
        return _of_timm(values, name, moments, {**options, **extra}, where)
    takes = inspect.signature(known[name]).parameters
    _check_options(where, name, extra, takes)
    options |= moments
    if name in OPTIMISERS:
        options |= {"nesterov": wanted.nesterov, "amsgrad": name == "amsgrad"}
    options = {key: value for key, value in options.items() if key in takes}
    return known[name](values, **{**options, **extra})


@lru_cache
def _of_torch() -> dict[str, type[torch.optim.Optimizer]]:
    found = _kinds_in(torch.optim, torch.optim.Optimizer)
    kinds = {name.lower(): kind for name, kind in found.items()}
    steppable = {name: kind for name, kind in kinds.items() if name not in _NOT_STEPPED_SO}
    return {**steppable, "amsgrad": torch.optim.Adam}


def _kinds_in(module: ModuleType, base: type[T]) -> dict[str, type[T]]:
    """Return the classes of a module that stand on another one, by name."""
    kinds = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind)}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, base) and kind != base}


def _of_timm(
    values: Sequence[nn.Parameter],
    name: str,
    moments: Mapping[str, Any],
    options: Mapping[str, Any],
    where: str,
) -> torch.optim.Optimizer:
    optim: Any = import_module("timm.optim")
    names = [str(one) for one in optim.list_optimizers()]
    info = optim.get_optimizer_info(name) if name in names else None
    why = _NOT_STEPPED_SO.get(name) if info is None else None
    if info is not None and info.second_order:
        why = "it needs second derivatives"
    if why:
        raise ConfigError(
            f"{where}: the optimiser '{name}' cannot be stepped here: {why}; take another one, "
            f"such as {OPTIMISERS[0]}"
        )
    if info is None:
        others = sorted(_of_torch().keys() - {*OPTIMISERS})
        known = [*OPTIMISERS, *others, *names]
        raise ConfigError(
            f"{where}: neither the core nor torch.optim nor timm has an optimiser '{name}'"
            f"{did_you_mean(name, known)} (core: {', '.join(OPTIMISERS)}; torch.optim: "
            f"{', '.join(others)}; timm: see timm.optim.list_optimizers())"
        )
    takes = {"momentum": info.has_momentum, "betas": info.has_betas and info.num_betas == 2}
    given = {**{key: value for key, value in moments.items() if takes[key]}, **options}
    try:
        made: torch.optim.Optimizer = optim.create_optimizer_v2(list(values), opt=name, **given)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise ConfigError(f"{where}: timm's optimiser '{name}' refuses: {error}") from error
    if len(made.param_groups) != 1:
        raise ConfigError(f"{where}: timm's optimiser '{name}' divides its parameters into groups")
    return made


def _check_options(where: str, name: str, given: Mapping[str, Any], takes: Iterable[str]) -> None:
    offered = [key for key in takes if key != "params"]
    for key in given:
        if key not in offered:
            raise ConfigError(
                f"{where}: '{name}' has no setting '{key}'{did_you_mean(key, offered)} "
                f"({', '.join(offered)})"
            )


# Schedules ---------------------------------------------------------------------------------------

TIMM_DECAYS = ("tanh", "poly", "multistep")
"""Schedulers of timm that the core lacks and that need nothing but where the run stands."""


_OF_A_METRIC = (
    "it looks at a score after every epoch, and the learning rate is a function of the epoch "
    "alone, so that a resumed run goes on as it would have; take 'step' or 'cosine', and keep the "
    'best weights by evaluation.select = "validation"'
)
_OF_FUNCTIONS = "it takes functions, which a configuration cannot hold"
_OF_OTHERS = "it takes other schedulers, which a configuration cannot hold"
_NOT_FOLLOWED = {
    "ReduceLROnPlateau": _OF_A_METRIC,
    "plateau": _OF_A_METRIC,
    "LambdaLR": _OF_FUNCTIONS,
    "MultiplicativeLR": _OF_FUNCTIONS,
    "SequentialLR": _OF_OTHERS,
    "ChainedScheduler": _OF_OTHERS,
}
"""Schedulers of torch.optim and timm that need more than where the run stands, and why."""

_COUNTS = {
    *("step_size", "step_size_up", "step_size_down", "total_steps"),
    *("total_iters", "T_max", "T_0", "T_mult"),
}
"""Options of torch.optim's schedulers that are numbers of epochs, or multiply them."""

_ROUNDING = 1e-9
"""How far below 0 a recursion of torch.optim may round."""


def schedulers() -> dict[str, type[torch.optim.lr_scheduler.LRScheduler]]:
    """Return the schedulers of torch.optim that need nothing but where the run stands, by class."""
    known = _kinds_in(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler)
    return {n: kind for n, kind in known.items() if n not in _NOT_FOLLOWED and n[0] != "_"}


def check_decay(schedule: ScheduleSection, own: Sequence[str]) -> None:
    """Refuse, before the training, a decay of the learning rate that nobody has.

    Args:
        schedule: the run's.
        own: names of the core's.

    Raises:
        ConfigError: an unknown name, an unknown setting, or one that is missing or wrong; or
            factors that are negative or not finite.
    """
    name, options = schedule.decay, schedule.options
    if name in own:
        if options:
            raise ConfigError(
                f"schedule.options ({', '.join(options)}) are for a scheduler of torch.optim or "
                f"timm, and schedule.decay is '{name}'"
            )
        return
    if name in _NOT_FOLLOWED:
        raise ConfigError(f"schedule.decay = '{name}' is not possible: {_NOT_FOLLOWED[name]}")
    known = schedulers()
    if name not in (*known, *TIMM_DECAYS):
        names = [*own, *TIMM_DECAYS, *known]
        raise ConfigError(
            f"schedule.decay = '{name}': there is no such decay{did_you_mean(name, names)} "
            f"({', '.join(names)})"
        )
    kind = known[name] if name in known else import_module("timm.scheduler").create_scheduler_v2
    takes = [key for key in inspect.signature(kind).parameters if key not in ("optimizer", "sched")]
    _check_options("schedule.options", name, options, takes)
    for key in _COUNTS & options.keys():
        count = options[key]
        if isinstance(count, int | float) and count <= 0:
            raise ConfigError(f"schedule.options.{key} = {count}: '{name}' takes what is above 0")
    try:
        factors = factors_of(schedule)
    except Exception as error:  # whatever a library says to values that are not its own
        raise ConfigError(f"schedule.decay = '{name}': {error}; see schedule.options") from error
    for epoch, factor in enumerate(factors):
        if not math.isfinite(factor) or factor < -_ROUNDING:
            raise ConfigError(
                f"schedule.decay = '{name}' multiplies the learning rate of epoch {epoch} by "
                f"{factor:g}, which must be finite and not negative; see schedule.options"
            )


def factors_of(schedule: ScheduleSection) -> tuple[float, ...]:
    """Return the factors that a scheduler of torch.optim or timm gives, by epoch after warm-up."""
    left = max(1, math.ceil(schedule.epochs - schedule.warmup_epochs))
    given = dict[str, Any]()
    if schedule.decay in TIMM_DECAYS:
        given = {"num_epochs": left, "warmup_epochs": 0}
    if schedule.decay == "poly":  # of timm's own exponent, 0.1, nothing falls before the end
        given["decay_rate"] = 1.0
    given |= schedule.options
    return _factors_of(schedule.decay, tuple(sorted(given.items())), left + 2)


@lru_cache
def _factors_of(name: str, options: tuple[tuple[str, Any], ...], epochs: int) -> tuple[float, ...]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    group = optimiser.param_groups[0]
    if name in TIMM_DECAYS:
        made, _ = import_module("timm.scheduler").create_scheduler_v2(
            optimiser, sched=name, **dict(options)
        )
        factors = []
        for epoch in range(epochs):
            made.step(epoch)
            factors.append(float(group["lr"]))
        return tuple(factors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimiser was stepped before
        scheduler = schedulers()[name](optimiser, **dict(options))
        factors = [float(group["lr"])]
        for _ in range(epochs - 1):
            scheduler.step()
            factors.append(float(group["lr"]))
    return tuple(factors)
