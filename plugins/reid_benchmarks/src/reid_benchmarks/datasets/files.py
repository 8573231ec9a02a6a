"""Names of files: what is in a folder, and whether each name fits its data set's grammar."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from reid_core.errors import DataError

_LITTER = re.compile(r"Thumbs\.db|\.DS_Store|\._.*|__MACOSX|desktop\.ini", re.IGNORECASE)
"""What file managers and archivers leave behind."""

_SHOWN = 3
"""How many offending names a message lists."""


class Grammar:
    """Describe the names of a data set's files.

    Args:
        pattern: a regular expression of the *whole* base name; digits are ASCII.
        text: the same for people, shown in errors.
    """

    def __init__(self, pattern: str, text: str) -> None:
        self.pattern = pattern
        self.text = text

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    def match(self, name: str) -> re.Match[str] | None:
        """Return the match of a whole base name, or None."""
        return self._compiled.fullmatch(name)


_IDENTITY = Grammar(r"(\d+)", "a number")


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, without what file managers leave behind.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not _LITTER.fullmatch(name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error


def match_names(folder: Path, grammar: Grammar) -> list[tuple[Path, re.Match[str]]]:
    """Return the paths and matches of all names in a folder, sorted by name.

    Raises:
        DataError: names that do not fit; the first ones and their number.
    """
    found, strays = [], []
    for name in list_names(folder):
        match = grammar.match(name)
        if match is None:
            strays.append(name)
        else:
            found.append((folder / name, match))
    if strays:
        raise DataError(
            f"{folder}: {len(strays)} of {len(strays) + len(found)} names do not fit "
            f"{grammar.text}: {some(strays)}; move them elsewhere, or extract the archive again"
        )
    return found


def match_people(folder: Path) -> list[tuple[Path, int]]:
    """Return the folders of people in a folder and their identities, sorted by name.

    Raises:
        DataError: another name than a number.
    """
    return [(path, int(match[1])) for path, match in match_names(folder, _IDENTITY)]


def match_within_people(
    folder: Path, grammar: Grammar, pid: str | None = None
) -> list[tuple[Path, int, re.Match[str]]]:
    """Return the images in all folders of people: path, identity and match.

    Args:
        folder: holds a folder of each person, named by the identity's number.
        grammar: of the images.
        pid: the grammar's group that must agree with the folder's number.

    Raises:
        DataError: a name that does not fit, or an image in another person's folder.
    """
    found = [
        (path, person, match)
        for inner, person in match_people(folder)
        for path, match in match_names(inner, grammar)
    ]
    if pid is not None:
        lost = [str(p.relative_to(folder)) for p, person, m in found if int(m[pid]) != person]
        if lost:
            raise DataError(
                f"{folder}: {len(lost)} images lie in another person's folder: {some(lost)}; "
                "extract the archive again"
            )
    return found


def some(names: Sequence[str]) -> str:
    """Return the first few names, in words."""
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
