"""Words and names in declarations: checked where they are declared, with the nearest right one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from reid_core.errors import DeclarationError, UnknownNameError, did_you_mean, with_choices

T = TypeVar("T")


def words_of(literal: Any) -> tuple[str, ...]:
    """Return the words of a ``Literal``."""
    return tuple(get_args(literal))


def check_word(declared: object, attribute: str, words: Iterable[str]) -> None:
    """Refuse an attribute whose value is none of some words.

    Args:
        declared: the declaration; its class and its name stand in the message.
        attribute: of the declaration.
        words: what it may be.

    Raises:
        DeclarationError: with the words, and the nearest one.
    """
    value, known = getattr(declared, attribute), list(words)
    if not isinstance(value, str) or value not in known:
        near = did_you_mean(value.lower(), known) if isinstance(value, str) else ""
        listed = ", ".join(known)
        raise DeclarationError(
            f"{_titled(declared)}: {attribute} = {value!r} is none of {listed}{near}"
        )


def check_names(declared: object, *attributes: str) -> None:
    """Refuse a string where several names are meant: Python would take it for its letters.

    Raises:
        DeclarationError: with the tuple that was meant.
    """
    for attribute in attributes:
        value = getattr(declared, attribute)
        if isinstance(value, str):
            raise DeclarationError(
                f"{_titled(declared)}: {attribute} = {value!r} is one string where names are "
                f"meant; write {attribute}=({value!r},)"
            )


def check_not_bare(declared: object, attribute: str, kind: type) -> None:
    """Refuse one declaration where several are meant.

    Raises:
        DeclarationError: with what was meant.
    """
    if isinstance(getattr(declared, attribute), kind):
        raise DeclarationError(
            f"{_titled(declared)}: {attribute} is a bare {kind.__name__}; write {attribute}=(...,)"
        )


def several(owner: str, attribute: str, value: Any, kind: type[T]) -> tuple[T, ...]:
    """Return what a plugin declares several of.

    Args:
        owner: the plugin.
        attribute: of the plugin.
        value: its value.
        kind: what each must be.

    Raises:
        DeclarationError: it is a bare one, or one of them is something else.
    """
    if isinstance(value, kind):
        raise DeclarationError(
            f"plugin '{owner}': {attribute} is a bare {_shown(value)}; write {attribute} = "
            f"({_shown(value)},)"
        )
    try:
        found = tuple(value)
    except TypeError:
        raise DeclarationError(
            f"plugin '{owner}': {attribute} must be a tuple of {kind.__name__}, got {value!r}"
        ) from None
    for item in found:
        if not isinstance(item, kind):
            raise DeclarationError(
                f"plugin '{owner}': {attribute} must hold {kind.__name__} alone, got {item!r}"
            )
    return found


class ByName(dict[str, T]):
    """A mapping whose missing names are answered in one line.

    ``[name]`` raises an `UnknownNameError`, which is a ``KeyError``, too; ``get`` and ``in`` are
    those of any mapping.

    Args:
        values: by name.
        kind: what they are (``pass``).
        where: whose they are (``update 'main'``).
        remedy: what else to do.
    """

    def __init__(self, values: Any = (), kind: str = "value", where: str = "", remedy: str = ""):
        super().__init__(values)
        self.kind, self.where, self.remedy = kind, where, remedy

    def __missing__(self, name: str) -> T:
        raise unknown_name(name, self, self.kind, self.where, self.remedy)


def unknown_name(
    name: str, known: Iterable[str], kind: str, where: str = "", remedy: str = ""
) -> UnknownNameError:
    """Return the error about a name that nobody gave."""
    has = f"{where} has no {kind}" if where else f"there is no {kind}"
    after = f"; {remedy}" if remedy else ""
    return UnknownNameError(with_choices(f"{has} '{name}'", str(name), sorted(known)) + after)


def _titled(declared: object) -> str:
    name = getattr(declared, "name", None)
    title = type(declared).__name__
    return f"{title} '{name}'" if isinstance(name, str) and name else title


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else type(value).__name__ + "(...)"
