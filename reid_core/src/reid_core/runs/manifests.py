"""Make manifests: import the plugins of a distribution and write down what they consist of."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click
from packaging.utils import canonicalize_name

from reid_core.config import known_keys
from reid_core.contract.hookspecs import HOOKS
from reid_core.contract.plugin import CONDITIONS
from reid_core.errors import PluginError, did_you_mean
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import (
    COMMAND_GROUP,
    PluginRecord,
    core_record,
    installed,
    load_recorded,
    load_target,
)
from reid_core.plugins.manifests import MANIFEST, Contents, Manifest, package_folder
from reid_core.plugins.offers import offers_of
from reid_core.runs.finding import open_context


def contents_of(record: PluginRecord, summary: str = "") -> Contents:
    """Import a plugin and return what it consists of with its default settings.

    What it makes is what it offers in a run on the toy data, which carry fields of every kind.

    Args:
        record: the plugin.
        summary: one line; empty takes the first one of the class's docstring.

    Raises:
        ReidError: it cannot be imported, or does not keep to the contract.
    """
    plugin = load_recorded(record)(record.name)
    calls = HookCalls({record.name: plugin})
    labelers = []
    if calls.implementers("reid_pseudo_labels"):
        ctx, _ = open_context({"data": {"name": "toy:tiny"}}, say=lambda line: None)
        labelers = [labeler for _, labeler in calls.pseudo_labels(ctx)]
    made = {labeler.spec.name for labeler in labelers}
    read = {name for labeler in labelers for name in labeler.reads}
    read |= {need.what for need in plugin.needs if need.what not in CONDITIONS}
    read |= {name for request in plugin.sources for name in request.fields}
    first_line = (type(plugin).__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Contents(
        record.target,
        summary or first_line,
        hooks=tuple(hook for hook in HOOKS if hasattr(plugin, hook)),
        claims=tuple(sorted(plugin.claims)),
        reads=tuple(sorted(read)),
        makes=tuple(sorted(made)),
        settings=tuple(sorted(known_keys(plugin.Settings))),
        offers=offers_of(calls),
    )


def manifests_of(distribution: str) -> dict[Path, Manifest]:
    """Import the plugins and commands of a distribution and return its manifests.

    Args:
        distribution: an installed one, as pip calls it.

    Returns:
        The manifest of every package that its entry points name, by the file where it belongs;
        modules of no package have none.

    Raises:
        PluginError: it is not installed or has no plugins and commands, or one cannot be imported.
    """
    groups = (installed(), installed(COMMAND_GROUP))
    plugins, commands = (
        [one for one in group.values() if _same(one.distribution, distribution)] for group in groups
    )
    if not plugins and not commands:
        known = {one.distribution for group in groups for one in group.values()}
        owner = next((group[distribution] for group in groups if distribution in group), None)
        near = did_you_mean(distribution, known)
        if owner:
            near = f"; '{distribution}' is of {owner.distribution}"
        raise PluginError(
            f"no installed distribution '{distribution}' has plugins or commands{near}"
        )
    # The summary of a distribution is that of its plugin where there is one alone.
    alone = plugins[0].summary if len(plugins) == 1 else ""
    if _same(distribution, core_record().distribution):
        plugins, alone = [core_record(), *plugins], ""
    found: dict[Path, Manifest] = {}
    for _, group in groupby(sorted([*plugins, *commands], key=_package), key=_package):
        members = list(group)
        folder = package_folder(members[0].target)
        if folder is not None:
            found[folder / MANIFEST] = Manifest(
                members[0].version,
                {one.name: contents_of(one, alone) for one in members if one in plugins},
                {one.name: _help(one) for one in members if one in commands},
            )
    return found


def _package(record: PluginRecord) -> str:
    return record.target.partition(":")[0].partition(".")[0]


def _same(one: str, other: str) -> bool:
    return canonicalize_name(one) == canonicalize_name(other)


def _help(record: PluginRecord) -> str:
    found = load_target(record, f"command '{record.name}'")
    text = found.get_short_help_str(limit=100) if isinstance(found, click.Command) else ""
    return str(text).rstrip(".")
