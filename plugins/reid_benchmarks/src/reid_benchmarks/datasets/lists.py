"""List files that come with data sets: one entry per line, all of them or an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from reid_benchmarks.datasets.files import Grammar, some
from reid_core.errors import DataError

_AGAIN = "extract the list from its archive again"


def read_list(path: Path, grammar: Grammar) -> list[re.Match[str]]:
    """Return the matches of a list's lines, in their order.

    Args:
        path: a text file; blank lines at its end are allowed.
        grammar: of a line.

    Raises:
        DataError: the list is missing, empty or no text, a line does not fit, or stands twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list; {_AGAIN}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise DataError(f"{path}: the list cannot be read ({reason}); {_AGAIN}") from error
    if not lines:
        raise DataError(f"{path}: the list is empty; {_AGAIN}")
    matches: list[re.Match[str]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        match = grammar.match(line.rstrip())
        if match is None:
            raise DataError(
                f"{path}, line {number}: '{line[:80]}' does not fit {grammar.text}; {_AGAIN}"
            )
        if match[0] in seen:
            raise DataError(f"{path}, line {number}: '{match[0]}' stands there twice; {_AGAIN}")
        seen.add(match[0])
        matches.append(match)
    return matches


def require_files(path: Path, names: Iterable[str], present: Iterable[str]) -> None:
    """Refuse a list that names files which are not there.

    Args:
        path: the list.
        names: of files, as listed.
        present: the files that there are.

    Raises:
        DataError: the first missing ones and their number.
    """
    listed = list(names)
    there = set(present)
    missing = [name for name in listed if name not in there]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(listed)} listed images are missing: {some(missing)}; "
            "the copy is incomplete: extract the images again"
        )
