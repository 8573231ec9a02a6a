"""Groups of commands: a group's own, and those that distributions add to it."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

import click

from reid_core.errors import PluginError, ReidError, did_you_mean
from reid_core.plugins.discovery import (
    COMMAND_GROUP,
    PluginRecord,
    installed,
    known_commands,
    load_target,
)


class Commands(click.Group):
    """Commands of the core and of installed distributions, each imported only when it is called.

    Args:
        own: ``module:attribute`` and one line of help by name.
        within: what the names of entry points begin with that add to this group, ``data.``.
    """

    def __init__(
        self, *args: Any, own: Mapping[str, tuple[str, str]], within: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._own, self._within = own, within

    def _added(self) -> dict[str, PluginRecord]:
        """Return the commands that distributions add: those of a group within belong to it."""
        found = {
            name.removeprefix(self._within): record
            for name, record in installed(COMMAND_GROUP).items()
            if name.startswith(self._within)
        }
        return {n: record for n, record in found.items() if n.partition(".")[0] not in self._own}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands: the core's, then the distributions'."""
        return [*self._own, *self._added()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name in self._own:
            own: click.Command = resolve_name(self._own[cmd_name][0])
            return own
        record = self._added().get(cmd_name)
        if record is None:
            return None
        title = record.name.replace(".", " ")
        found = load_target(record, f"command '{title}'")
        if not isinstance(found, click.Command):
            raise PluginError(f"command '{title}' of {record.distribution} is no click command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = [(name, summary) for name, (_, summary) in self._own.items()]
        rows += [
            (name, f"{_help(record)} ({record.distribution})")
            for name, record in self._added().items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is answered with the nearest."""
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            absent = known_commands().get(f"{self._within}{args[0]}")
            if absent is not None:
                title = f"{self._within}{args[0]}".replace(".", " ")
                ctx.fail(f"'{title}' is a command of {absent}: pip install {absent}")
            ctx.fail(f"There is no command '{args[0]}'{did_you_mean(args[0], names)}")
        return super().resolve_command(ctx, args)


def _help(record: PluginRecord) -> str:
    """Return one line about a distribution's command, without importing it."""
    manifest = record.manifest
    known = manifest.commands.get(record.name) if manifest is not None else None
    return known or record.summary or "a command"


def option_of(name: str) -> Any:
    """Return what a distribution does for an option of a command: ``eval.cost`` for ``--cost``.

    Raises:
        ReidError: no installed distribution does; with the line that installs the one that would.
    """
    option = f"--{name.rpartition('.')[2]}"
    record = installed(COMMAND_GROUP).get(name)
    if record is None:
        absent = known_commands()[name]
        raise ReidError(f"{option} comes with {absent}: pip install {absent}")
    return load_target(record, f"option '{option}'")
