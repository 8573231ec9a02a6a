"""For tests: the toy data set, probe plugins, and the conformance suite for plugin authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_core.testing.conformance import (
        conformance_report as conformance_report,
        conformance_suite as conformance_suite,
    )
    from reid_core.testing.toy.making import make_toy as make_toy

_HOME = {
    "conformance_report": "reid_core.testing.conformance",
    "conformance_suite": "reid_core.testing.conformance",
    "make_toy": "reid_core.testing.toy.making",
}

__all__ = ["conformance_report", "conformance_suite", "make_toy"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reid_core.testing' has no attribute '{name}'")
