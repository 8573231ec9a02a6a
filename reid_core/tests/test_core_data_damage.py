"""Damaged pictures are found; nothing is filled up with grey in silence."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps

from reid_core.contract.samples import DataSet, Sample, Source
from reid_core.data.damage import without_damaged
from reid_core.data.decoding import read_labels
from reid_core.data.draws import Draw
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_core.loop.assembly import Assembly
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_flags


def photograph(height: int = 96, width: int = 48) -> Image.Image:
    """Return something whose scan is longer than its tables."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 128 + 60 * np.sin(x / 5 + y / 11) + 40 * np.sin(y / 3)
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(waves[:, :, None] + noise, 0, 255).astype(np.uint8))


def encoded(kind: str = "JPEG", **options: object) -> bytes:
    memory = io.BytesIO()
    photograph().save(memory, kind, **({"quality": 92} if kind == "JPEG" else {}), **options)
    return memory.getvalue()


JPEG, PROGRESSIVE, PNG = encoded(), encoded(progressive=True), encoded("PNG")
SCAN = JPEG.rindex(b"\xff\xda") + 14


def read(folder: Path, data: bytes, name: str = "a.jpg") -> np.ndarray:
    (folder / name).write_bytes(data)
    return read_image(folder / name)


def refused(folder: Path, data: bytes, name: str = "a.jpg") -> str:
    with pytest.raises(DataError, match=name) as caught:
        read(folder, data, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE], ids=["sequential", "progressive"])
def test_a_scan_that_ends_early_is_refused(tmp_path: Path, data: bytes) -> None:
    # It ends like a whole file, but half of the rows are missing: Pillow gives grey.
    assert "damaged JPEG" in refused(tmp_path, data[: len(data) * 2 // 3] + b"\xff\xd9")


def test_what_libjpeg_only_warns_of_is_refused_with_its_words(tmp_path: Path) -> None:
    said = refused(tmp_path, JPEG[:-2] + b"A" * 40 + JPEG[-2:])
    assert "extraneous bytes before marker 0xd9" in said
    tables = JPEG.index(b"\xff\xdb")
    assert "extraneous bytes" in refused(tmp_path, JPEG[:tables] + b"\0\0" + JPEG[tables:])


def test_bytes_behind_the_end_are_harmless(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path, JPEG + b"\0" * 512), read(tmp_path, JPEG))


def test_a_hole_of_zeros_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    for start in range(SCAN, len(JPEG) - 70, 61):
        refused(tmp_path, JPEG[:start] + bytes(64) + JPEG[start + 64 :])


def test_long_zeros_that_an_encoder_writes_are_no_hole(tmp_path: Path) -> None:
    memory = io.BytesIO()
    Image.new("RGB", (512, 1024), (90, 90, 90)).save(memory, "JPEG", optimize=True)
    assert bytes(32) in memory.getvalue()
    assert read(tmp_path, memory.getvalue()).std() == 0


def test_a_png_with_a_wrong_check_sum_is_refused_also_as_label_map(tmp_path: Path) -> None:
    at = PNG.index(b"IDAT") + 4000
    changed = PNG[:at] + bytes([PNG[at] ^ 1]) + PNG[at + 1 :]
    assert "check sum" in refused(tmp_path, changed, "a.png")
    assert "its end is missing" in refused(tmp_path, PNG[:-12], "a.png")
    with pytest.raises(DataError, match=r"a\.png.*its end is missing"):
        read_labels(tmp_path / "a.png")


LONGER = settings(max_examples=int(os.environ.get("REID_FUZZ_EXAMPLES", "60")), deadline=None)


@LONGER
@given(st.sampled_from([JPEG, PROGRESSIVE, PNG]), st.integers(0), st.data())
def test_any_damage_is_refused_or_leaves_a_whole_picture(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    name = "a.png" if data is PNG else "a.jpg"
    at = place % len(data)
    kind = draw.draw(st.sampled_from(["flip", "cut", "hole"]))
    if kind == "flip":
        data = data[:at] + bytes([data[at] ^ (1 << place % 8)]) + data[at + 1 :]
    elif kind == "cut":
        assert refused(folder, data[:at], name)
        return
    elif data is not PROGRESSIVE and SCAN <= at < len(data) - 300:
        assert refused(folder, data[:at] + bytes(256) + data[at + 256 :], name)
        return
    with suppress(DataError):
        assert read(folder, data, name).shape[2:] == (3,)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_how_the_camera_was_held_is_applied(tmp_path: Path, turn: int, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    exif = Image.Exif()
    exif[0x0112] = turn
    photograph().save(file, exif=exif)
    with Image.open(file) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(file), upright)
    assert read_image(file).shape == ((48, 96, 3) if turn > 4 else (96, 48, 3))


def damaged_folder(root: Path) -> Path:
    """Write people 1, 2, 3 with a damaged picture each, all of those of person 2."""
    for split in ("train", "query", "gallery"):
        (root / split).mkdir(parents=True)
        for pid in (1, 2, 3):
            for camera in (1, 2):
                bad = pid == 2 or (pid, camera) == (3, 1)
                data = JPEG[:-400] + b"\xff\xd9" if bad and split == "train" else JPEG
                (root / split / f"{pid}_c{camera}.jpg").write_bytes(data)
    return root


def test_damaged_files_are_left_out_and_people_numbered_again(tmp_path: Path) -> None:
    files = sorted((damaged_folder(tmp_path) / "train").iterdir())
    samples = tuple(Sample(file, number // 2, number % 2) for number, file in enumerate(files))
    dataset, lines = without_damaged(DataSet("a", Source("main", samples)), 2)
    assert [(s.path.name, s.pid) for s in dataset.train.samples] == [
        ("1_c1.jpg", 0),
        ("1_c2.jpg", 0),
        ("3_c2.jpg", 1),
    ]
    assert [line.partition(":")[0] for line in lines] == [str(f) for f in files[2:5]]


def test_data_check_names_every_broken_scan(run_reid: RunReid, tmp_path: Path) -> None:
    pytest.importorskip("reid_benchmarks")
    code, out, _ = run_reid("data", "check", "folder", "--data-root", damaged_folder(tmp_path))
    assert code == 1
    assert "3 files cannot be read" in out


def test_a_run_refuses_or_leaves_out_as_it_is_told(reid_cache: Path, tmp_path: Path) -> None:
    root = damaged_folder(tmp_path / "data")
    folder = {"data": {"name": "folder", "root": str(root), "batch_size": 4}}
    said: list[str] = []

    def assembled(damaged: str) -> Assembly:
        flags = tiny_flags([], folder, {"data": {"damaged": damaged}})
        return assemble(resolve(flags), folder=tmp_path, cache=reid_cache, say=said.append)

    whole = assembled("refuse")
    draws = [Draw(np.arange(6), np.arange(6))]
    with pytest.raises(DataError, match="damaged JPEG"):
        next(whole.loaders["main"].load(draws, 0))
    assert [s.pid for s in assembled("skip").ctx.main.samples] == [0, 0, 1]
    listed = (tmp_path / "damaged.txt").read_text().splitlines()
    assert [Path(line.partition(":")[0]).name for line in listed] == [
        *("2_c1.jpg", "2_c2.jpg", "3_c1.jpg"),
    ]
    told = next(line for line in said if "left out" in line)
    assert told.startswith(f"3 damaged files are left out (listed in {tmp_path}")
