"""The commands, from the command line to the exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core import load_embedder
from reid_core.testing.fixtures import RunReid
from reid_search import models
from reid_search.gallery.gallery import Gallery
from reid_search.models import OpenModel


@pytest.fixture
def reid(run_reid: RunReid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunReid:
    """Return `run_reid` in an empty folder."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    return run_reid


@pytest.fixture
def model(search_model: OpenModel) -> Path:
    return search_model.weights.parent


def test_embed_search_add_remove(reid: RunReid, model: Path, search_photos: Path):
    code, out, err = reid("embed", model, search_photos / "*.png", "--out", "g")
    assert (code, out) == (0, f"g: 4 pictures by {model}; 4 added\n"), err
    code, out, _ = reid("embed", model, search_photos, "--out", "g")
    assert (code, out) == (0, f"g: 6 pictures by {model}; 2 added, 4 were there\n")

    code, out, err = reid("search", "g", search_photos / "3.png", "--top", 2, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["query"] == {"path": str(search_photos / "3.png")}
    assert answer["found"][0]["row"] == 3
    assert answer["found"][0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert answer["found"][0]["item"] == answer["query"]
    assert len(answer["found"]) == 2

    code, out, _ = reid("search", "g", search_photos / "3.png", "--threshold", 0.99999)
    assert code == 0
    assert out.splitlines() == [
        str(search_photos / "3.png"),
        f"    1  +1.000  {search_photos / '3.png'}",
    ]
    code, out, _ = reid("gallery", "show", "g")
    assert code == 0
    assert "pictures: 6, 3 values each" in out
    assert "threshold: none" in out

    code, out, _ = reid("gallery", "remove", "g", search_photos / "later", "*/0.png")
    assert (code, out) == (0, "g: 3 removed, 3 left\n")
    assert [Path(item["path"]).name for item in Gallery.open("g").items()] == [
        "1.png", "2.png", "3.png",
    ]  # fmt: skip
    code, _, err = reid("gallery", "remove", "g", "*/0.png")
    assert (code, err) == (2, "reid: g: no picture of it is */0.png\n")


def test_what_is_removed_is_what_was_named(reid: RunReid, model: Path, search_photos: Path):
    for name in ("photo1.png", "photo[1].png", "photo2.png", "p[h]/a.png", "ph/a.png"):
        Path("rm", name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(search_photos / "0.png", Path("rm", name))
    Path("sub").mkdir()
    reid("embed", model, "rm", "--out", "g")
    before = list(Gallery.open("g").items())

    def left() -> list[str]:
        here = Path.cwd() / "rm"
        return [str(Path(item["path"]).relative_to(here)) for item in Gallery.open("g").items()]

    code, _, err = reid("gallery", "remove", "g", "rm/photo2.png", "rm/gone.png", "*/x?.png")
    assert (code, err) == (2, "reid: g: no picture of it is rm/gone.png or */x?.png\n")
    assert list(Gallery.open("g").items()) == before
    code, out, err = reid("gallery", "remove", "g", Path("rm/photo[1].png").absolute(), "rm/p[h]")
    assert (code, out) == (0, "g: 2 removed, 3 left\n"), err
    assert left() == ["ph/a.png", "photo1.png", "photo2.png"]
    code, out, err = reid("gallery", "remove", "g", "sub/../rm/ph", "*/photo[1].png")
    assert (code, out) == (0, "g: 2 removed, 1 left\n"), err
    assert left() == ["photo2.png"]
    Gallery.open("g").add([search_photos / "1.png"], [{"path": "rel/photo[3].png"}])
    code, out, err = reid("gallery", "remove", "g", "rel/photo[3].png", "/")
    assert (code, out) == (0, "g: 2 removed, 0 left\n"), err


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_odd_entries_of_a_folder_are_named_and_the_others_embedded(
    reid: RunReid, model: Path, search_photos: Path, kind: str
):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    shutil.copytree(search_photos / "later", "mix")
    odd = os.fsdecode(b"mix/caf\xe9.png")
    shutil.copy(search_photos / "0.png", odd)
    Path("mix/round").symlink_to(".", target_is_directory=True)
    Path("mix/self.png").symlink_to("self.png")
    Path("mix/itself").symlink_to("itself")
    broken = ["self.png"]
    if importlib.util.find_spec("av") is not None:
        broken.append("clip.mp4")
        Path("mix/clip.mp4").write_bytes(bytes(2000))
    code, out, err = reid("embed", model, "mix", "--out", "g", "--items", kind)
    named = kind == "jsonl"
    assert (code, out) == (1, f"g: {2 + named} pictures by {model}; {2 + named} added\n"), err
    assert all(f"unreadable: {Path('mix', name).absolute()}: " in err for name in broken)
    assert ("caf\\udce9.png: its name is not UTF-8" in err) == (not named)
    assert f"could not be read, and named above: {len(broken) + (not named)}\n" in err
    code, out, _ = reid("embed", model, "mix", "--out", "g")
    assert out.endswith(f"; 0 added, {2 + named} were there\n")
    if named:
        for options in ((), ("--json",)):
            code, out, err = reid("search", "g", odd, "--top", 1, *options)
            assert code == 0, err
            assert out.count("caf\\udce9.png") == 2
        (found,) = Gallery.open("g").search(odd, top=1)
        assert found[0].item["path"] == os.path.abspath(odd)
        assert reid("gallery", "remove", "g", odd)[0] == 0


def test_without_a_model_the_shipped_one_is_taken(
    reid: RunReid, search_model: OpenModel, search_photos: Path, monkeypatch: pytest.MonkeyPatch
):
    shipped = {models.DEFAULT_MODEL: search_model.weights}
    monkeypatch.setattr(models, "shipped_weights", lambda: shipped)
    code, out, err = reid("embed", search_photos)
    assert (code, out) == (0, "gallery: 6 pictures by people/osnet_x0_25; 6 added\n"), err
    code, out, err = reid("embed", models.DEFAULT_MODEL, search_photos)
    assert (code, out) == (
        0, "gallery: 6 pictures by people/osnet_x0_25; 0 added, 6 were there\n"
    ), err  # fmt: skip


def test_a_calibrated_embedder_decides(reid: RunReid, model: Path, search_photos: Path):
    embedder = load_embedder(model)
    Path("mine").mkdir()
    embedder.save(Path("mine/embedder.safetensors"))
    models.write_calibration(Path("mine/embedder.safetensors"), {"threshold": 0.9999999})
    assert reid("embed", model, search_photos / "later", "--out", "g")[0] == 0
    query = search_photos / "0.png"
    _, out, _ = reid("search", "g", query, "--top", 1)
    assert "nobody" not in out
    code, out, err = reid("search", "g", query, "--top", 1, "--model", "mine")
    assert code == 0, err
    assert out == f"{query}\n  nobody: no picture is as similar as 1.000\n"
    _, out, _ = reid("search", "g", query, "--top", 1, "--model", "mine", "--threshold", "-1")
    assert "nobody" not in out


def test_a_gallery_is_asked_for_in_another(reid: RunReid, model: Path, search_photos: Path):
    reid("embed", model, search_photos, "--out", "all")
    reid("embed", model, search_photos / "later", "--out", "some")
    code, out, _ = reid("search", "all", "some", "--top", 1, "--json")
    assert code == 0
    assert [json.loads(line)["found"][0]["row"] for line in out.splitlines()] == [4, 5]
    reid("embedder", "make", "--backbone", "test_resnet", "--weights", "random", "--height", 64,
         "--width", 32, "--out", "other")  # fmt: skip
    reid("embed", "other", search_photos, "--out", "foreign")
    code, _, err = reid("search", "all", "foreign")
    assert code == 2
    assert "cannot be compared with those of foreign" in err
    code, _, err = reid("embed", "other", search_photos, "--out", "all")
    assert code == 2
    assert "embed into a new folder" in err


def test_a_picture_of_the_answers_is_drawn(reid: RunReid, model: Path, search_photos: Path):
    reid("embed", model, search_photos, "--out", "g")
    table = Path("crops.csv")
    table.write_text(f"path,box\n{search_photos}/1.png,0 0 20 30\n{search_photos}/2.png,\n")
    code, out, err = reid("search", "g", table, "--top", 3, "--picture", "answers.png")
    assert code == 0, err
    assert f"{search_photos}/1.png (0, 0, 20, 30)\n" in out
    with Image.open("answers.png") as drawn:
        assert drawn.size == (4 * 70 + 18, 2 * 148 + 6)
        pixels = np.asarray(drawn)
    with Image.open(search_photos / "2.png") as image:
        colour = np.asarray(image).mean((0, 1))
    shown = pixels[6 + 148 : 6 + 148 + 128, 6:70]
    assert np.allclose(shown[4:-4, 4:-4].mean((0, 1)), colour, atol=2)


def test_what_cannot_be_read_is_named(reid: RunReid, model: Path, search_photos: Path):
    Path("broken.jpg").write_bytes(b"no picture")
    code, out, err = reid("embed", model, "broken.jpg", search_photos / "0.png", "--out", "g")
    assert (code, out) == (1, f"g: 1 picture by {model}; 1 added\n")
    assert f"unreadable: {Path('broken.jpg').absolute()}: cannot be read as an image" in err
    assert "could not be read, and named above: 1\n" in err
    code, out, err = reid("search", "g", "broken.jpg", search_photos / "0.png", "--json")
    assert code == 1
    assert len(out.splitlines()) == 1
    assert "unreadable: " in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("embed", "MODEL", "PHOTOS", "--out", "full"), "full: holds something already"),
        (("embed", "MODEL", "PHOTOS", "--out", "full/x"), "full/x: is a file; name a folder"),
        (("embed", "MODEL", "empty", "--out", "g"), "empty: there are no pictures"),
        (("embed", "MODEL", "gone", "--out", "g"), "gone: no such file or folder"),
        (("embed", "MODEL", "--out", "g"), "is a model: name pictures behind it"),
        (("embed", "PHOTOS", "MODEL", "--out", "g"), "is a model: name one alone, before the"),
        (("embed", "gone.safetensors", "PHOTOS", "--out", "g"), "gone.safetensors is missing"),
        (("embed", "ftp://x", "PHOTOS", "--out", "g"), "no model can be had from such an address"),
        (("search", "gone", "PHOTOS"), "gone: is missing; make one with: reid embed"),
        (("search", "full", "PHOTOS"), "full: is no gallery"),
        (("search", "full", "PHOTOS", "--picture", "a.txt"), "--picture a.txt: the file's name"),
        (("gallery", "show", "gone"), "gone: is missing"),
        (("embedder", "make", "--backbone", "x", "--out", "full"), "full: holds something already"),
        (("embedder", "make", "--backbone", "resnet1", "--out", "e"), "there is no encoder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    reid: RunReid, model: Path, search_photos: Path, arguments: tuple[str, ...], reason: str
):
    Path("full").mkdir()
    Path("full/x").write_text("mine")
    Path("empty").mkdir()
    stands_for = {"MODEL": model, "PHOTOS": search_photos}
    code, out, err = reid(*(stands_for.get(word, word) for word in arguments))
    assert (code, out) == (2, "")
    assert reason in err
    assert len([line for line in err.splitlines() if not line.startswith("warning:")]) == 1
    assert sorted(path.name for path in Path().rglob("*")) == ["empty", "full", "x"]


@pytest.mark.parametrize(
    "arguments",
    [("search", "g", "a.png", "--threshold"), ("report", "run", "--out", "a.html", "--megabytes")],
)
def test_no_number_is_a_number_of_no_range(reid: RunReid, arguments: tuple[str, ...]):
    code, _, err = reid(*arguments, "nan")
    assert code == 2
    assert "nan is no finite number" in err


def test_an_embedder_is_made_without_a_run(reid: RunReid, search_photos: Path):
    arguments = ("embedder", "make", "--backbone", "test_resnet", "--weights", "random",
                 "--height", 64, "--width", 32)  # fmt: skip
    code, out, err = reid(*arguments, "--out", "e", "--seed", 3, "--pooling", "max")
    assert (code, out) == (0, "e: test_resnet, 64 x 32 -> 96 values\n"), err
    embedder = load_embedder("e")
    image = search_photos / "0.png"
    expected = embedder.embed(image)
    assert embedder.branches["core/pool"].kind == "max"
    reid(*arguments, "--out", "same", "--seed", 3, "--pooling", "max")
    assert load_embedder("same").fingerprint() == embedder.fingerprint()
    reid(*arguments, "--out", "other", "--seed", 4, "--pooling", "max")
    assert not np.allclose(load_embedder("other").embed(image), expected, atol=1e-3)
