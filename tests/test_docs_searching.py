"""A newcomer follows docs/searching.md word by word and has a search among pictures of theirs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from house import ROOT
from torch.nn import functional as F

from reid_core import Embedder, Encoder, Tap, load_embedder, open_dataset
from reid_core.testing.fixtures import RunReid
from reid_search import models
from reid_search.commands.embed import embed
from reid_search.engines.exporting import PACKAGES
from reid_search.gallery.gallery import Gallery

PAGE = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")


class Middle(Encoder):
    """Stand in for shipped weights where there are none: colours along the middle of a picture."""

    taps = (Tap("encoder/map", 24, 128),)

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        width = image.shape[3]
        colours = F.adaptive_avg_pool2d(image[..., width * 3 // 8 : width * 5 // 8], (8, 1))
        return {"encoder/map": colours.flatten(1)[:, :, None, None]}

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": "test_docs_searching:Middle", "kwargs": {}}


def blocks() -> list[tuple[str, str, str]]:
    """Return the language, the note and the text of every block of the page."""
    found = re.findall(r"^```([^\n]+)\n(.*?)^```$", PAGE, re.M | re.S)
    return [(*head.partition(" ")[::2], text) for head, text in found]


@pytest.fixture
def newcomer(
    run_reid: RunReid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reid_cache: Path
) -> RunReid:
    """Return the command line in a folder with photos and a picture of one of the same people."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    shipped = models.shipped_weights()
    if models.DEFAULT_MODEL not in shipped:
        file = tmp_path / "shipped" / "embedder.safetensors"
        file.parent.mkdir()
        Embedder.from_encoder(Middle(), (128, 64)).save(file)
        monkeypatch.setattr(models, "shipped_weights", lambda: {models.DEFAULT_MODEL: file})
    dataset = open_dataset("synthpeople/market:tiny", cache=reid_cache)
    (tmp_path / "photos").mkdir()
    for number, sample in enumerate(dataset.gallery[:8]):
        shutil.copy(sample.path, tmp_path / "photos" / f"{number}.jpg")
    shutil.copy(dataset.gallery[2].path, tmp_path / "someone.jpg")
    return run_reid


def test_every_block_does_what_the_page_says(
    newcomer: RunReid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said: dict[str, str] = {}
    for language, note, text in blocks():
        if note == "elsewhere":
            for line in text.splitlines():
                embed.make_context("embed", shlex.split(line.partition(" embed ")[2]))
        elif note.startswith("file="):
            (tmp_path / note.removeprefix("file=")).write_text(text)
        elif language == "python":
            exec(compile(text, "searching.md", "exec"), {})
            said["python"] = capsys.readouterr().out
        else:
            assert language == "sh", f"a block that nobody runs: {text}"
            for line in text.splitlines():
                said[line] = follow(newcomer, line.replace("$PWD", str(tmp_path)))
    first = next(out for line, out in said.items() if line.startswith("reid search gallery some"))
    assert first.splitlines()[0] == str(tmp_path / "someone.jpg")
    assert first.splitlines()[1].split()[1:] == ["+1.000", str(tmp_path / "photos" / "2.jpg")]
    assert load_embedder("mine").fingerprint() == Gallery.open("gallery").description.fingerprint
    threshold = models.read_calibration(Path("mine/embedder.safetensors"))
    assert threshold is not None
    assert Gallery.open("gallery").threshold == threshold["threshold"]
    assert said["python"].startswith(f"1.000 {tmp_path}/photos/2.jpg\n")
    answer = json.loads(
        said["reid search gallery crops.csv --threshold 0.5 --json"].splitlines()[0]
    )
    assert answer["found"][0]["item"]["camera"] == "entrance"
    assert (tmp_path / "answers.png").stat().st_size > 1000
    kept = list(Gallery.open("gallery").items())
    assert sum(item["path"].endswith("/1.jpg") and "box" not in item for item in kept) == 1


def follow(reid: RunReid, line: str) -> str:
    """Run one line of the page; what is installed already is not installed."""
    words = shlex.split(line)
    if words[:2] == ["pip", "install"]:
        assert all(metadata.version(name) for name in words[2:])
        return ""
    assert words[0] == "reid"
    for engine, package in PACKAGES.items():
        if engine in line:
            pytest.importorskip(package.partition(".")[0])
    code, out, err = reid(*words[1:])
    assert code == 0, f"{line}\n{err}"
    return out
