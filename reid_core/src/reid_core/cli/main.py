"""The command line: its commands, and how errors reach the user."""

from __future__ import annotations

import errno
import sys
import warnings
from io import TextIOWrapper
from typing import Any

import click

from reid_core.cli.commands import Commands
from reid_core.errors import ReidError, own_errors

_OWN = {
    "run": ("reid_core.cli.run:run", "Train and evaluate: the main job."),
    "eval": ("reid_core.cli.evaluate:evaluate", "Evaluate a trained embedder on a data set."),
    "export": ("reid_core.cli.export:export", "Export a trained embedder to ONNX."),
    "plugins": ("reid_core.cli.plugins:plugins", "List, check or begin plugins."),
    "data": ("reid_core.cli.data:data", "List, show, make or check data sets."),
}


_MACHINE = frozenset(
    number
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENAMETOOLONG")
    if (number := getattr(errno, name, None)) is not None
)
"""What a machine refuses that no defect of the program explains."""


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line, without the source line that caused it."""
    click.echo(f"warning: {message}", err=True)


@click.command(
    cls=Commands,
    own=_OWN,
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
