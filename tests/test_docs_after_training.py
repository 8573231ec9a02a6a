"""A new user follows docs/after_training.md word by word, with two small runs for long ones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from house import ROOT
from PIL import Image

from reid_core import run
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_flags

PAGE = (ROOT / "docs" / "after_training.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two runs that the page begins with."""
    for name, rate in (("demo", 1e-3), ("baseline", 1e-4)):
        flags = tiny_flags((), {"optim": {"lr": rate}})
        run(flags, out=tmp_path / "runs" / name, cache=reid_cache, say=lambda line: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_does_what_the_page_says(run_reid: RunReid, folder: Path) -> None:
    printed = {}
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL):
        if language == "python":
            names: dict[str, object] = {}
            exec(block, names)
            assert names["embedder"].dim > 0  # type: ignore[attr-defined]
            continue
        assert language == "sh"
        for line in block.splitlines():
            _, *words = shlex.split(line)
            code, out, err = run_reid(*words)
            assert code == 0, f"{line}: {err}"
            printed[line] = out
    # The two commands of the beginning: a page, and a comparison with an interval.
    page = (folder / "demo.html").read_text("utf-8")
    sections = re.findall(r"^\| ([A-Z][^|]+?) \| ", PAGE, re.MULTILINE)
    assert len(sections) == 9
    for title in (title for section in sections for title in section.split(", ")):
        if title != "Drawn by plugins":  # these runs have none
            assert f">{title}<" in page, title
    said = printed["reid compare runs/demo runs/baseline"]
    assert re.search(r"mAP +[\d.]+ +[\d.]+ +[+-][\d.]+ +[+-][\d.]+ \.\. [+-][\d.]+", said)
    assert "demo against" not in said
    assert "baseline against demo" in said
    compared = json.loads((folder / "compared.json").read_text("utf-8"))
    assert compared[0]["effects"][1]["measure"] == "mAP"
    with Image.open(folder / "changed.png") as picture:
        assert picture.height > 256
    assert 'id="comparison"' in (folder / "both.html").read_text("utf-8")
    assert "data:image" not in (folder / "numbers.html").read_text("utf-8")
    assert {path.name for path in (folder / "looked-at").iterdir()} == {
        "README.md", "config.toml", "embedder.json", "embedder.safetensors", "results.json"
    }  # fmt: skip
