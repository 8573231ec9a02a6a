"""The plan of a step: the core's and the plugins' groups, updates and passes, merged."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reid_core.contract.names import check_declared, check_known, in_order
from reid_core.contract.plugin import CORE
from reid_core.contract.step import MAIN, MAIN_PASS, Group, Pass, Schedule, Update
from reid_core.contract.vectors import DEPLOYED
from reid_core.errors import ConflictError, PluginError, did_you_mean
from reid_core.loop.plan import StepPlan


def merge_schedules(
    owned: Sequence[tuple[str, Schedule]],
    params: Mapping[str, Sequence[str]],
    sources: Iterable[str],
    new_layers_scale: float = 1.0,
) -> StepPlan:
    """Merge the plugins' schedules with the core's: one update ``main`` over all groups.

    Args:
        owned: pairs of owner and schedule.
        params: names of trainable parameters by part of the model.
        sources: names of the training sources.
        new_layers_scale: factor on the learning rate of all of the core's groups but the
            encoder's.

    Raises:
        PluginError: a name outside its owner's space, or one that nobody declares.
        ConflictError: two groups want one parameter, two updates one group; both are named.
    """
    check_declared("group", [(o, g.name) for o, s in owned for g in s.groups])
    check_declared("update", [(o, u.name) for o, s in owned for u in s.updates])
    check_declared("pass", [(o, p.name) for o, s in owned for p in _passes_of(s)])
    groups = _groups(owned, params, new_layers_scale)
    updates = _updates(owned, groups, params)
    updates = _standing(updates)
    _check_passes(updates.values(), set(sources), params)
    without = tuple(sorted({pattern for _, s in owned for pattern in s.main_without}))
    return StepPlan(groups, tuple(_in_order(updates)), without)


def _passes_of(schedule: Schedule) -> list[Pass]:
    return [*schedule.passes, *(p for update in schedule.updates for p in update.passes)]


def _groups(
    owned: Sequence[tuple[str, Schedule]], params: Mapping[str, Sequence[str]], scale: float
) -> dict[str, Group]:
    taken: dict[str, str] = {}
    groups: dict[str, Group] = {}
    everything = {name for names in params.values() for name in names}
    for owner, schedule in owned:
        for group in schedule.groups:
            for name in group.parameters:
                if name not in params and name not in everything:
                    raise PluginError(
                        f"plugin '{owner}': group '{group.name}' names '{name}', which is neither "
                        f"a part of the model nor a parameter{did_you_mean(name, params)}"
                    )
            names = [one for name in group.parameters for one in params.get(name, (name,))]
            if not names:
                raise PluginError(
                    f"plugin '{owner}': group '{group.name}' has no trainable parameter in "
                    f"{', '.join(group.parameters) or 'it'}"
                )
            for name in names:
                if name in taken:
                    raise ConflictError(
                        f"parameter '{name}' is in two groups, '{taken[name]}' and '{group.name}'"
                    )
                taken[name] = group.name
            groups[group.name] = replace(group, parameters=tuple(names))
    for part, owned_names in params.items():
        rest = tuple(name for name in owned_names if name not in taken)
        if rest:
            factor = 1.0 if part == "encoder" else scale
            groups[part] = Group(part, rest, lr_scale=factor)
    return dict(sorted(groups.items()))


def _updates(
    owned: Sequence[tuple[str, Schedule]],
    groups: Mapping[str, Group],
    params: Mapping[str, Sequence[str]],
) -> dict[str, Update]:
    homes: dict[str, str] = {}
    updates: dict[str, Update] = {}
    main_every: tuple[str, tuple[int, int]] | None = None
    for owner, schedule in owned:
        for update in schedule.updates:
            shared = _shared(update, groups, params)
            # A part of the model without parameters has nothing to share.
            unmet = [name for name in update.shares if not shared[name] and name not in params]
            for name in (*update.groups, *unmet):
                said = f"plugin '{owner}': update '{update.name}' steps the unknown group"
                check_known(name, groups, said)
            for name in update.groups:
                if name in homes:
                    raise ConflictError(
                        f"group '{name}' belongs to two updates, '{homes[name]}' and "
                        f"'{update.name}'; one of them has to share it (shares=...)"
                    )
                homes[name] = update.name
            terms = (f"{owner}/*",) if update.terms is None else update.terms
            shares = {g for names in shared.values() for g in names} - set(update.groups)
            updates[update.name] = replace(update, terms=terms, shares=tuple(sorted(shares)))
        if schedule.main_every is not None:
            if main_every is not None and main_every[1] != schedule.main_every:
                raise ConflictError(
                    f"plugins '{main_every[0]}' and '{owner}' want the main update at different "
                    f"steps, {main_every[1]} and {schedule.main_every} (period, offset)"
                )
            main_every = (owner, schedule.main_every)
    updates[MAIN] = Update(
        MAIN,
        groups=tuple(name for name in groups if name not in homes),
        passes=(MAIN_PASS,),
        terms=("*",),
        every=main_every[1] if main_every else (1, 0),
        after=(),
    )
    for owner, schedule in owned:
        for extra in sorted(schedule.passes, key=lambda p: p.name):
            said = f"plugin '{owner}': pass '{extra.name}' belongs to the unknown update"
            check_known(extra.update, updates, said)
            home = updates[extra.update]
            updates[extra.update] = replace(home, passes=(*home.passes, extra))
    return updates


def _shared(
    update: Update, groups: Mapping[str, Group], params: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return the groups that each pattern of an update's shares means.

    A pattern names groups, or parts of the model: for these it means whatever groups their
    parameters are in, since another plugin may have put them in one of its own.
    """
    homes = {name: group.name for group in groups.values() for name in group.parameters}
    found = {}
    for pattern in update.shares:
        parts = fnmatch.filter(params, pattern)
        holding = {homes[name] for part in parts for name in params[part]}
        found[pattern] = sorted({*fnmatch.filter(groups, pattern), *holding})
    return found


def _standing(updates: Mapping[str, Update]) -> dict[str, Update]:
    """Let updates come behind those on whose passes they stand, and check that they can."""
    homes = {p.name: (u.name, p) for u in updates.values() for p in u.passes if p.of is None}
    found = dict(updates)
    for name, update in updates.items():
        standing = [p for p in update.passes if p.of is not None]
        for one in standing:
            if one.of not in homes or homes[one.of][0] == name:
                raise PluginError(
                    f"pass '{one.name}' shows '{one.of}' again, which is no pass of another update"
                    f"{did_you_mean(str(one.of), homes)}"
                )
        if standing and (update.at_start or len(standing) < len(update.passes)):
            raise PluginError(
                f"update '{name}' shows passes of another update again, so all of its passes do, "
                "and it cannot be at_start"
            )
        if standing:
            bases = {homes[str(p.of)][0] for p in standing}
            passes = tuple(
                replace(homes[str(p.of)][1], name=p.name, update=name, of=p.of, detached=True)
                for p in standing
            )
            after = tuple(dict.fromkeys((*update.after, *sorted(bases))))
            found[name] = replace(update, passes=passes, after=after)
    return found


def _check_passes(
    updates: Iterable[Update], sources: set[str], params: Mapping[str, Sequence[str]]
) -> None:
    owners = {CORE, *(part.partition("/")[0] for part in params)}
    for update in updates:
        if not update.passes:
            raise PluginError(f"update '{update.name}' has no forward pass")
        for one in update.passes:
            check_known(one.source, sources, f"pass '{one.name}' runs on the unknown source")
            known = {*owners, DEPLOYED, one.name.partition("/")[0]}
            # A pattern of a plugin that happens to have no branch is none of a misspelt plugin.
            strangers = [p for p in one.branches if not fnmatch.filter(known, p.partition("/")[0])]
            if strangers and len(strangers) == len(one.branches):
                raise PluginError(
                    f"pass '{one.name}': branches = {one.branches} matches no branch"
                    f"{did_you_mean(strangers[0], {*params, *(f'{name}/*' for name in known)})}"
                )


def _in_order(updates: Mapping[str, Update]) -> list[Update]:
    before: dict[str, set[str]] = {name: set() for name in updates}
    for name, update in updates.items():
        for other in (*update.after, *update.before):
            check_known(other, updates, f"update '{name}' is to run beside the unknown update")
        before[name] |= set(update.after) - set(update.before)
        for other in update.before:
            before[other].add(name)
    circle = "updates come before each other in a circle"
    return [updates[name] for name in in_order(before, circle, ConflictError)]
