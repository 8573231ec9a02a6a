"""Find plugins from installed metadata alone, and load only those that are asked for.

pluggy's own entry-point loader imports everything and skips the second of two equal names without
a word; one broken distribution would stop every command. Here nothing is imported to list, and a
plugin that is asked for and cannot be loaded is one clear error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from reid_core.errors import ConflictError, PluginError, did_you_mean, typed_reason
from reid_core.plugins.manifests import Contents, Manifest, manifest_in, package_folder

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
        requires: the versions of reid-core that it requires, ``>=0.4``; empty for any.
    """

    name: str
    target: str
    distribution: str
    version: str
    summary: str = ""
    requires: str = ""

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of its package, or None."""
        return None if self._folder is None else manifest_in(self._folder, self.version)

    @cached_property
    def _folder(self) -> Path | None:
        # Every run asks every plugin for what it offers, and the import path may be long.
        return package_folder(self.target)

    @property
    def contents(self) -> Contents | None:
        """What its manifest says of the plugin, or None."""
        manifest = self.manifest
        found = manifest.plugins.get(self.name) if manifest is not None else None
        return found if found is not None and found.target == self.target else None

    @property
    def unmet(self) -> str:
        """What keeps it from working with the installed core, in words; empty where nothing is."""
        core = metadata.version("reid-core")
        if not self.requires or SpecifierSet(self.requires).contains(core, prereleases=True):
            return ""
        return f"needs reid-core {self.requires}; installed {core}"

    @property
    def developed(self) -> bool:
        """Whether its source is used in place, so that it may be newer than its manifest."""
        try:
            text = metadata.distribution(self.distribution).read_text("direct_url.json")
            return bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))
        except (metadata.PackageNotFoundError, ValueError):
            return False


@dataclass(frozen=True)
class KnownPlugin:
    """A plugin of the catalogue, installed or not: what it does and the line that installs it.

    Args:
        name, distribution, summary: as `PluginRecord` has.
        offers: names that it offers, by kind (see `Offers`).
    """

    name: str
    distribution: str
    summary: str
    offers: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
        if canonicalize_name(title) in seen:
            continue  # the same distribution further back on the path
        seen.add(canonicalize_name(title))
        for entry in entries:
            summary = str(about.get("summary", ""))
            requires = _of_core(about.get("requires_dist", ()))
            record = PluginRecord(entry.name, entry.value, title, version, summary, requires)
            other = records.setdefault(entry.name, record)
            if other.distribution != record.distribution:
                raise ConflictError(
                    f"plugin '{entry.name}' is registered by two distributions, "
                    f"{other.distribution} {other.version} and {title} {version}; uninstall one "
                    "of them"
                )
    return dict(sorted(records.items()))


_OF_CORE = re.compile(r"reid[-_.]core *(\[[^]]*\])? *\(?(?P<versions>[<>=!~][^;()]*)", re.I)


def _of_core(requirements: Iterable[str]) -> str:
    """Return the versions of the core that a distribution requires, whatever its extras do."""
    found = (_OF_CORE.match(text) for text in requirements if "extra ==" not in text)
    return ",".join(match["versions"].strip() for match in found if match)


def oldest_core(distribution: str) -> str:
    """Return the oldest core that an installed distribution allows, ``reid-core==0.4``.

    Raises:
        PluginError: it is not installed, or does not say.
    """
    try:
        requires = _of_core(metadata.requires(distribution) or ())
    except metadata.PackageNotFoundError:
        raise PluginError(
            f"there is no distribution '{distribution}': pip install {distribution}"
        ) from None
    ends = [
        Version(one.version.removesuffix(".*"))
        for one in SpecifierSet(requires)
        if one.operator in (">=", "~=", "==")
    ]
    if not ends:
        raise PluginError(
            f"{distribution} does not say with which reid-core it begins to work "
            f"({requires or 'any'}): write 'reid-core>=VERSION' into the dependencies of its "
            "pyproject.toml, and install it anew"
        )
    return f"reid-core=={max(ends)}"


def core_record() -> PluginRecord:
    """Return the record of the core's own plugin, which no entry point names."""
    version = metadata.version("reid-core")
    return PluginRecord("core", "reid_core.defaults:Core", "reid-core", version)


def versions_of(plugins: Iterable[str]) -> dict[str, str]:
    """Return the version of each plugin, ``unpackaged`` where there is none, and the core's."""
    known = installed()
    found = {p: known[p].version if p in known else "unpackaged" for p in plugins if p != "core"}
    return {**found, "core": metadata.version("reid-core")}


@cache
def _known() -> dict[str, Any]:
    """Return what the project's distributions offer, installed or not: an extract of manifests."""
    text = resources.files("reid_core.plugins").joinpath("catalogue.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def catalogue() -> dict[str, KnownPlugin]:
    """Return the plugins that the project knows of, installed or not, by name."""
    found = {
        name: KnownPlugin(name, distribution, plugin["summary"], plugin.get("offers", {}))
        for distribution, content in _known().items()
        for name, plugin in content["plugins"].items()
    }
    return dict(sorted(found.items()))


def known_commands() -> dict[str, str]:
    """Return the distribution of every command that the project knows of, installed or not."""
    return {
        command: distribution
        for distribution, content in _known().items()
        for command in content["commands"]
    }


def known_offer(kind: str, name: str) -> KnownPlugin | None:
    """Return the plugin that offers a name, as the project knows, installed or not.

    Args:
        kind: ``datasets``, ``backbones``, ``poolings`` or ``protocols``.
        name: what is looked for.
    """
    return next((one for one in catalogue().values() if name in one.offers.get(kind, ())), None)


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
            needs another core, it fails to import, or it is no plugin.
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
        PluginError: it needs another core, it fails to import, or it is no plugin (with its
            distribution and version).
    """
    # The base class brings pydantic; listing plugins must not pay for it.
    from reid_core.contract.plugin import Plugin

    loaded = load_target(record, f"plugin '{record.name}'")
    if not (isinstance(loaded, type) and issubclass(loaded, Plugin)):
        where = f"plugin '{record.name}' ({record.distribution} {record.version}, {record.target})"
        raise PluginError(f"{where} is not a subclass of reid_core.Plugin")
    return loaded


def load_target(record: PluginRecord, what: str) -> Any:
    """Import what an entry point names.

    Args:
        record: the entry point.
        what: what it is, for the message.

    Raises:
        PluginError: it needs another core, or it fails to import; says where, or what is to be
            installed.
    """
    by = f"{record.distribution} {record.version}"
    if record.unmet:
        raise PluginError(
            f"{what} of {by} {record.unmet}: pip install --upgrade reid-core {record.distribution}"
        )
    try:
        return metadata.EntryPoint(record.name, record.target, "").load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{what} ({by}, {record.target}) cannot be imported: {typed_reason(error)}"
            f"{_remedy(record, error)}"
        ) from error


def _remedy(record: PluginRecord, error: BaseException) -> str:
    """Return what to install after a failed import, or where in the distribution it failed."""
    own = record.target.partition(":")[0].partition(".")[0]
    named = error.name if isinstance(error, ModuleNotFoundError) else None
    absent = (named or own).partition(".")[0]
    if absent not in sys.modules and find_spec(absent) is None:
        if absent == own:
            return f"; its files are gone: pip install --force-reinstall {record.distribution}"
        lacks = shlex.join(map(str, _unmet_requirements(record.distribution)))
        return "; it " + (
            f"lacks what it requires: pip install {lacks}"
            if lacks
            else f"does not say what brings '{absent}': install that, and tell its authors"
        )
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == own
    ]
    if isinstance(error, SyntaxError):
        places.append((str(error.filename), error.lineno or 1))
    return f", in {places[-1][0]}, line {places[-1][1]}" if places else ""


def _unmet_requirements(distribution: str) -> Iterator[Requirement]:
    """Yield what a distribution requires and is not installed, but for its extras."""
    for one in map(Requirement, metadata.requires(distribution) or ()):
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            try:
                metadata.version(one.name)
            except metadata.PackageNotFoundError:
                one.marker = None
                yield one
