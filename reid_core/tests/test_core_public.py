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


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(reid_core.__file__).read_text("utf-8"))
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == set(reid_core.__all__)


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
