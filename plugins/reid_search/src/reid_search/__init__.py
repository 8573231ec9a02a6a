"""What follows a run: embed, search, calibrate, compare, report.

One room per job, and no room imports a command:

- `models`: MODEL, as every command takes it;
- `gallery/`: the folder of vectors and items, and the search in it;
- `embedding/`: pictures, crops and videos into a gallery, on one process or many;
- `engines/`: galleries in the form that other engines load or answer from;
- `calibration/`: which similarity shows the same person;
- `sweeping/`: runs that differ in a few settings, here or on a cluster;
- `efficiency`: what an embedder costs;
- `comparing/`, `reporting/`, `hub/`, `hosts/`: what one does with finished runs;
- `commands/`: one module per command, named in the entry points ``reid.commands``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_search.gallery.gallery import Found as Found, Gallery as Gallery
    from reid_search.models import open_model as open_model, resolve_model as resolve_model

_HOME = {
    "Found": "reid_search.gallery.gallery",
    "Gallery": "reid_search.gallery.gallery",
    "open_model": "reid_search.models",
    "resolve_model": "reid_search.models",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reid_search' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
