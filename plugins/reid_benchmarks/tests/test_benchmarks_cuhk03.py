"""CUHK03 out of folders and out of MATLAB's files, by the new and by the classic protocol."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmark_twins import (
    CUHK03_PEOPLE,
    cuhk03_folders,
    cuhk03_names,
    grey_of,
    load as load_benchmark,
    put,
    write_cuhk03_release,
    write_new_protocol,
)

from reid_benchmarks.datasets.cuhk03_release import extract_release
from reid_benchmarks.protocols import PROTOCOLS
from reid_core.contract.samples import DataSet
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_retrieval.labels import Labels
from reid_retrieval.searching import Search

CONFIG = "cuhk03_new_protocol_config_labeled.mat"


def load(root: Path, variant: str, size: str | None = None) -> DataSet:
    return load_benchmark("cuhk03", root, variant, size)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Return a root with the release's file; pair 1 is tested in split 1, the others in split 2."""
    inner = tmp_path / "data" / "cuhk03_release"
    inner.mkdir(parents=True)
    testsets = [CUHK03_PEOPLE[:2], CUHK03_PEOPLE[2:]]
    write_cuhk03_release(inner / "cuhk-03.mat", [testsets[n % 2] for n in range(20)])
    return tmp_path / "data"


def test_every_image_of_the_release_is_extracted_once(release: Path, tmp_path: Path) -> None:
    file = release / "cuhk03_release" / "cuhk-03.mat"
    folder = extract_release(file, "detected", tmp_path / "cache")
    images = sorted((folder / "images_detected").iterdir())
    assert [path.name for path in images] == sorted(cuhk03_names())  # empty cells make no files
    for path in images:
        pixels = read_image(path)
        assert pixels.shape == (6, 3, 3)
        assert (pixels == grey_of(path.name)).all()
    before = images[0].stat().st_mtime_ns
    assert extract_release(file, "detected", tmp_path / "cache") == folder
    assert images[0].stat().st_mtime_ns == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # nothing half-made is left


def test_another_layout_of_the_cache_is_made_anew(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = release / "cuhk03_release" / "cuhk-03.mat"
    before = extract_release(file, "detected", tmp_path / "cache")
    monkeypatch.setattr("reid_benchmarks.datasets.cuhk03_release._LAYOUT", 2)
    assert extract_release(file, "detected", tmp_path / "cache") != before


def test_classic_split_from_the_release(release: Path) -> None:
    dataset = load(release, "classic-labeled")
    assert dataset.name == "cuhk03/classic-labeled:1"
    assert dataset.protocols[0].startswith("cuhk03/classic")
    # Test people keep their numbers; queries are the gallery.
    assert [(s.pid, s.camid, s.extra["view"]) for s in dataset.query] == [
        *((1001, 0, 1), (1001, 0, 1), (1001, 1, 2), (1001, 1, 2)),
        *((1002, 0, 1), (1002, 0, 1), (1002, 1, 2), (1002, 1, 2)),
    ]
    assert [s.path for s in dataset.gallery] == [s.path for s in dataset.query]
    assert {s.split for s in dataset.gallery} == {"gallery"}
    # Five pairs are ten cameras.
    assert [(s.pid, s.camid, s.extra["pair"]) for s in dataset.train.samples] == [
        *((0, 2, 2), (0, 2, 2), (0, 3, 2), (0, 3, 2)),
        *((1, 8, 5), (1, 8, 5)),
    ]
    other = load(release, "classic-labeled", "20")
    assert other.name == "cuhk03/classic-labeled:20"
    assert sorted({s.pid for s in other.query}) == [2001, 5049]
    assert {s.extra["partition"] for s in other.gallery} == {20}
    # A camera has one number in training and in test.
    assert [(s.camid, s.extra["pair"]) for s in other.query] == [
        *((2, 2), (2, 2), (3, 2), (3, 2), (8, 5), (8, 5)),
    ]
    assert {s.camid for s in other.train.samples} == {0, 1}


def test_the_classic_protocol_searches_in_the_other_view_of_all_pairs(release: Path) -> None:
    """A query of the first view sees no first view, whichever pair of cameras it is of."""
    dataset = load(release, "classic-labeled", "20")
    query, gallery = Labels.of_samples(dataset.query), Labels.of_samples(dataset.gallery)
    named = {protocol.name: protocol for protocol in PROTOCOLS}
    search = Search(named["cuhk03/classic/multi-shot"], query, gallery)
    shown = [
        [other for other, seen in zip(dataset.gallery, search.shown(row), strict=True) if seen]
        for row in range(len(dataset.query))
    ]
    for asked, offered in zip(dataset.query, shown, strict=True):
        views = {sample.extra["view"] for sample in offered}
        assert views <= {3 - asked.extra["view"]}
    assert [len(offered) for offered in shown] == [2, 2, 4, 4, 2, 2]


def test_classic_split_from_extracted_images(release: Path, tmp_path: Path) -> None:
    from_release = load(release, "classic-detected", "3")
    copied = from_release.query[0].path.parent.parent
    dataset = load(copied, "classic-detected", "3")
    assert dataset.query == from_release.query
    images = put(tmp_path / "images_detected", *cuhk03_names())
    with pytest.raises(DataError, match=r"20 splits are missing: testsets.json is not beside"):
        load(tmp_path, "classic-detected")
    assert images.is_dir()
    (tmp_path / "testsets.json").write_text("[[[1, 1]]]", encoding="utf-8")
    assert {s.pid for s in load(tmp_path, "classic-detected").query} == {1001}
    with pytest.raises(DataError, match="there are 1 test sets, not 2"):
        load(tmp_path, "classic-detected", "2")
    (tmp_path / "testsets.json").write_text("[[1, 2]]", encoding="utf-8")
    with pytest.raises(DataError, match=r"testsets.json: no lists of test people"):
        load(tmp_path, "classic-detected")


def test_test_people_without_an_image_are_told(tmp_path: Path) -> None:
    put(tmp_path / "images_labeled", *cuhk03_names())
    testsets = [[[1, 1], [1, 700]]]
    (tmp_path / "testsets.json").write_text(json.dumps(testsets), encoding="utf-8")
    notice = load(tmp_path, "classic-labeled").notice
    assert "1 test people of split 1 have no image" in str(notice)


@pytest.mark.parametrize("extracted", [False, True])
def test_new_protocol_by_its_configuration(extracted: bool, release: Path, tmp_path: Path) -> None:
    root = release
    if extracted:
        root = tmp_path / "extracted"
        put(root / "images_labeled", *cuhk03_names())
    write_new_protocol(root / CONFIG)
    dataset = load(root, "labeled")
    assert dataset.name == "cuhk03/labeled"
    assert dataset.protocols == ("cuhk03/np",)
    assert [(s.path.name, s.pid, s.camid) for s in dataset.train.samples] == [
        ("1_001_1_01.png", 0, 0),
        ("1_001_1_05.png", 0, 0),
        ("1_001_2_06.png", 0, 1),
        ("1_001_2_10.png", 0, 1),
        ("5_049_1_01.png", 1, 8),
        ("5_049_1_05.png", 1, 8),
    ]
    assert [(s.path.name, s.pid, s.camid) for s in dataset.query] == [
        ("1_002_1_01.png", 2, 0),
        ("1_002_2_06.png", 2, 1),
        ("2_001_1_01.png", 3, 2),
        ("2_001_2_06.png", 3, 3),
    ]
    assert [(s.path.name, s.pid, s.camid) for s in dataset.gallery] == [
        ("1_002_1_05.png", 2, 0),
        ("1_002_2_10.png", 2, 1),
        ("2_001_1_05.png", 3, 2),
        ("2_001_2_10.png", 3, 3),
    ]


def test_new_protocol_in_the_folders_of_market1501(tmp_path: Path) -> None:
    cuhk03_folders(tmp_path)
    dataset = load(tmp_path, "detected")
    assert [(s.pid, s.camid, s.extra) for s in dataset.train.samples] == [
        (0, 0, {"view": 1, "person": 1}),
        (0, 1, {"view": 2, "person": 1}),
        (1, 0, {"view": 1, "person": 4}),
    ]
    assert [(s.pid, s.camid) for s in dataset.gallery] == [(3, 0), (3, 1), (6, 1)]
    assert "train 3 images (official 7,365)" in str(dataset.notice)
    assert "train 3 images (official 7,368)" in str(load(tmp_path, "labeled").notice)


def test_without_configuration_there_is_no_new_protocol(release: Path) -> None:
    with pytest.raises(
        DataError, match=rf"{CONFIG} is not in .*cuhk03/classic-labeled, does without"
    ):
        load(release, "labeled")


def test_contradictions_of_the_configuration_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "images_labeled", *cuhk03_names())
    path = write_new_protocol(tmp_path / CONFIG, views=[1] * len(cuhk03_names()))
    with pytest.raises(DataError, match=r"camId of 1_001_2_06.png is 1"):
        load(tmp_path, "labeled")
    write_new_protocol(path, views=[1])
    with pytest.raises(DataError, match="14 names, 14 labels and 14 indices do not divide"):
        load(tmp_path, "labeled")
    path.write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(DataError, match="not the configuration of CUHK03's new protocol"):
        load(tmp_path, "labeled")


def test_images_that_the_configuration_misses_are_listed(tmp_path: Path) -> None:
    put(tmp_path / "images_labeled", *cuhk03_names()[2:])
    write_new_protocol(tmp_path / CONFIG)
    found = "2 of 14 images are missing: 1_001_1_01.png, 1_001_1_05.png; the copy is incomplete"
    with pytest.raises(DataError, match=found):
        load(tmp_path, "labeled")


def test_a_split_of_the_new_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leave out ':7', or say cuhk03/classic-labeled:7"):
        load(tmp_path, "labeled", "7")
    with pytest.raises(DataError, match="has no size '21'"):
        load(tmp_path, "classic-labeled", "21")


def test_nothing_that_could_be_cuhk03(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither images_detected nor cuhk-03.mat"):
        load(tmp_path, "classic-detected")


def test_a_damaged_release_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cuhk-03.mat").write_bytes(b"\x89HDF\r\n\x1a\n, and no more")
    with pytest.raises(DataError, match=r"cuhk-03.mat: not the release's .* extract it again"):
        load(tmp_path, "classic-labeled")
    assert not list((tmp_path / "cache" / "benchmarks").iterdir())


def test_without_h5py_the_line_that_installs_it_is_told(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"needs h5py: pip install 'reid-benchmarks\[mat\]'"):
        load(release, "classic-labeled")
