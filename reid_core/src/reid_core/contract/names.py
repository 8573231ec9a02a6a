"""Owned names: ``owner/name``, so that nothing of one plugin can be taken for another's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reid_core.errors import ConflictError, PluginError

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
