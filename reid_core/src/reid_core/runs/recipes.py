"""Recipes: configuration by name or file, one standing on another."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_core.contract.plugin import CORE
from reid_core.errors import ConfigError, did_you_mean
from reid_core.plugins.discovery import catalogue, core_record, installed
from reid_core.plugins.manifests import recipe_files


def load_recipe(name: str, over: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a recipe: ``plugin/name`` from a plugin's package, or a path to a TOML file.

    Several are joined by ``+``, and later ones rule: ``fsam/prcc+one_way`` is ``fsam/prcc`` with
    what ``fsam/one_way`` changes. A recipe may stand on another one, which it names first:
    ``base = "pcb/market1501"``, or a file beside it. What it says itself rules.

    Args:
        name: the recipe.
        over: recipes that stand on this one, the first one first.

    Raises:
        ConfigError: there is no such recipe (with those that there are), it is not TOML, or it
            stands on itself.
    """
    if name in over:
        raise ConfigError(f"recipes stand on each other in a circle: {' -> '.join((*over, name))}")
    path = Path(name)
    if "+" in name and not path.is_file():
        return merged_layers(*(load_recipe(part, (*over, name)) for part in _joined(name)))
    if path.suffix != ".toml":
        path = _packaged_recipe(name)
    try:
        content = tomllib.loads(path.read_text("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise ConfigError(f"there is no recipe file {path}") from None
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not valid TOML: {error}") from None
    base = content.pop("base", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ConfigError(f"recipe {path}: base must name one recipe (given: {base!r})")
    if base.endswith(".toml"):
        base = str(path.parent / base)
    try:
        return merged_layers(load_recipe(base, (*over, name)), content)
    except ConfigError as error:
        raise ConfigError(f"recipe '{name}' stands on '{base}': {error}") from None


def _joined(name: str) -> list[str]:
    """Return the recipes that ``+`` joins; one without a plugin's name is of the one before."""
    parts: list[str] = []
    owner = ""
    for part in name.split("+"):
        packaged = not part.endswith(".toml")
        parts.append(f"{owner}/{part}" if packaged and "/" not in part else part)
        owner = parts[-1].partition("/")[0] if packaged else owner
    return parts


def _packaged_recipe(name: str) -> Path:
    owner, _, title = name.partition("/")
    record = core_record() if owner == CORE else installed().get(owner)
    known = catalogue().get(owner)
    if record is None and title and known is not None:
        raise ConfigError(f"recipe '{name}': plugin '{owner}' is not installed: {known.install}")
    if record is None or not title:
        raise ConfigError(
            f"recipe '{name}': expected PLUGIN/NAME of an installed plugin "
            f"({', '.join([CORE, *installed()])}) or a path to a .toml file"
        )
    there = recipe_files(record.target, owner)
    if name not in there:
        near = did_you_mean(name, there)
        raise ConfigError(
            f"there is no recipe '{name}'{near} ({', '.join(there) or 'it has none'})"
        )
    return there[name]


def merged_layers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested configuration in one; what comes later rules."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = merged_layers(merged[key], value) if both else value
    return merged
