"""What is made from the source is up to date, and every hook is documented and in use."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest
from house import ROOT

from reid_core.contract import hookspecs
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import HOOKS

_spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
assert _spec
assert _spec.loader
generate = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = generate  # dataclasses look their module up
_spec.loader.exec_module(generate)

MADE = generate.made()


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_a_file_is_what_the_source_says(path: Path):
    assert path.read_bytes() == MADE[path].encode(), (
        f"{path.name} is behind the source: run python docs/generate.py"
    )


def test_the_example_has_no_file_that_the_command_does_not_write():
    folder = ROOT / "plugins" / "reid_example"
    made = {".pytest_cache", "__pycache__", "dist"}
    found = {p for p in folder.rglob("*") if p.is_file() and not made & {*p.parts}}
    assert found == {path for path in MADE if path.is_relative_to(folder)}


def test_the_hooks_are_all_that_the_specifications_have():
    names = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction)]
    assert sorted(HOOKS) == sorted(name for name in names if name.startswith("reid_"))


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_documented_and_tested(hook: str):
    spec = getattr(hookspecs, hook)
    doc = generate.docstring(spec)
    assert "Called" in doc.text, f"{hook}: the docstring does not say when it is called"
    annotations = inspect.get_annotations(spec)
    assert set(annotations) == {*inspect.signature(spec).parameters, "return"}
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {hook}\n")[2].partition("\n## ")[0]
    assert "\nExample" in section, f"{hook}: no page of docs/ shows a plugin that implements it"
    used = [*ROOT.glob("**/tests/test_*.py"), *ROOT.glob("reid_core/src/reid_core/testing/*.py")]
    implemented = re.compile(rf"^\s+def {hook}\(self", re.MULTILINE)
    assert any(implemented.search(path.read_text(encoding="utf-8")) for path in used), (
        f"{hook} is implemented by no test and no probe plugin"
    )


def test_the_table_of_fields_names_the_vocabulary():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    assert dict(rows) == {name: spec.kind.value for name, spec in SHARED_FIELDS.items()}


def test_the_generator_reads_docstrings_in_parts():
    def documented() -> None:
        """Do it.

        Longer.

        Args:
            one, two: of both.
            three: goes
                on: here.

        Returns:
            Nothing.
        """

    doc = generate.docstring(documented)
    assert doc.first == "Do it."
    assert doc.text == "Do it.\n\nLonger."
    assert doc.entries("Args") == {"one": "of both.", "two": "of both.", "three": "goes on: here."}
    assert list(doc.sections["Returns"].values()) == ["Nothing."]


def test_a_change_of_the_interface_needs_an_entry_of_the_changelog():
    before = "Branch.name: str\nTap(object)\nreid_losses(ctx: 'RunContext') -> 'list'\n"
    after = "Branch.name: str\nTap(object)\nTap.stride: int\nreid_losses() -> 'list'\n"
    old = "## 0.1.0\n\n- `Tap.stride` and `reid_losses` of the first version.\n"
    assert generate.unannounced(before, before, old) == []
    assert generate.unannounced(before, after, f"## 0.2.0\n\n- Faster.\n\n{old}") == [
        "Tap",
        "reid_losses",
    ]
    said = "# Changelog\n\n## 0.2.0\n\n- `reid_losses` takes no context; `Tap.stride` is new.\n\n"
    assert generate.unannounced(before, after, said + old) == []
