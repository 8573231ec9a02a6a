"""The public names: what type checkers see is what there is, and importing stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reid_core


def test_every_public_name_can_be_imported() -> None:
    for name in reid_core.__all__:
        assert getattr(reid_core, name) is not None


def test_the_stub_lists_every_public_name_once() -> None:
    stub = ast.parse(Path(reid_core.__file__).with_suffix(".pyi").read_text("utf-8"))
    aliases = [
        alias for line in stub.body if isinstance(line, ast.ImportFrom) for alias in line.names
    ]
    # In a stub only what is imported under its own name is handed on.
    assert all(alias.name == alias.asname for alias in aliases)
    assert sorted(alias.name for alias in aliases) == reid_core.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = reid_core.Embeder


@pytest.mark.parametrize(
    "statement",
    [
        "import reid_core",
        "from reid_core import Branch, LossTerm, Plugin, Schedule, hookimpl",
        "from reid_core.cli import main; import reid_core.cli.plugins",
        "from reid_core.plugins.discovery import installed; installed()",
    ],
)
def test_what_discovery_imports_is_free_of_torch(statement: str) -> None:
    code = f"{statement}\nimport sys; print(*{{'torch', 'numpy', 'rich'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "plugins list",
        "plugins list --json",
        "data list",
        "run --help",
        "data --help",
        "data make --help",
    ],
)
def test_listing_and_help_import_nothing_heavy_and_no_plugin(words: str) -> None:
    code = f"""
import sys
from click.testing import CliRunner
from reid_core.cli.main import cli
from reid_core.plugins.discovery import installed
done = CliRunner().invoke(cli, {words.split()!r}, catch_exceptions=False)
assert done.exit_code == 0, done.output
heavy = {{"torch", "numpy", "rich", "pydantic"}}
plugins = {{record.target.partition(":")[0] for record in installed().values()}}
print(*sorted((heavy | plugins) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The package of whoever brings a command stands before the command, and imports nothing itself.
    whose = ["reid_synthpeople"] if words.startswith("data make") else []
    assert done.stdout.split() == whose
