"""Tiny runs of the plugin, shared by its tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_core.loop.assembly import Assembly
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import tiny_assembly

TINY: dict[str, Any] = {"clustering": {"k1": 6, "k2": 3, "min_samples": 2}}
"""Neighbourhoods that fit 48 images."""

START = {"start": "random"}
"""Without the stage of the core, which most tests can do without."""


def unsup_cc(
    cache: Path,
    *others: str,
    settings: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    **sections: Any,
) -> Assembly:
    """Assemble a tiny run of the plugin, with settings over `TINY` and sections over the run's."""
    plugins = {"unsup_cc": {**TINY, **(settings or {})}, **sections.pop("plugins", {})}
    layers = {"plugins": plugins, **sections, "model": {**START, **sections.get("model", {})}}
    return tiny_assembly(("unsup_cc", *others), layers, cache=cache, classes=PROBES, folder=folder)
