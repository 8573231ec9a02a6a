"""Whether a file is written to directly or replaced; for every command that writes results."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout, suppress
from pathlib import Path


def in_place(file: Path) -> bool:
    """Return whether a file is a device, a pipe, or where this process's own output goes.

    Such a file must be written to, not replaced by another of its name.
    """
    return file.exists() and (_is_stream(file, 1) or _is_stream(file, 2) or not file.is_file())


def tables_aside(file: Path) -> AbstractContextManager[object]:
    """Print to standard error where a file of results is standard output, so that it is JSON alone.

    Args:
        file: what ``--json`` names, such as ``/dev/stdout``.
    """
    aside = file.exists() and _is_stream(file, 1)
    return redirect_stdout(sys.stderr) if aside else nullcontext()


def _is_stream(file: Path, number: int) -> bool:
    with suppress(OSError):  # it may be closed
        return os.path.samestat(file.stat(), os.fstat(number))
    return False
