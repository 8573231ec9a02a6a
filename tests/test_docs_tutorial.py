"""A newcomer follows docs/tutorial.md word by word, in a clean environment, and has a plugin."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import Environment
from house import ROOT

from reid_core.cli.scaffold import Scaffold, files_of

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
CORE = "reid-core[test,onnx]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the newcomer's folder."""
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def printed(wheels: Path, folder: Path, reid_cache: Path) -> dict[str, str]:
    """Do what the page says, block by block; return what each command block printed."""
    environment = Environment(folder / "venv", wheels, CORE, "hatchling", "editables")
    environment.install(CORE)
    found: dict[str, str] = {}
    said = ""
    for language, note, text in blocks():
        if note.startswith("file="):
            path = folder / note.removeprefix("file=")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif language == "sh":
            done = environment.shell(text, cwd=folder, REID_CACHE=str(reid_cache))
            found[text] = said = done.stdout
        else:
            assert (language, note) == ("text", "output"), f"a block that nobody runs: {text}"
            lines = said.splitlines()
            assert [line for line in text.splitlines() if line not in lines] == [], said
    return found


def blocks() -> Iterator[tuple[str, str, str]]:
    """Yield the language, the note and the text of every block of the page."""
    for head, text in re.findall(r"^```([^\n]+)\n(.*?)^```$", PAGE, re.M | re.S):
        language, _, note = head.partition(" ")
        yield language, note, text


def said_by(printed: dict[str, str], command: str) -> str:
    (found,) = (said for text, said in printed.items() if text.startswith(command))
    return found


def test_every_block_works_and_prints_what_the_page_shows(printed: dict[str, str]):
    assert [text for language, _, text in blocks() if language == "sh"] == list(printed)


def test_the_method_conforms(printed: dict[str, str]):
    passed = re.search(r"^(\d+) passed", said_by(printed, "pytest"), re.MULTILINE)
    assert passed
    assert int(passed[1]) > 10


def test_the_labels_are_made_once(printed: dict[str, str], reid_cache: Path):
    made = list((reid_cache / "labels" / "tints").rglob("*.npy"))
    assert len(made) == 48
    assert "tints makes" not in said_by(printed, "reid run")


def test_the_method_learns_and_leaves_the_deployed_model_alone(printed: dict[str, str]):
    assert "colours are off by" in said_by(printed, "python curve.py")
    assert "largest relative difference" in said_by(printed, "reid export")
    assert said_by(printed, "python deployed.py").endswith("96 numbers per image\n")


def test_the_wheel_is_there(printed: dict[str, str], folder: Path):
    assert [path.name for path in (folder / "wheels").iterdir()] == [
        "reid_tints-0.1.0-py3-none-any.whl"
    ]


def test_the_page_says_what_becomes_of_every_file_that_it_begins_with():
    part = PAGE.partition("## 2.")[0]
    rows = re.findall(r"^\| (`.*?`) \|", part, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(.+?)`", row)}
    written = {path for path in files_of(Scaffold("tints")) if not path.startswith("tests/")}
    assert listed == written - {"src/reid_tints/__init__.py"} | {"tests/"}
