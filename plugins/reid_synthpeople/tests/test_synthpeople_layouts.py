"""File names against the grammars of the official sets, and where side-cars lie."""

import re
from pathlib import PurePosixPath

import pytest

from reid_synthpeople.layouts import side_car
from reid_synthpeople.names import SIZES
from reid_synthpeople.plans import Entry, plan_of

MARKET = re.compile(r"(-1|\d{4})_c([1-6])s([1-6])_(\d{6})_(\d{2})\.jpg")
LTCC = re.compile(r"(\d{3})_(\d{1,2})_c(\d{1,2})_(\d+)\.png")
VCCLOTHES = re.compile(r"(\d{4})-(\d{2})-(\d{2})-(\d{2})\.jpg")
FOLDER = re.compile(r"(\d+)_c(\d{1,2})_o(\d+)_\d+\.jpg")


def entries_of(variant: str, size: str) -> list[tuple[Entry, PurePosixPath]]:
    return [(e, PurePosixPath(e.file)) for e in plan_of(variant, size, seed=1).entries]


@pytest.mark.parametrize("size", SIZES)
def test_market(size: str) -> None:
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for entry, file in entries_of("market", size):
        match = MARKET.fullmatch(file.name)
        assert match, file
        assert (int(match[1]), int(match[2]) - 1) == (entry.pid, entry.shot.camid)
        assert (match[5] == "00") == (entry.split == "query")
        assert file.parent == PurePosixPath("Market-1501-v15.09.15", folders[entry.split])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", ["prcc", "tracks"])
def test_prcc(variant: str, size: str) -> None:
    for entry, file in entries_of(variant, size):
        camera = "ABC"[entry.shot.camid]
        root, rgb, split, *between, name = file.parts
        assert (root, rgb) == ("prcc", "rgb")
        if entry.split in ("train", "val"):
            assert split == entry.split
            assert re.fullmatch(rf"{camera}_cropped_rgb\d{{3}}\.jpg", name), file
            pid = between
        else:
            assert (split, between[0]) == ("test", camera)
            assert re.fullmatch(r"cropped_rgb\d{3}\.jpg", name), file
            pid = between[1:]
        assert [len(text) for text in pid] == [3]
        assert int(pid[0]) == entry.pid


@pytest.mark.parametrize("size", SIZES)
def test_ltcc(size: str) -> None:
    folders = {"train": "train", "query": "query", "gallery": "test"}
    for entry, file in entries_of("ltcc", size):
        match = LTCC.fullmatch(file.name)
        assert match, file
        pid, outfit, camera, _ = map(int, match.groups())
        assert (pid, outfit, camera) == (entry.pid, entry.shot.outfit + 1, entry.shot.camid + 1)
        assert (1 <= outfit <= 14) & (1 <= camera <= 12)
        assert file.parent == PurePosixPath("LTCC_ReID", folders[entry.split])


@pytest.mark.parametrize("size", SIZES)
def test_vcclothes(size: str) -> None:
    for entry, file in entries_of("vcclothes", size):
        match = VCCLOTHES.fullmatch(file.name)
        assert match, file
        pid, camera, outfit, _ = map(int, match.groups())
        assert (pid, camera, outfit) == (entry.pid, entry.shot.camid + 1, entry.shot.outfit + 1)
        assert 1 <= camera <= 4
        assert file.parent == PurePosixPath("VC-Clothes", entry.split)


@pytest.mark.parametrize("size", SIZES)
def test_mixed_has_the_names_of_the_core_s_folder(size: str) -> None:
    for entry, file in entries_of("mixed", size):
        match = FOLDER.fullmatch(file.name)
        assert match, file
        pid, camera, outfit = map(int, match.groups())
        assert (pid, camera, outfit) == (entry.pid, entry.shot.camid + 1, entry.shot.outfit + 1)
        assert file.parent == PurePosixPath(entry.split)


def test_side_cars_lie_at_the_path_of_their_image() -> None:
    file = "prcc/rgb/test/A/001/cropped_rgb003.jpg"
    assert side_car(file, "parts") == "fields/parts/prcc/rgb/test/A/001/cropped_rgb003.png"
    assert side_car(file, "keypoints") == "fields/keypoints/prcc/rgb/test/A/001/cropped_rgb003.npy"
