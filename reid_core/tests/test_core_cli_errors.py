"""Bad input on the command line: one line, exit code 2, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from fake_distributions import FakeSite, fake_site
from PIL import Image

from reid_core.cli import main
from reid_core.plugins.discovery import installed
from reid_core.testing.tiny import TINY

Refused = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    out: Path,
    reid_cache: Path,
) -> Refused:
    """Return a function that runs ``reid run`` on tiny settings and returns its last line."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tomli_w.dumps(TINY), encoding="utf-8")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments: str | Path, command: tuple[str, ...] = (), started: bool = False) -> str:
        words = command or ("run", "-r", str(recipe), "-o", str(out))
        monkeypatch.setattr(sys, "argv", ["reid", *words, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        said = [line for line in lines if line.startswith("reid: ")]
        assert len(said) == 1, lines
        assert lines[-1] == said[0]
        if not started:
            assert len(lines) == 1, lines
            assert command or not out.exists(), "a run that never began left a folder"
        return said[0]

    return call


def folder(root: Path, **splits: list[str]) -> Path:
    """Write a folder data set: images by split, each named after its person and camera."""
    rng = np.random.default_rng(0)
    for split, stems in splits.items():
        (root / split).mkdir(parents=True)
        for stem in stems:
            pixels = rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"{stem}.jpg")
    return root


TRAIN = [f"{pid:04d}_c{camera}_{shot}" for pid in range(4) for camera in (1, 2) for shot in (1, 2)]
QUERY = ["0010_c1_1", "0011_c1_1"]
GALLERY = ["0010_c2_1", "0011_c2_1"]


def test_an_unknown_plugin(refused: Refused, site: FakeSite) -> None:
    site.add("reid-zebra", {"zz_zebra": "zebra_module:Made"})
    assert "there is no plugin 'zz_zebr'; did you mean 'zz_zebra'?" in refused("-p", "zz_zebr")


def test_a_plugin_that_fails_to_import(refused: Refused, site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "zebra_m:Z"}, modules={"zebra_m": "import no_such_library"})
    line = refused("-p", "zebra")
    for word in ("'zebra' (reid-zebra 1.2", "cannot be imported", "no_such_library"):
        assert word in line


def test_a_broken_plugin_that_nobody_asked_for(
    site: FakeSite, refused: Refused, tmp_path: Path
) -> None:
    site.add("reid-zebra", {"zebra": "zebra_m:Z"}, modules={"zebra_m": "import no_such_library"})
    line = refused("--data", "nobodys")
    assert "there is no data set 'nobodys'" in line
    assert "installed plugin 'zebra' could not be searched" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-s", "optim.rl=1"), ("unknown key 'optim.rl'", "did you mean 'optim.lr'?")),
        (("-s", "san.weight=1"), ("'san' is neither a section nor a requested plugin",)),
        (("-s", "optim.lr=fast"), ("optim.lr: ", "given: 'fast'")),
        (("-s", "optim.lr"), ("--set optim.lr: expected KEY=VALUE",)),
        (("-s", "data.batch_size=7"), ("data.batch_size = 7 is not a multiple",)),
        (("-s", "data.batch_size=100"), ("needs 50 identities, and there are 8",)),
        (("--own", "identity=zebra"), ("--own identity=zebra: 'zebra' does not claim it",)),
        (("--label", "parts=zebra"), ("--label parts=zebra", "no requested plugin does")),
        (("-s", "data.mixture=[0, 0]"), ("data.mixture.0: ", "greater than 0 (given: 0)")),
        (("-s", "data.mixture=equal"), ("data.mixture: ", "'natural' or 'balanced'")),
        (
            ("-s", "synthpeople.seed=1"),
            ("'synthpeople' is neither a section", "request it, too: --plugins synthpeople"),
        ),
        (("--field", "parts=nowhere"), ("--field parts=", "nowhere: there is no such folder")),
        (("--embed", "core/globall"), ("no embedding 'core/globall'", "'core/global'")),
        (("-b", "osnet-ain"), ("no encoder 'osnet-ain'", "did you mean 'osnet_ain_x")),
        (("-d", ""), ("'' is no name of a data set: expected NAME",)),
        (("-b", "resnet5"), ("no encoder 'resnet5'", "did you mean 'resnet")),
        (
            ("-b", "test_convnext", "-s", "model.last_stride=1"),
            ("last_stride = 1 is not possible", "-s model.last_stride=2"),
        ),
        (("-s", "model.pretrained=nowhere.pth"), ("no pretrained weights at nowhere.pth",)),
        (("-s", "model.pretrained="), ("model.pretrained: is empty: name a file",)),
        (("-d", "tou:tiny"), ("no data set 'tou'; did you mean 'toy'?",)),
        (("-d", "toy:huge"), ("'toy' has no size 'huge'", "tiny")),
        (("-d", "toy/cc"), ("'toy' has no variant 'cc'",)),
        (("-d", "toy-pairs:tiny"), ("is a training source and no data set",)),
        (("-d", "folder"), ("give their folder with --data-root DIR",)),
        (("-d", "folder", "--data-root", "nowhere"), ("nowhere: no such folder",)),
        (("-s", "evaluation.protocols=['x']"), ("no evaluation protocol 'x'",)),
        (("--resume",), ("there is no folder",)),
        (("--device", "cuda:99"), ("cuda:99",)),
        (("--device", "gpu"), ("'gpu' is no device; use auto, cpu or cuda",)),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], words: tuple[str, ...], refused: Refused
) -> None:
    line = refused(*arguments)
    for word in words:
        assert word in line


def test_cuda_asked_for_and_absent(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused("--device", "cuda")
    assert "no CUDA device here" in line
    assert "use --device cpu" in line


def test_a_recipe_that_is_not_there(refused: Refused, out: Path) -> None:
    line = refused(command=("run", "-r", "core/quik", "-o", str(out)))
    assert "there is no recipe 'core/quik'; did you mean 'core/quick'? (core/quick)" in line


def test_an_existing_run_folder_is_left_alone(refused: Refused, out: Path) -> None:
    out.mkdir()
    (out / "config.toml").write_text("something")
    line = refused(started=True)
    assert "holds a run already; choose another --out, or add --resume" in line
    assert [path.name for path in out.iterdir()] == ["config.toml"]
    assert (out / "config.toml").read_text() == "something"


def test_a_data_set_with_one_camera_says_why_no_query_is_valid(
    refused: Refused, tmp_path: Path
) -> None:
    one = [name.replace("_c2_", "_c1_x") for name in GALLERY]
    root = folder(tmp_path / "data", train=TRAIN, query=QUERY, gallery=one)
    line = refused("-d", "folder", "--data-root", root)
    assert "no valid query" in line or "no query" in line
    assert "camera" in line


def test_a_gallery_without_the_people_of_the_queries_says_so(
    refused: Refused, tmp_path: Path
) -> None:
    root = folder(tmp_path / "data", train=TRAIN, query=QUERY, gallery=["0099_c2_1"])
    line = refused("-d", "folder", "--data-root", root)
    assert "quer" in line
    assert "gallery" in line


def test_identities_with_one_image_each(refused: Refused, tmp_path: Path) -> None:
    lonely = [f"{pid:04d}_c1" for pid in range(9)]
    root = folder(tmp_path / "data", train=lonely, query=QUERY, gallery=GALLERY)
    line = refused("-d", "folder", "--data-root", root)
    assert "no identity has two images (9 identities, 9 images)" in line


def test_too_few_identities_for_a_batch(refused: Refused, tmp_path: Path) -> None:
    root = folder(tmp_path / "data", train=TRAIN[:8], query=QUERY, gallery=GALLERY)
    line = refused("-d", "folder", "--data-root", root)
    assert "a batch of 8 with 2 images per identity needs 4 identities, and there are 2" in line
    assert "-s data.batch_size=4 is the most that works" in line


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_corrupt_training_image_is_named_with_its_row(
    damage: str, refused: Refused, tmp_path: Path
) -> None:
    root = folder(tmp_path / "data", train=TRAIN, query=QUERY, gallery=GALLERY)
    victim = root / "train" / f"{TRAIN[11]}.jpg"
    whole = victim.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"no image at all"}
    victim.write_bytes(contents[damage])
    line = refused("-d", "folder", "--data-root", root, "-s", "data.epoch_by=images", started=True)
    assert str(victim) in line
    assert "row 11 of source 'main'" in line


def test_a_corrupt_query_is_named(refused: Refused, tmp_path: Path) -> None:
    root = folder(tmp_path / "data", train=TRAIN, query=QUERY, gallery=GALLERY)
    victim = root / "query" / f"{QUERY[1]}.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    line = refused("-d", "folder", "--data-root", root, started=True)
    assert str(victim) in line


def test_a_checkpoint_of_other_settings(
    refused: Refused, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(tmp_path / "tiny.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["reid", "run", "-r", recipe, "-o", str(out)])
        main()
    capsys.readouterr()
    before = (out / "checkpoint.pt").read_bytes()
    resume = ("run", "-o", str(out), "--resume")
    line = refused("-s", "optim.lr=0.5", command=resume, started=True)
    assert "optim.lr was 0.0007, is 0.5" in line
    (out / "checkpoint.pt").write_bytes(before[:1000])
    line = refused(command=resume, started=True)
    assert "checkpoint.pt is truncated" in line
    assert json.loads((out / "results.json").read_text())["plugins"] == []


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("eval", "nowhere", "-d", "toy:tiny"), "nowhere"),
        (("eval", "nowhere.pt", "-d", "toy:tiny"), "there is no embedder: nowhere.pt is missing"),
        (("export", "nowhere.safetensors"), "there is no embedder: nowhere.safetensors is missing"),
        (("data", "show", "tou"), "no data set 'tou'; did you mean 'toy'?"),
        (("plugins", "check", "zz_nobody"), "there is no plugin 'zz_nobody'"),
    ],
)
def test_other_commands_are_as_strict(
    command: tuple[str, ...], word: str, refused: Refused, out: Path
) -> None:
    if command[0] == "data":
        pytest.importorskip("reid_benchmarks")
    shutil.rmtree(out, ignore_errors=True)
    assert word in refused(command=command)


def test_without_data_and_without_synthetic_people_the_way_on_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: Refused
) -> None:
    toy = {name: found for name, found in installed().items() if name == "toy"}
    for module in ("providers", "offers"):
        monkeypatch.setattr(f"reid_core.plugins.{module}.installed", lambda: toy)
    line = refused(command=("run", "-o", str(tmp_path / "out")))
    assert "data set 'synthpeople' is not installed: pip install reid-synthpeople" in line
    assert "or choose another one with --data NAME (there are: folder, toy, toy-pairs)" in line
