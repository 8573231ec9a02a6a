"""Old paths of modules: what stood there is still found there, with a warning.

Nothing of this is imported by the core itself. An old path is a module without content that looks
up whatever is asked of it where it stands now. `moved.json` lists the paths, and
the names that left a module that is still there.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_MOVED = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))

MODULES: Mapping[str, Sequence[str]] = _MOVED["modules"]
"""Old path to the modules that have its content now; a folder of old modules has none.

Modules of the core stand first: what they have is there without any other distribution.
"""

NAMES: Mapping[str, Mapping[str, str]] = _MOVED["names"]
"""Module that is still there to the names that left it, and the module where each is now, with
``:NAME`` where it is called otherwise."""


class OldModule(ModuleType):
    """A module that has moved: its names are looked up in its new places."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for place in MODULES[self.__name__]:
                found = _imported(self.__name__, place)
                if hasattr(found, name):
                    _warn(self.__name__, name, place)
                    return getattr(found, name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


class _Finder(MetaPathFinder, Loader):
    """Find old paths; asked last, after everything that is really there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        folder = any(old.startswith(f"{fullname}.") for old in MODULES)
        return ModuleSpec(fullname, self, is_package=folder)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""


def former_name(module: str, name: str) -> Any:
    """Return what a module, a key of `NAMES`, was asked for and some other one has now."""
    place = NAMES[module].get(name)
    if place is None:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    place, _, renamed = place.partition(":")
    found = getattr(_imported(module, place), renamed or name)
    _warn(module, name, place, renamed)
    return found


def answer_former_names(module: str) -> None:
    """Let a module, which calls this as it is imported, answer to the names that have left it."""
    vars(sys.modules[module])["__getattr__"] = partial(former_name, module)


def install() -> None:
    """Let old paths be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def _imported(old: str, place: str) -> ModuleType:
    """Import a new place; it may have left for a distribution that is not installed."""
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        package = place.partition(".")[0]
        if error.name != package:
            raise
        distribution = package.replace("_", "-")
        raise ImportError(
            f"{old} is part of {distribution} now, which is not installed: "
            f"pip install {distribution}"
        ) from None


def _warn(old: str, name: str, place: str, renamed: str = "") -> None:
    public = (renamed or name) in import_module("reid_core").__all__
    called = f"{renamed} " if renamed else ""
    advice = (
        f"from reid_core import {renamed or name}" if public else f"it is {called}in {place} now"
    )
    warnings.warn(f"{old}.{name} is deprecated: {advice}", DeprecationWarning, stacklevel=3)
