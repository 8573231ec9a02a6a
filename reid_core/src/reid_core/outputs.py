"""Where commands write: looked at before the work whose result is to be kept."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reid_core.errors import ConfigError

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Pictures that Pillow writes."""

FIGURE_SUFFIXES = (".jpeg", ".jpg", ".pdf", ".png", ".svg")
"""Figures that matplotlib writes."""


def checked_output(path: Path, suffixes: Iterable[str] = (), *, option: str = "--out") -> Path:
    """Check that a file can be written to, before the work whose result it shall hold.

    Its folder is made where there is none. A file that is there will be overwritten.

    Args:
        path: the file.
        suffixes: those that its name may have, such as `PICTURE_SUFFIXES`; none allows every name.
        option: what the user gave it by, for the message.

    Returns:
        The path as it was given.

    Raises:
        ConfigError: another suffix, a folder, or a place where nothing can be written.
    """
    allowed = tuple(suffixes)
    if allowed and path.suffix.lower() not in allowed:
        *some, last = sorted(allowed)
        listed = f"{', '.join(some)} or {last}" if some else last
        raise ConfigError(f"{option} {path}: the file's name must end in {listed}")
    try:
        if path.is_dir():
            raise ConfigError(f"{option} {path}: is a folder; name a file in it")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        # Devices and pipes, such as /dev/stdout, are written to where they are.
        if path.is_file() or not path.exists():
            _try_folder(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(path, option, error) from error
    return path


def checked_folder(path: Path, *, empty: bool = True, option: str = "--out") -> Path:
    """Check that files can be written to a folder, before the work whose results it shall hold.

    It is not made: who writes to it does that.

    Args:
        path: the folder.
        empty: refuse one that holds something, so that nothing is overwritten or mixed up.
        option: what the user gave it by, for the message.

    Returns:
        The path as it was given.

    Raises:
        ConfigError: a file, a folder that holds something, or one where nothing can be written.
    """
    try:
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{option} {path}: is a file; name a folder")
        if empty and path.is_dir() and any(path.iterdir()):
            raise ConfigError(f"{option} {path}: holds something already; name another folder")
        _try_folder(path)
    except OSError as error:
        raise _refusal(path, option, error) from error
    return path


def _try_folder(folder: Path) -> None:
    """Write a file where the folder is or would be made; permissions do not tell of a full disk."""
    there = folder.absolute()
    while True:
        try:
            mode = there.stat().st_mode
            break
        except FileNotFoundError:
            there = there.parent
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    with tempfile.TemporaryFile(dir=there):
        pass


def _refusal(path: Path, option: str, error: OSError) -> ConfigError:
    where = f" at {error.filename}" if error.filename and Path(error.filename) != path else ""
    reason = error.strerror or str(error)
    return ConfigError(
        f"{option} {path}: cannot be written ({reason}{where}); name another place, or see to its "
        "permissions and free space"
    )
