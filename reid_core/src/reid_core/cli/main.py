"""The command group, its plugins' commands, and how errors reach the user."""

from __future__ import annotations

import errno
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from reid_core.errors import ReidError, did_you_mean, own_errors
from reid_core.plugins.discovery import COMMAND_GROUP, PluginRecord, installed, known_commands

_OWN = {
    "run": ("reid_core.cli.run", "run", "Train and evaluate: the main job."),
    "eval": ("reid_core.cli.evaluate", "evaluate", "Evaluate a trained embedder on a data set."),
    "export": ("reid_core.cli.export", "export", "Export a trained embedder to ONNX."),
    "plugins": ("reid_core.cli.plugins", "plugins", "List, check or begin plugins."),
    "data": ("reid_core.cli.data", "data", "List data sets, or look at one."),
}


class Commands(click.Group):
    """The core's commands and those of installed plugins, each imported only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands: the core's, then the plugins'."""
        return [*_OWN, *(name for name in installed(COMMAND_GROUP) if name not in _OWN)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name in _OWN:
            module, attribute, _ = _OWN[cmd_name]
            return _command(getattr(import_module(module), attribute))
        record = installed(COMMAND_GROUP).get(cmd_name)
        if record is None:
            return None
        if record.unmet:
            raise ReidError(
                f"command '{cmd_name}' of {record.distribution} {record.version} {record.unmet}: "
                f"pip install --upgrade reid-core {record.distribution}"
            )
        module, _, attribute = record.target.partition(":")
        try:
            return _command(getattr(import_module(module), attribute))
        except Exception as error:
            raise ReidError(
                f"command '{cmd_name}' ({record.distribution} {record.version}) cannot be "
                f"imported: {type(error).__name__}: {error}"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        plugins = installed(COMMAND_GROUP)
        rows = [(name, summary) for name, (_, _, summary) in _OWN.items()]
        rows += [
            (name, f"{_help(record)} ({record.distribution})")
            for name, record in plugins.items()
            if name not in _OWN
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is answered with the nearest."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            names = self.list_commands(ctx)
            absent = known_commands().get(args[0])
            if absent is not None:
                ctx.fail(f"'{args[0]}' is a command of {absent}: pip install {absent}")
            ctx.fail(f"There is no command '{args[0]}'{did_you_mean(args[0], names)}")
        return super().resolve_command(ctx, args)


def _help(record: PluginRecord) -> str:
    """Return one line about a plugin's command, without importing it."""
    manifest = record.manifest
    known = manifest.commands.get(record.name) if manifest is not None else None
    return known or record.summary or "a command"


_MACHINE = frozenset(
    number
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENAMETOOLONG")
    if (number := getattr(errno, name, None)) is not None
)
"""What a machine refuses that no defect of the program explains."""


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line, without the source line that caused it."""
    click.echo(f"warning: {message}", err=True)


def _command(found: Any) -> click.Command:
    if not isinstance(found, click.Command):
        raise ReidError(f"{found!r} is no click command")
    return found


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `reid run`: it needs no data and no download.",
)
@click.version_option(package_name="reid-core", prog_name="reid")
def cli() -> None:
    """Person re-identification: one trainer, papers as plugins that compose."""


def main() -> None:
    """Run the command line; an error that a user can act on is one line and exit code 2."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Names of files may be bytes that are no text: they are printed as they are.
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    try:
        with own_errors():
            cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except ReidError as error:
        click.echo(f"reid: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"reid: {where}{error.strerror}; see to permissions and free space", err=True)
        sys.exit(2)
