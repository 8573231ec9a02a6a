"""Resolve recipe, plugin defaults and flags into one frozen configuration, before any effect.

Later layers rule: the core's defaults, ``core/quick`` (where the user names no recipe), what the
plugins cannot work without, the named recipe, the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reid_core.config import RunConfig, known_keys, located
from reid_core.contract.plugin import CORE, Plugin
from reid_core.errors import ConfigError, ConflictError, PluginError, did_you_mean
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import core_record, installed, load_class, load_recorded
from reid_core.runs.recipes import load_recipe, merged_layers
from reid_core.weights import description_of, shipped_weights

DEFAULT_RECIPE = "core/quick"

_SHIPPED, _ENCODER = "shipped", "resnet18"
"""Value that stands for what is installed, and the encoder where nothing is."""

OPEN_SECTIONS = ("loss_weights", "own", "labels", "fields", "sources")
"""Sections whose keys are names (of terms, slots, fields), so that any key is possible."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Resolved:
    """A configuration with the plugin instances that it names and their hook calls."""

    config: RunConfig
    plugins: Mapping[str, Plugin]
    calls: HookCalls

    def renewed(self) -> Resolved:
        """Return the same with new instances of all plugins, which know of no run yet."""
        fresh = {name: type(plugin)(name, plugin.settings) for name, plugin in self.plugins.items()}
        return Resolved(self.config, fresh, HookCalls(fresh))


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    recipe: str | Mapping[str, Any] | None = None,
    classes: Mapping[str, type[Plugin]] | None = None,
) -> Resolved:
    """Resolve a configuration.

    Args:
        flags: nested sections that rule over everything (the command line).
        recipe: ``plugin/name``, a path to a TOML file, its content, or None for ``core/quick``.
        classes: plugin classes by name that need no entry point (tests, notebooks).

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value out of range.
        ConflictError: two plugins want the same key or slot.
        PluginError: a plugin that is missing or broken.
    """
    flags = dict(flags or {})
    base = load_recipe(DEFAULT_RECIPE) if recipe is None else {}
    named = load_recipe(recipe) if isinstance(recipe, str) else dict(recipe or {})
    chosen = merged_layers(base, named, flags)
    _check_tables(chosen)
    if recipe is None and chosen.get("data", {}).get("root") is not None:
        # Its short epochs are for the drawn people: on the user's own files one goes through them.
        base["schedule"].pop("iterations_per_epoch", None)
    listed = chosen.get("run", {}).get("plugins", ())
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"run.plugins: must be a list of names (given: {listed!r})")
    names = tuple(dict.fromkeys(listed))
    sections = chosen.get("plugins", {})
    for name, values in sections.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"plugins.{name}: must be a section of settings (given: {values!r})")
        if name not in names:
            near = did_you_mean(name, [*names, *RunConfig.model_fields])
            if name in installed():
                near = f"; request it, too: --plugins {','.join([*names, name])}"
            raise ConfigError(
                f"'{name}' is neither a section nor a requested plugin{near} "
                f"(requested: {', '.join(names) or 'none'})"
            )
    plugins = _instances(names, sections, classes or {})
    wishes = _wishes(plugins, merged_layers(named, flags))
    merged = merged_layers(base, wishes, named, flags)
    # A stored configuration, resumed as a recipe, keeps the name of the recipe that it came from.
    stored = named.get("run", {}).get("recipe")
    title = recipe if isinstance(recipe, str) else DEFAULT_RECIPE
    merged.setdefault("run", {})["recipe"] = stored or title
    merged["run"]["plugins"] = sorted(names)
    merged["plugins"] = {
        name: plugin.settings.model_dump(mode="json")
        for name, plugin in plugins.items()
        if name != CORE
    }
    merged["model"] = with_shipped(merged.get("model", {}))
    config = located(validated(RunConfig, merged))
    for plugin in plugins.values():
        plugin.check(config)
    return Resolved(config, plugins, HookCalls(plugins))


def with_shipped(model: Mapping[str, Any]) -> dict[str, Any]:
    """Replace ``shipped`` in a section ``[model]`` by what installed distributions ship.

    As ``backbone`` it is the encoder of the first embedder, or ``resnet18``; as ``pretrained`` the
    weights of the encoder's own name, or False.
    """
    found = dict(model)
    if _SHIPPED not in (found.get("backbone"), found.get("pretrained")):
        return found
    names = {
        name.rpartition("/")[2]: name
        for name, path in shipped_weights().items()
        if "encoder" in description_of(path)
    }
    if found.get("backbone") == _SHIPPED:
        found["backbone"] = next(iter(names), _ENCODER)
    if found.get("pretrained") == _SHIPPED:
        found["pretrained"] = names.get(str(found.get("backbone")), False)
    return found


def validated(model: type[M], values: Mapping[str, Any], prefix: str = "") -> M:
    """Validate a mapping and turn pydantic's report into one line.

    Raises:
        ConfigError: naming the key, what is wrong, and the nearest known key.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first, more = _foremost(error.errors())
        key = prefix + ".".join(_parts(first["loc"]))
        tail = f" (and {more} more)" if more else ""
        if first["type"] == "extra_forbidden":
            near = _nearest(key, [f"{prefix}{k}" for k in known_keys(model)])
            raise ConfigError(f"unknown key '{key}'{near}{tail}") from None
        message = first["msg"].removeprefix("Value error, ")
        given = "" if not first["loc"] else f" (given: {first['input']!r})"
        raise ConfigError(f"{key}: {message}{given}{tail}" if key else f"{message}{tail}") from None


def _foremost(errors: Sequence[Any]) -> tuple[Any, int]:
    """Return the error to tell, and at how many other keys there are some.

    Of a key that takes several kinds of value pydantic tells what is wrong with each kind: a value
    that is no word is not to be told of the words.
    """
    first = errors[0]
    key = _parts(first["loc"])
    same = [one for one in errors if _parts(one["loc"])[: len(key)] == key]
    if not isinstance(first["input"], str):
        first = next((one for one in same if one["type"] != "literal_error"), first)
    return first, len(errors) - len(same)


def _parts(place: Sequence[Any]) -> list[str]:
    """Return a place without pydantic's names of the kinds of a union, ``tuple[...]``."""
    return [str(part) for part in place if "[" not in str(part)]


def _nearest(key: str, known: Sequence[str]) -> str:
    leaf = key.rpartition(".")[2]
    by_leaf = [k for k in known if k.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or by_leaf[:1]
    if not near:
        leaves = {k.rpartition(".")[2]: k for k in known}
        near = [leaves[m] for m in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    return f"; did you mean '{near[0]}'?" if near else ""


def _check_tables(values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if not isinstance(value, Mapping):
            near = _nearest(key, [*RunConfig.model_fields, *known_keys()])
            raise ConfigError(f"unknown key '{key}'{near}; every key belongs to a section")


def _instances(
    names: Sequence[str],
    sections: Mapping[str, Mapping[str, Any]],
    classes: Mapping[str, type[Plugin]],
) -> dict[str, Plugin]:
    plugins: dict[str, Plugin] = {CORE: load_recorded(core_record())(CORE)}
    loaded: dict[str, type[Plugin]] = {}
    problems: list[str] = []
    for name in sorted(names):
        if name == CORE:
            raise PluginError(f"'{CORE}' is the core's own plugin and always present")
        try:
            loaded[name] = classes.get(name) or load_class(name)
        except PluginError as error:
            problems.append(str(error))
    if problems:
        raise PluginError("; ".join(problems))
    for name, cls in loaded.items():
        settings = located(validated(cls.Settings, sections.get(name, {}), f"plugins.{name}."))
        plugins[name] = cls(name, settings)
    return plugins


def _wishes(plugins: Mapping[str, Plugin], ruled: Mapping[str, Any]) -> dict[str, Any]:
    wanted: dict[str, tuple[str, Any]] = {}
    nested: dict[str, Any] = {}
    for name, plugin in plugins.items():
        for key, value in plugin.defaults.items():
            if key not in known_keys() and key.partition(".")[0] not in OPEN_SECTIONS:
                raise PluginError(
                    f"plugin '{name}' wants the unknown key '{key}'{_nearest(key, known_keys())}"
                )
            section, _, leaf = key.partition(".")
            if leaf in ruled.get(section, {}):
                continue
            other = wanted.setdefault(key, (name, value))
            if other[1] != value:
                raise ConflictError(
                    f"plugins '{other[0]}' and '{name}' need different values of {key}: "
                    f"{other[1]!r} and {value!r}; choose one with -s {key}=VALUE"
                )
            nested.setdefault(section, {})[leaf] = value
    return nested
