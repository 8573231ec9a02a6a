"""The public interface in lines: hooks with their signatures, public names with what they hold.

`interface_lines` makes ``interface.txt``. A change of it is written only when the core's changelog
names what changes, so that no author of a plugin meets it unannounced.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import reid_core
from reid_core.contract import hookspecs

INTERFACE = Path(__file__).with_name("interface.txt")

CHANGELOG = Path(__file__).resolve().parent.parent / "reid_core" / "CHANGELOG.md"


def interface_lines() -> str:
    """Return one line per hook, public name, and public attribute or method of a public type."""
    hooks = [f"{name}{inspect.signature(getattr(hookspecs, name))}" for name in hookspecs.HOOKS]
    names = [line for name in reid_core.__all__ for line in _lines(name, getattr(reid_core, name))]
    return "\n".join([*sorted(hooks), *names]) + "\n"


def unannounced(before: str, after: str, changelog: str) -> list[str]:
    """Return the names whose lines differ and that the newest section of the changelog lacks.

    Args:
        before, after: what `interface_lines` made.
        changelog: of the core; names stand in it between backticks.
    """
    changed = {_name(line) for line in {*before.splitlines()} ^ {*after.splitlines()}}
    newest = re.split(r"^## ", changelog, flags=re.MULTILINE)[1]
    named = {word for code in re.findall(r"`([^`]+)`", newest) for word in re.findall(r"\w+", code)}
    return sorted(changed - named)


def _name(line: str) -> str:
    return re.split(r"\W", line, maxsplit=1)[0]


def _lines(name: str, value: Any) -> Iterator[str]:
    if not inspect.isclass(value):
        made = inspect.isfunction(value)
        yield f"{name}{inspect.signature(value)}" if made else f"{name}: {type(value).__name__}"
        return
    bases = ", ".join(base.__name__ for base in value.__bases__)
    if issubclass(value, Enum):
        yield f"{name}({bases}): {', '.join(member.name for member in value)}"
        return
    yield f"{name}({bases})"
    for attribute, kind in sorted(vars(value).get("__annotations__", {}).items()):
        if not attribute.startswith("_"):
            default = vars(value).get(attribute, inspect.Parameter.empty)
            plain = isinstance(default, str | int | float | bool | tuple | None)
            shown = f" = {default!r}" if plain else ""
            yield f"{name}.{attribute}: {kind}{shown}"
    for member, content in sorted(vars(value).items()):
        if member.startswith("_") and member != "__init__":
            continue
        if member in vars(value).get("__annotations__", {}):
            continue  # a default that is a function
        if isinstance(content, property):
            yield f"{name}.{member}: property"
        elif inspect.isfunction(content) and not (member == "__init__" and is_dataclass(value)):
            yield f"{name}.{member}{inspect.signature(content)}"
