"""The repository speaks of the project alone, and its links lead somewhere."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from house import ROOT

# What is made here, not written; hidden folders are the tools' own, but for that of the CI.
MADE = {"__pycache__", "build", "dist", "runs"}

# In pieces, so that this file does not contain what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:" + "|".join(("wo" + "rk", "ro" + "ot")) + r")/\S")
HOME_PATH = re.compile(r"(?<![\w.~])/(?:" + "|".join(("ho" + "me", "Us" + "ers")) + r")/\w")
PACKAGE_HOST = re.compile("index" + r"-url|https?://\S*(?:/simple/|\.whl\b)")

LINK = re.compile(r"\]\(([^)\s]+)\)")


def _texts() -> Iterator[tuple[Path, str]]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(
            name for name in folders if name == ".ci" or not (name in MADE or name.startswith("."))
        )
        for name in sorted(
            {*files} - {".git"}
        ):  # a checkout beside its repository says where that is
            path = Path(folder, name)
            try:
                yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_names_a_path_or_a_host_of_some_machine():
    found = [
        f"{path}:{number}: {match[0]}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        for pattern in (MACHINE_PATH, HOME_PATH, PACKAGE_HOST)
        if (match := pattern.search(line))
    ]
    assert found == []


def test_relative_links_in_documents_lead_somewhere():
    broken = [
        f"{path}: {target}"
        for path, text in _texts()
        if path.suffix == ".md"
        for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        if not re.match(r"[a-z]+:|#", target)
        and not (ROOT / path.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []
