"""Let torchvision be imported where its binary does not load beside the installed torch.

A CPU build of torch beside torchvision's CUDA wheel raises ``operator torchvision::nms does not
exist`` at ``import torchvision``, and so at ``import timm``. Only detection operators are missing;
declaring their schemas lets everything else work. ``import reid_core`` installs the guard, which
imports nothing by itself: whoever imports timm afterwards need not know of it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_GUARDED = "torchvision"

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []
"""Keeps the declarations alive: they vanish with their library object."""


class _Finder:
    """Finds torchvision where it is, and lets it be executed again with the schemas it lacks."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's own spec; None for every other module."""
        if name != _GUARDED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = partial(_execute, spec.loader.exec_module)
            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Guard the first import of torchvision in this process, whoever asks for it."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def ensure() -> None:
    """Import torchvision; what this was for happens at every import of it now."""
    install()
    import_module(_GUARDED)


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Execute torchvision, as it is and then with one schema more each time that it lacks one."""
    for schema in (None, *_SCHEMAS):
        if schema is not None:
            _declare(schema)
        try:
            execute(module)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
        else:
            break
    else:
        raise ImportError(
            "torchvision does not load beside this torch; install the pair that constraints.txt "
            "names"
        )
    if schema is not None:
        warnings.warn(
            "torchvision's binary does not load beside this build of torch; its detection "
            "operators (nms) are unavailable, everything else works",
            stacklevel=2,
        )


def _declare(schema: str) -> None:
    """Declare an operator; what the failed import has left half done is imported anew."""
    for name in [n for n in sys.modules if n.startswith(f"{_GUARDED}.")]:
        del sys.modules[name]
    library = import_module("torch").library.Library(_GUARDED, "FRAGMENT")
    _libraries.append(library)
    library.define(schema)
