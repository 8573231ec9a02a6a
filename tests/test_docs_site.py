"""The site: every page has its place, stays within itself, and is built without a warning."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from house import ROOT

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from public import ENTRY_POINTS, TYPES, public_page, signature, undocumented  # noqa: E402
from site_hooks import site_text  # noqa: E402

import reid_core  # noqa: E402
import reid_retrieval  # noqa: E402
from reid_core.plugins.discovery import COMMAND_GROUP, PLUGIN_GROUP  # noqa: E402
from reid_core.weights import ADDRESS_GROUP, LAYOUTS_GROUP, WEIGHTS_GROUP  # noqa: E402
from reid_retrieval.finding import GROUP  # noqa: E402

Kind = Literal["x", "y"]

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def _pages(navigation: Any) -> Iterator[str]:
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from _pages(below)


def test_the_navigation_has_every_page_once():
    listed = [*_pages(CONFIG["nav"])]
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_a_warning_is_an_error_and_links_are_looked_at():
    assert CONFIG["strict"] is True
    kinds = ("omitted_files", "absolute_links", "unrecognized_links", "anchors")
    assert CONFIG["validation"] == dict.fromkeys(kinds, "warn")
    assert all((ROOT / hook).is_file() for hook in CONFIG["hooks"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see [step](step.md#passes)", "see [step](step.md#passes)"),
        ("the [README](../README.md#use)", "the README (`README.md`)"),
        ("[`loop/a.py`](../reid_core/loop/a.py)", "`loop/a.py` (`reid_core/loop/a.py`)"),
        ("[decisions/](decisions/)", "[decisions/](decisions/README.md)"),
        ("[howto/](howto/)", "`howto/`"),
        ("[web](https://example.org/a)", "[web](https://example.org/a)"),
        ("```python file=a.py\nx = 1\n```", '```python title="a.py"\nx = 1\n```'),
        ("```text output=check\nslots:\n```", "```text\nslots:\n```"),
    ],
)
def test_pages_become_pages_of_the_site(text: str, shown: str):
    assert site_text(text, "index.md") == shown


def test_links_are_read_from_where_a_page_stands():
    assert site_text("[p](../protocols.md)", "howto/protocol.md") == "[p](../protocols.md)"
    assert (
        site_text("[b](../../benchmarks/README.md)", "howto/x.md") == "b (`benchmarks/README.md`)"
    )


def test_every_public_name_has_an_entry_and_a_docstring():
    headings = {line[4:] for line in public_page().splitlines() if line.startswith("### ")}
    assert {*reid_core.__all__} - TYPES <= headings
    ours = {*reid_core.__all__}
    theirs = {f"reid_retrieval.{n}" if n in ours else n for n in reid_retrieval.__all__}
    assert theirs - {f"reid_retrieval.{n}" for n in TYPES} <= headings
    assert undocumented() == []


def _quoted(near: "str | None", word: str = "it's", *, kind: "Kind" = "x") -> "list[str]":
    raise NotImplementedError


def test_signatures_are_python():
    shown = """(near: str | None, word: str = "it's", *, kind: Kind = 'x') -> list[str]"""
    assert signature(_quoted) == shown
    page = public_page()
    assert "importer: str = 'auto'" in page
    assert "option: str = '--out'" in page


def test_every_group_of_entry_points_is_told():
    groups = {COMMAND_GROUP, PLUGIN_GROUP, WEIGHTS_GROUP, LAYOUTS_GROUP, ADDRESS_GROUP, GROUP}
    assert {*ENTRY_POINTS} == groups


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs-material is not installed")
def test_the_site_is_built_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    public = (tmp_path / "public.html").read_text("utf-8")
    assert all(f'id="{name.lower()}"' in public for name in ("TimmEncoder", "restore"))
