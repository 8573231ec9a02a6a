"""Manifests: what the plugins of a package offer, as a file in it, so that nothing is imported.

``reid_plugin.json`` stands in the package of a distribution's entry points. ``reid plugins
manifest`` writes it (`reid_core.runs.manifests`), and a check of the conformance suite keeps it
true. One of another version than the installed distribution counts as none. The package of a
plugin without one is imported in order to list what it offers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MANIFEST = "reid_plugin.json"

FORMAT = 1
"""Version of the file; one of another version counts as none."""


@dataclass(frozen=True)
class OfferedData:
    """A data set or training source: a `DataProvider` without what loads it.

    Args:
        name, kind, summary, fields, variants, sizes, needs_root, layout: as `DataProvider` has.
        makes: whether it is computed, so that `reid data make` can write it.
    """

    name: str
    kind: str = "dataset"
    summary: str = ""
    fields: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    needs_root: bool = False
    layout: str = ""
    makes: bool = False


@dataclass(frozen=True)
class Offers:
    """What a plugin offers by name.

    Args:
        datasets: data sets and training sources.
        backbones, poolings, protocols: names.
    """

    datasets: tuple[OfferedData, ...] = ()
    backbones: tuple[str, ...] = ()
    poolings: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of a kind: one of the attributes."""
        found = getattr(self, kind)
        return tuple(one.name if isinstance(one, OfferedData) else one for one in found)


KINDS = tuple(one.name for one in fields(Offers))
"""What is offered by name."""


@dataclass(frozen=True)
class Contents:
    """What a plugin consists of with its default settings.

    Args:
        target: ``module:Class``, as the entry point says.
        summary: one line.
        hooks: hooks that it implements.
        claims: slots that it takes.
        reads, makes: fields that it cannot do without, and fields that it makes.
        settings: keys of its section of the configuration.
        offers: what it offers by name.
    """

    target: str
    summary: str = ""
    hooks: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    offers: Offers = field(default_factory=Offers)


@dataclass(frozen=True)
class Manifest:
    """What a distribution consists of.

    Args:
        version: of the distribution that it describes.
        plugins: contents by plugin.
        commands: one line of help by command.
    """

    version: str
    plugins: Mapping[str, Contents] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the file's content: JSON, without what is empty."""
        return json.dumps({"format": FORMAT, **_filled(asdict(self))}, indent=2) + "\n"


def package_folder(target: str) -> Path | None:
    """Return the folder of the package that an entry point names, without importing it."""
    try:
        spec = find_spec(target.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return None
    roots = list(spec.submodule_search_locations or ()) if spec else []
    return Path(roots[0]) if roots else None


def recipe_files(target: str, plugin: str) -> dict[str, Path]:
    """Return the recipes of a plugin by name, ``plugin/name``, from the folder of its package.

    Args:
        target: its entry point's value.
        plugin: its name.
    """
    package = package_folder(target)
    found = (package / "recipes" / plugin).glob("*.toml") if package is not None else ()
    return {f"{plugin}/{path.stem}": path for path in sorted(found)}


def manifest_in(folder: Path, version: str) -> Manifest | None:
    """Return the manifest of a package.

    Args:
        folder: the package's.
        version: of the installed distribution.

    Returns:
        None where there is none, or none that describes this version.
    """
    try:
        stamp = os.stat(folder / MANIFEST).st_mtime_ns
    except OSError:
        return None
    found = _read(folder / MANIFEST, stamp)
    return found if found is not None and found.version == version else None


@lru_cache(maxsize=256)
def _read(path: Path, stamp: int) -> Manifest | None:
    try:
        return parsed(path.read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # What cannot be read counts as none: its package is imported.


def parsed(text: str) -> Manifest | None:
    """Return the manifest of a file's text; None where it is of another format."""
    content = json.loads(text, object_hook=_with_tuples)
    if content["format"] != FORMAT:
        return None
    plugins = {name: _contents(values) for name, values in content.get("plugins", {}).items()}
    return Manifest(content["version"], plugins, content.get("commands", {}))


def _contents(values: Mapping[str, Any]) -> Contents:
    offers = values.get("offers", {})
    datasets = tuple(OfferedData(**one) for one in offers.get("datasets", ()))
    return Contents(**{**values, "offers": Offers(**{**offers, "datasets": datasets})})


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is empty, and what is its default."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            value = _filled(value) if key != "commands" else dict(value)
        elif isinstance(value, tuple):
            value = [_filled(one) if isinstance(one, dict) else one for one in value]
        if value or key in ("version", "target"):
            found[key] = value
    if found.get("kind") == "dataset":
        del found["kind"]
    return found
