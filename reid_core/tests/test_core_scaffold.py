"""``reid plugins new``: what it writes, what it refuses, and what it never touches."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_distributions import fake_site

import reid_core
from reid_core.cli import scaffold
from reid_core.cli.main import cli
from reid_core.cli.scaffold import Scaffold, check_name, files_of, write_distribution
from reid_core.errors import ConfigError
from reid_core.testing.conformance import CHECKS, Subject


def test_a_distribution_is_written_and_the_next_steps_are_told(tmp_path: Path) -> None:
    words = ["plugins", "new", "two_words", "--into", str(tmp_path / "made" / "he re")]
    done = CliRunner().invoke(cli, [*words, "--author", "Ada", "--summary", "It adds"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "made" / "he re" / "reid_two_words"
    lines = done.output.splitlines()
    assert lines[0] == f"{folder}: 15 files"
    assert lines[2:] == [
        f"  pip install -e '{folder}[test]'",
        "  reid plugins check two_words",
        f"  pytest '{folder}'",
        "  reid run --recipe two_words/quick",
    ]
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "reid-two-words"
    assert project["description"] == "It adds"
    assert project["authors"] == [{"name": "Ada"}]
    assert project["entry-points"]["reid.plugins"] == {"two_words": "reid_two_words:TwoWords"}
    assert f"Copyright (c) {date.today().year} Ada\n" in (folder / "LICENSE").read_text("utf-8")
    assert (folder / "src" / "reid_two_words" / "py.typed").read_bytes() == b""


def test_every_file_is_valid_and_nothing_is_left_to_fill_in() -> None:
    files = files_of(Scaffold("two_words"))
    assert len(files) == 15
    for path, text in files.items():
        assert "{{" not in path + text, path
        assert "example" not in path + text.lower(), path
        if path.endswith(".py"):
            ast.parse(text)
        elif path.endswith(".toml"):
            tomllib.loads(text)
    assert "the authors of reid-two-words" in files["LICENSE"]


def test_a_bare_one_is_one_hook_and_one_test_that_passes(
    tmp_path: Path, reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["plugins", "new", "two_words", "--into", str(tmp_path), "--bare", "--author", "Ada"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "  reid run --plugins two_words"
    folder = tmp_path / "reid_two_words"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {
        "pyproject.toml", "reid_two_words.py", "test_two_words.py"
    }  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert (project["name"], project["authors"]) == ("reid-two-words", [{"name": "Ada"}])
    assert project["entry-points"]["reid.plugins"] == {"two_words": "reid_two_words:TwoWords"}
    assert 'conformance_suite("two_words")' in (folder / "test_two_words.py").read_text("utf-8")
    monkeypatch.syspath_prepend(str(folder))
    cls = importlib.import_module("reid_two_words").TwoWords
    assert [name for name in vars(cls) if name.startswith("reid_")] == ["reid_losses"]
    subject = Subject("two_words", reid_cache, tmp_path, {}, {"two_words": cls})
    for check in ("claims", "names", "gradients", "inert", "export"):
        CHECKS[check](subject)
    assert subject.skipped == []


def test_no_class_can_hide_what_the_template_imports() -> None:
    text = files_of(Scaffold("two_words"))["src/reid_two_words/plugin.py"]
    imports = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom))
    names = {alias.name for node in imports for alias in node.names if alias.name[0].isupper()}
    assert {"Branch", "Field", "Plugin"} <= names
    assert names - {"TYPE_CHECKING"} <= {*reid_core.__all__, *scaffold._IN_TEMPLATE}


@pytest.mark.parametrize("name", ["Tints", "reid-tints", "9lives", "a__b", "a_", "", "a/b", "é"])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["plugins", "new", "--into", str(tmp_path), "--", name])
    assert isinstance(done.exception, ConfigError)
    message = str(done.exception)
    assert f"'{name}' cannot be the name of a plugin: it begins with a small letter" in message
    assert ("'tints' would do" in message) == ("tints" in name.lower())
    assert len(message.splitlines()) == 1
    assert done.exception.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("core", "the core has names or a section"),
        ("encoder", "the core has names or a section"),
        ("data", "the core has names or a section"),
        ("class", "it is a keyword of Python"),
        ("branch", "its class would be 'Branch'"),
        ("loss_term", "its class would be 'LossTerm'"),
        ("none", "its class would be 'None'"),
        ("warning", "its class would be 'Warning'"),
        ("field", "its class would be 'Field'"),
        ("example", "reid-example brings the plugin 'example'"),
        ("baselines", "reid-baselines brings the plugin 'agw'"),
    ],
)
def test_a_name_that_means_something_else_is_refused(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaffold, "installed", dict)
    with pytest.raises(ConfigError) as caught:
        check_name(Scaffold(name))
    assert reason in str(caught.value)
    assert "choose another" in str(caught.value)


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    with fake_site(tmp_path / "site") as site:
        site.add("reid-zebra", {"stripy": "zebra:Z"}, version="0.3")
        with pytest.raises(ConfigError, match=r"plugin 'stripy' already, of reid-zebra 0\.3"):
            check_name(Scaffold("stripy"))
        with pytest.raises(ConfigError, match=r"'zebra' is taken: reid-zebra 0\.3 is installed"):
            check_name(Scaffold("zebra"))
        check_name(Scaffold("zebras"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "reid_tints"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already, and nothing is overwritten"):
        write_distribution(Scaffold("tints"), tmp_path)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    with pytest.raises(ConfigError, match=r"mine\.txt is there already"):
        write_distribution(Scaffold("tints"), folder / "mine.txt")


@pytest.mark.parametrize(("option", "text"), [("author", 'A "B"'), ("summary", "one\ntwo")])
def test_a_text_that_would_break_a_file_is_refused(option: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--{option}: .* must be one line"):
        write_distribution(Scaffold("tints", **{option: text}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reid_tints cannot be written: "):
        write_distribution(Scaffold("tints"), tmp_path / ("x" * 300))


def test_beginning_a_plugin_does_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys, reid_core.cli\n"
        "sys.argv = ['reid', 'plugins', 'new', 'tints']\n"
        "reid_core.cli.main()\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'timm')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "reid_tints" / "README.md").is_file()
