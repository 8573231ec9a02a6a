"""Packages that import what they offer when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def on_first_use(package: str, **homes: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that imports what it offers on first use.

    In the ``__init__.py`` of a package with commands, so that their help does not wait for torch:
    ``__getattr__ = on_first_use(__name__, Centre="plugin")``.

    Args:
        package: its name.
        homes: by name what it offers, the module of the package that it stands in.
    """

    def look_up(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return look_up
