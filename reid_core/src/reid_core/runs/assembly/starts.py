"""Let parameters of a run start from a stage's, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from reid_core.contract.context import RunContext
from reid_core.contract.plugin import CORE, Plugin
from reid_core.contract.stages import Start
from reid_core.errors import ConflictError, PluginError, some
from reid_core.model.graph import ReidModel


def check_starts(
    ctx: RunContext, owned: Sequence[tuple[str, Start]], plugins: Mapping[str, Plugin]
) -> None:
    """Refuse starts that cannot be, before any stage is made for them.

    Args:
        ctx: the run.
        owned: pairs of plugin and start.
        plugins: the run's plugins; the core's start is that of the plugin that wished it.

    Raises:
        ConflictError: two plugins start the same entry, or one starts an encoder that another
            brings; both are named, with what to set.
    """
    wish = ctx.config.model.start
    wished = [name for name, one in plugins.items() if one.defaults.get("model.start") == wish]
    asking = [((wished or [CORE])[0] if owner == CORE else owner, start) for owner, start in owned]
    for (one, first), (two, second) in combinations(asking, 2):
        ours, theirs = ((*s.entries, *s.optional) for s in (first, second))
        same = [a for a in ours for b in theirs if _overlap(a, b)]
        if one != two and same:
            remedies = " or ".join(dict.fromkeys(filter(None, (first.remedy, second.remedy))))
            raise ConflictError(
                f"plugins '{one}' and '{two}' both start '{same[0]}' from a stage, "
                f"'{first.stage.name}' and '{second.stage.name}'; {remedies or 'leave one out'}"
            )
    home = ctx.slots["backbone"]
    for owner, start in asking:
        encoder = any(entry.startswith("encoder.") for entry in start.entries)
        if encoder and home not in (CORE, owner, *start.stage.plugins):
            raise ConflictError(
                f"plugin '{owner}' starts the encoder from the stage '{start.stage.name}', but "
                f"plugin '{home}' brings an encoder of its own (slot 'backbone'); "
                f"{start.remedy or 'leave one out'}"
            )


def _overlap(one: str, other: str) -> bool:
    return fnmatch.fnmatchcase(one, other) or fnmatch.fnmatchcase(other, one)


def apply_starts(ctx: RunContext, owned: Sequence[tuple[str, Start]], model: ReidModel) -> None:
    """Copy entries of stages' state dicts into a model, by name; nothing is skipped in silence.

    Args:
        ctx: the run.
        owned: pairs of plugin and start.
        model: the run's model.

    Raises:
        ConflictError: two plugins start the same entry by different patterns; both are named.
        PluginError: a pattern matches nothing that both models have, or entries that only one of
            them has or that have another shape there, and that are not among the optional ones.
    """
    ours = model.state_dict()
    started: dict[str, str] = {}
    for owner, start in owned:
        trained = ctx.stage(start.stage).model
        theirs = trained.state_dict()
        fitting = {n for n in ours.keys() & theirs.keys() if ours[n].shape == theirs[n].shape}
        for pattern in start.entries:
            if not fnmatch.filter(fitting, pattern):
                raise PluginError(
                    f"plugin '{owner}': nothing in stage '{start.stage.name}' fits '{pattern}' of "
                    "the run's model by name and shape"
                )
        odd = sorted({*ours, *theirs} - fitting)
        left = _matching(odd, start.optional)
        unexpected = [name for name in _matching(odd, start.entries) if name not in left]
        if unexpected:
            raise PluginError(
                f"plugin '{owner}' starts from the stage '{start.stage.name}', which differs from "
                f"the run's model in {len(unexpected)} entries that should be the same: "
                f"{', '.join(_differing(name, ours, theirs) for name in unexpected[:3])}; build "
                "both with the same settings, or name what may differ among the start's optional "
                f"entries{f'; or {start.remedy}' if start.remedy else ''}"
            )
        foreign = [name for name in left if name in theirs]
        if foreign:
            ctx.say(
                f"[{start.stage.name}] {len(foreign)} entries start nothing in the run's model: "
                f"{some(foreign)}"
            )
        names = _matching(sorted(fitting), (*start.entries, *start.optional))
        for name in names:
            if started.setdefault(name, owner) != owner:
                raise ConflictError(
                    f"plugins '{started[name]}' and '{owner}' both start '{name}' from a stage"
                )
            with torch.no_grad():
                ours[name].copy_(theirs[name])
        if any(name.startswith("encoder.") for name in names):
            model.encoder.follow(trained.encoder.conventions)


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _differing(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    if name not in ours:
        return f"{name} is in the stage alone"
    if name not in theirs:
        return f"{name} is in the run's model alone"
    return f"{name} is {tuple(theirs[name].shape)}, in the run's model {tuple(ours[name].shape)}"
