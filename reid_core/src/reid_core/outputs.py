"""Where commands write: looked at before the work whose result is to be kept, and written whole."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reid_core.errors import ConfigError, OutputError
from reid_retrieval.writing import in_place

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Pictures that Pillow writes."""

FIGURE_SUFFIXES = (".jpeg", ".jpg", ".pdf", ".png", ".svg")
"""Figures that matplotlib writes."""

PART = ".part-"
"""How names of files begin that are not finished."""


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
        if not in_place(path):
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


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file whole: readers see all of it or what was there before, whatever happens.

    Its folder is made where there is none. The file has the permissions of the umask, whoever
    writes it. Devices, pipes and what the process's own output goes to are written to directly.

    Args:
        path: the file.
        durable: wait until it is on the disk, so that it outlives a loss of power; not worth its
            time for thousands of files that can be made again.

    Yields:
        Where to write: a file of the same suffix beside it, which takes its name at the end.

    Raises:
        OutputError: no space, no permission, no such place; what was there stays.
    """
    try:
        if in_place(path):
            if sys.stdout is not None:  # closed
                sys.stdout.flush()  # what was printed comes first, if that is where this goes
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{PART}{uuid.uuid4().hex[:12]}{path.suffix}")
        try:
            part.touch()
            mode = part.stat().st_mode
            yield part
            if durable:
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
            # Some libraries put a file of their own there, which nobody else may read.
            part.chmod(stat.S_IMODE(mode))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        refused = OutputError(_unwritable(path, error))
        refused.errno, refused.strerror = error.errno, error.strerror
        raise refused from error


def write_text(path: Path, text: str) -> None:
    """Write text whole, as UTF-8; bytes of file names that are no text stay the bytes they were.

    Args:
        path: the file; see `whole_file`.
        text: its content.

    Raises:
        OutputError: see `whole_file`.
    """
    with whole_file(path) as part, part.open("ab") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write plain data as JSON, whole.

    Args:
        path: the file; see `whole_file`.
        content: what ``json`` knows.
        indent: spaces per level; None writes one line.

    Raises:
        OutputError: see `whole_file`.
    """
    write_text(path, json.dumps(content, indent=indent) + "\n")


def append_json(path: Path, content: Mapping[str, Any]) -> None:
    """Append an object of plain data as a line to a file of JSON lines.

    With ``iteration``, the step that it tells of, or else ``epoch`` (both 0-based), a line in a
    run's folder is taken out where the run goes on and does that again (`forget_after`).

    Args:
        path: the file, ``.jsonl``; it and its folder are made where there are none.
        content: the object.

    Raises:
        OutputError: see `whole_file`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(json.dumps(content) + "\n")
    except OSError as error:
        raise OutputError(_unwritable(path, error)) from error


def forget_after(folder: Path, epoch: int, iteration: int) -> None:
    """Forget what a run wrote behind the place where it goes on, for it does that again.

    Lines of all ``.jsonl`` in its folder go that tell of a later ``iteration``, without one of a
    later ``epoch``, or of the evaluation at the end; and a last line that is cut short. A run that
    begins anew forgets what came before its first step, too.

    Args:
        folder: the run's.
        epoch, iteration: the first that are still to be done.
    """
    for path in sorted(folder.rglob("*.jsonl")):
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
        last = len(lines) - 1
        kept = [
            line for at, line in enumerate(lines) if _stands(line, epoch, iteration, at == last)
        ]
        if kept != lines:
            write_text(path, "".join(f"{line}\n" for line in kept))


def _stands(line: str, epoch: int, iteration: int, is_last: bool) -> bool:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return not is_last  # which may be cut short
    if not isinstance(entry, dict):
        return True  # not of `append_json`
    for place, first in ((entry.get("iteration"), iteration), (entry.get("epoch"), epoch)):
        if isinstance(place, int):
            return place < first and iteration > 0 and entry.get("when") != "final"
    return True


def remove_parts(folder: Path) -> None:
    """Remove what a killed process had half-written to a folder, of which it is the only writer."""
    for part in folder.glob(f"{PART}*"):
        part.unlink(missing_ok=True)


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
    return ConfigError(f"{option} {_unwritable(path, error)}")


def _unwritable(path: Path, error: OSError) -> str:
    named = error.filename and Path(error.filename)
    where = f" at {named}" if named and named != path and PART not in named.name else ""
    return (
        f"{path}: cannot be written ({error.strerror or error}{where}); name another place, or see "
        "to its permissions and free space"
    )
