"""Owned names: ``owner/name``, so that nothing of one plugin can be taken for another's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from reid_core.errors import ConflictError, PluginError, ReidError, did_you_mean, with_choices

_NAME = re.compile(r"[A-Za-z0-9_\-]+(/[A-Za-z0-9_\-]+)+")


def check_owned(owner: str, kind: str, name: str) -> None:
    """Refuse a name outside its owner's space.

    Args:
        owner: the plugin that declares the name.
        kind: what is named, for the message.
        name: ``owner/name``; letters, digits, ``_`` and ``-`` between slashes.

    Raises:
        PluginError: the name is malformed or starts with another owner.
    """
    if not _NAME.fullmatch(name) or name.partition("/")[0] != owner:
        proposed = f"{owner}/{name.rpartition('/')[2]}"
        fits = _NAME.fullmatch(proposed)
        rule = f"'{owner}/' and then letters, digits, '_' or '-'"
        advice = f"call it '{proposed}'" if fits else f"a name is {rule}"
        raise PluginError(f"plugin '{owner}': {kind} '{name}' is outside its own names; {advice}")


def check_declared(kind: str, owned: Sequence[tuple[str, str]]) -> None:
    """Refuse names outside their owners' spaces, and names that are declared twice.

    Args:
        kind: what is named, for the message.
        owned: pairs of owner and name.

    Raises:
        PluginError: see `check_owned`.
        ConflictError: see `check_unique`.
    """
    for owner, name in owned:
        check_owned(owner, kind, name)
    check_unique(kind, owned)


def check_unique(kind: str, owned: Iterable[tuple[str, str]]) -> None:
    """Refuse a name that is declared twice.

    Args:
        kind: what is named, for the message.
        owned: pairs of owner and name.

    Raises:
        ConflictError: naming both owners.
    """
    seen: dict[str, str] = {}
    for owner, name in owned:
        if name in seen:
            both = f"'{seen[name]}' and '{owner}'" if seen[name] != owner else f"'{owner}' twice"
            raise ConflictError(f"{kind} '{name}' is declared by {both}")
        seen[name] = owner


def check_known(
    name: str, known: Collection[str], said: str, error: type[ReidError] = PluginError
) -> None:
    """Refuse a name that nobody has, with the nearest one that somebody has.

    Args:
        name: what is looked up.
        known: the names that there are.
        said: what stands before the name in the message.
        error: what is raised.
    """
    if name not in known:
        raise error(f"{said} '{name}'{did_you_mean(name, known)}")


def check_choice(
    name: str, known: Collection[str], said: str, error: type[ReidError] = PluginError
) -> None:
    """Refuse a name that nobody has, with the nearest one that somebody has and all there are.

    Args:
        name, known, said, error: as of `check_known`.
    """
    if name not in known:
        raise error(with_choices(f"{said} '{name}'", name, known))


def in_order(
    before: Mapping[str, Iterable[str]], circle: str, error: type[ReidError] = PluginError
) -> list[str]:
    """Return names, each behind those before it and otherwise sorted, whoever was named first.

    Args:
        before: names that come before every name.
        circle: what is wrong where names come before each other, for the message.
        error: raised then.
    """
    sorter = TopologicalSorter({name: sorted(others) for name, others in before.items()})
    try:
        sorter.prepare()
    except CycleError as found:
        raise error(f"{circle}: {' -> '.join(found.args[1])}") from None
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return ordered
