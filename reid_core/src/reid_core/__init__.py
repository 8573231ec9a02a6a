"""reid-core: person re-identification whose papers are plugins that compose.

Everything public stands in `__init__.pyi`; modules are imported on first use, so that
``import reid_core`` stays light enough for discovery.
"""

from __future__ import annotations

import ast
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from reid_core import moved, torchvision_guard


def _listed() -> dict[str, str]:
    """Return the modules of the public names, as the stub lists them."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = (line for line in stub.body if isinstance(line, ast.ImportFrom))
    return {alias.name: str(line.module) for line in imports for alias in line.names}


_MODULES = _listed()

__all__ = sorted(_MODULES)
__version__ = metadata.version("reid-core")

moved.install()
torchvision_guard.install()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'reid_core' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
