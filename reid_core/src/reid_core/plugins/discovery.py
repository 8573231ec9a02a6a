"""Find plugins from installed metadata alone, and load only those that are asked for.

pluggy's own entry-point loader imports everything and skips the second of two equal names without
a word; one broken distribution would stop every command. Here nothing is imported to list, and a
plugin that is asked for and cannot be loaded is one clear error.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata, resources
from typing import TYPE_CHECKING

from reid_core.errors import ConflictError, PluginError, did_you_mean

if TYPE_CHECKING:
    from reid_core.contract.plugin import Plugin

PLUGIN_GROUP = "reid.plugins"
COMMAND_GROUP = "reid.commands"


@dataclass(frozen=True)
class PluginRecord:
    """An installed plugin, as its distribution's metadata tells.

    Args:
        name: the entry point's name.
        target: ``module:Class``.
        distribution, version: who brings it.
        summary: the distribution's one-line description.
    """

    name: str
    target: str
    distribution: str
    version: str
    summary: str = ""


@dataclass(frozen=True)
class KnownPlugin:
    """A plugin of the catalogue, installed or not: what it does and the line that installs it."""

    name: str
    distribution: str
    summary: str

    @property
    def install(self) -> str:
        """The line that installs it."""
        return f"pip install {self.distribution}"


def installed(group: str = PLUGIN_GROUP) -> dict[str, PluginRecord]:
    """Return the installed plugins (or commands) by name, without importing any.

    Raises:
        ConflictError: two distributions register the same name.
    """
    return dict(_registered(group, _stamp()))


def _stamp() -> tuple[tuple[str, int], ...]:
    """Return what changes when a distribution comes or goes: the import path and its folders."""
    found = []
    for folder in sys.path:
        try:
            found.append((folder, os.stat(folder or ".").st_mtime_ns))
        except OSError:
            found.append((folder, 0))
    return tuple(found)


@lru_cache(maxsize=8)
def _registered(group: str, stamp: tuple[tuple[str, int], ...]) -> dict[str, PluginRecord]:
    """Read the metadata of all distributions; a run asks for the same again and again."""
    records: dict[str, PluginRecord] = {}
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            entries = distribution.entry_points.select(group=group)
            if not entries:
                continue
            about = distribution.metadata.json
            title, version = str(about["name"]), distribution.version
        except (ValueError, KeyError, TypeError, OSError):
            # Metadata that cannot be read: what it registers cannot be known, all others can.
            continue
        if title.lower() in seen:
            continue  # the same distribution further back on the path
        seen.add(title.lower())
        for entry in entries:
            summary = str(about.get("summary", ""))
            record = PluginRecord(entry.name, entry.value, title, version, summary)
            other = records.setdefault(entry.name, record)
            if other.distribution != record.distribution:
                raise ConflictError(
                    f"plugin '{entry.name}' is registered by two distributions, "
                    f"{other.distribution} {other.version} and {title} {version}; uninstall one "
                    "of them"
                )
    return dict(sorted(records.items()))


def versions_of(plugins: Iterable[str]) -> dict[str, str]:
    """Return the version of each plugin, ``unpackaged`` where there is none, and the core's."""
    known = installed()
    found = {p: known[p].version if p in known else "unpackaged" for p in plugins if p != "core"}
    return {**found, "core": metadata.version("reid-core")}


@cache
def catalogue() -> dict[str, KnownPlugin]:
    """Return the plugins that the project knows of, installed or not, by name."""
    text = resources.files("reid_core.plugins").joinpath("catalogue.toml").read_text("utf-8")
    return {
        name: KnownPlugin(name, entry["distribution"], entry["summary"])
        for name, entry in sorted(tomllib.loads(text).items())
    }


@cache
def known_commands() -> dict[str, str]:
    """Return the distribution of every command that the project knows of, installed or not."""
    text = resources.files("reid_core.plugins").joinpath("commands.toml").read_text("utf-8")
    return {
        command: distribution
        for distribution, commands in tomllib.loads(text).items()
        for command in commands
    }


def _not_there(known: KnownPlugin) -> str:
    try:
        version = metadata.version(known.distribution)
    except metadata.PackageNotFoundError:
        return f"plugin '{known.name}' is not installed: {known.install}"
    return (
        f"{known.distribution} {version} is installed but brings no plugin '{known.name}' yet; "
        f"a newer version may: {known.install} --upgrade"
    )


def load_class(name: str) -> type[Plugin]:
    """Import one plugin's class by its name.

    Raises:
        PluginError: it is not installed (with the nearest name and the line that installs it), it
            fails to import, or it is no plugin (with its distribution and version).
    """
    records = installed()
    record = records.get(name)
    if record is None:
        known = catalogue().get(name)
        if known is not None:
            raise PluginError(_not_there(known))
        hint = did_you_mean(name, [*records, *catalogue()])
        listed = ", ".join(records) or "none"
        raise PluginError(f"there is no plugin '{name}'{hint} (installed: {listed})")
    return load_recorded(record)


def load_recorded(record: PluginRecord) -> type[Plugin]:
    """Import an installed plugin's class.

    Raises:
        PluginError: it fails to import, or it is no plugin (with its distribution and version).
    """
    # The base class brings pydantic; listing plugins must not pay for it.
    from reid_core.contract.plugin import Plugin

    where = f"plugin '{record.name}' ({record.distribution} {record.version}, {record.target})"
    module, _, attribute = record.target.partition(":")
    try:
        loaded = metadata.EntryPoint(record.name, f"{module}:{attribute}", PLUGIN_GROUP).load()
    except Exception as error:
        raise PluginError(
            f"{where} cannot be imported: {type(error).__name__}: "
            f"{' '.join(str(error).split())}; "
            f"reinstall it with: pip install --force-reinstall {record.distribution}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Plugin)):
        raise PluginError(f"{where} is not a subclass of reid_core.Plugin")
    return loaded
