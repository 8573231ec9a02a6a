"""Fake distributions for tests: dist-info folders as pip writes them, and their modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

PLUGIN = """
from reid_core import Plugin

class Made(Plugin):
    pass
"""
"""The source of the smallest plugin."""


class FakeSite:
    """A folder on the import path to which distributions can be added.

    Args:
        folder: it exists already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        distribution: str,
        plugins: dict[str, str] | None = None,
        *,
        commands: dict[str, str] | None = None,
        modules: dict[str, str] | None = None,
        version: str = "1.2",
        summary: str = "",
        requires: Sequence[str] = (),
    ) -> Path:
        """Install a distribution and return its dist-info folder.

        Args:
            distribution: its name.
            plugins: entry points of the group ``reid.plugins``: name to ``module:Class``.
            commands: entry points of the group ``reid.commands``.
            modules: source text by module name.
            version, summary, requires: its metadata.
        """
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        if summary:
            metadata += f"Summary: {summary}\n"
        metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        lines = []
        for group, entries in (("reid.plugins", plugins), ("reid.commands", commands)):
            if entries:
                lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        for name, source in (modules or {}).items():
            (self.folder / f"{name}.py").write_text(dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        return info


@contextmanager
def fake_site(folder: Path) -> Iterator[FakeSite]:
    """Put an empty folder on the import path; forget it and its modules afterwards."""
    folder.mkdir()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield FakeSite(folder)
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]
        importlib.invalidate_caches()
