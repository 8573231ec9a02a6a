"""Whether a file is written to directly or replaced; for every command that writes results."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def in_place(file: Path) -> bool:
    """Return whether a file is a device, a pipe, or where this process's own output goes.

    Such a file must be written to, not replaced by another of its name.
    """
    if not file.exists():
        return False
    there = file.stat()
    for number in (1, 2):
        with suppress(OSError):  # it may be closed
            if os.path.samestat(there, os.fstat(number)):
                return True
    return not file.is_file()
