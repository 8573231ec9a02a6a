"""Copies that are not as they should be: litter, odd roots, missing parts, corrupt lists."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_twins import FORMATS, PROVIDERS, TWINS, load, put, put_list

from reid_benchmarks.protocols import PROTOCOLS
from reid_core.config import EvaluationSection
from reid_core.contract.samples import DataRequest, DataSet
from reid_core.errors import DataError
from reid_core.evaluation.evaluating import Evaluator
from reid_core.plugins.providers import check_request

SPLIT_FOLDERS = [
    *(("market1501", name) for name in ("bounding_box_train", "query", "bounding_box_test")),
    *(("duke", name) for name in ("bounding_box_train", "query", "bounding_box_test")),
    *(("cuhk03", f"detected/{name}") for name in ("query", "bounding_box_test")),
    *(("msmt17", name) for name in ("train", "test")),
    *(("prcc", f"rgb/{name}") for name in ("train", "test", "test/A", "test/B", "test/C")),
    *(("ltcc", name) for name in ("train", "query", "test")),
    *(("vcclothes", name) for name in ("train", "query", "gallery")),
    *(("partial-reid", name) for name in ("partial_body_images", "whole_body_images")),
    ("partial-ilids", "Gallery"),
    ("occluded-reid", "whole_body_images"),
    *(("celeb-reid", name) for name in ("train", "query", "gallery")),
    *(("celeb-reid-light", name) for name in ("train", "query", "gallery")),
    *(("last", name) for name in ("train", "test", "test/query", "test/gallery")),
    *(("deepchange", name) for name in ("train-set", "test-set-query", "test-set-gallery")),
]
"""Data sets and the folders that a copy cannot do without."""


def placed(dataset: DataSet, root: Path) -> DataSet:
    """Return a data set with paths relative to ``root``."""

    def near(samples: tuple) -> tuple:
        return tuple(
            replace(
                s,
                path=s.path.relative_to(root),
                frames=tuple(frame.relative_to(root) for frame in s.frames),
            )
            for s in samples
        )

    train = replace(dataset.train, samples=near(dataset.train.samples))
    return replace(dataset, train=train, query=near(dataset.query), gallery=near(dataset.gallery))


@pytest.mark.parametrize("name", TWINS)
def test_litter_is_ignored(name: str, tmp_path: Path) -> None:
    TWINS[name](tmp_path)
    before = load(name, tmp_path)
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        for litter in ("Thumbs.db", ".DS_Store", "._0001_c1s1_000151_01.jpg", "desktop.ini"):
            (folder / litter).write_bytes(b"litter")
        put(folder / "__MACOSX", "._0001_c1s1_000151_01.jpg")
    assert load(name, tmp_path) == before


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("odd", ["ssd_c1/reid_cc", "query_bench", "0009_c9s9_000001_00.jpg"])
def test_the_root_s_own_path_means_nothing(name: str, odd: str, tmp_path: Path) -> None:
    plain, strange = tmp_path / "plain", tmp_path / odd
    TWINS[name](plain)
    shutil.copytree(plain, strange)
    assert placed(load(name, strange), strange) == placed(load(name, plain), plain)


@pytest.mark.parametrize(("name", "folder"), SPLIT_FOLDERS)
def test_a_missing_folder_is_named_with_the_layout(name: str, folder: str, tmp_path: Path) -> None:
    home = TWINS[name](tmp_path)
    shutil.rmtree(home / folder)
    with pytest.raises(DataError) as caught:
        load(name, home)
    message = str(caught.value)
    assert message.startswith(f"data set '{name}': ")
    assert folder.rpartition("/")[2] in message
    assert "no such folder" in message or "holds none of" in message
    assert "(layout: ROOT/" in message


@pytest.mark.parametrize(("name", "folder"), SPLIT_FOLDERS)
def test_an_empty_split_is_an_error(name: str, folder: str, tmp_path: Path) -> None:
    home = TWINS[name](tmp_path)
    for path in [p for p in (home / folder).rglob("*") if p.is_file()]:
        path.unlink()
    with pytest.raises(DataError, match=r"has no (\w+ )?images|listed images are missing"):
        load(name, home)


@pytest.mark.parametrize(
    ("name", "folder"), [pair for pair in SPLIT_FOLDERS if pair[0] != "msmt17"]
)
def test_strange_names_are_counted_and_shown(name: str, folder: str, tmp_path: Path) -> None:
    home = TWINS[name](tmp_path)
    images = [path for path in sorted((home / folder).rglob("*")) if path.suffix in FORMATS]
    inner = images[0].parent
    strange = [f"holiday {n}.jpg" for n in range(4)]
    put(inner, *strange)
    shown = r"4 of \d+ names do not fit .*: holiday 0.jpg, holiday 1.jpg, holiday 2.jpg, \.\.\.;"
    with pytest.raises(DataError, match=shown):
        load(name, home)


@pytest.mark.parametrize("name", TWINS)
def test_a_root_that_is_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"--data-root .*nowhere: no such folder|holds neither|is not in"
    ):
        load(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds none of|is not in"):
        load(name, tmp_path)
    with pytest.raises(DataError, match=r"give their folder with --data-root DIR \(ROOT/"):
        check_request(PROVIDERS[name], DataRequest(name, None, None, None, tmp_path))


def test_two_copies_in_one_root_are_not_chosen_between(tmp_path: Path) -> None:
    home = TWINS["market1501"](tmp_path)
    shutil.copytree(home, tmp_path / "market1501")
    with pytest.raises(DataError, match=r"there are two copies, .* give the folder of one of them"):
        load("market1501", tmp_path)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("msmt17", "list_query.txt"),
        ("ltcc", "info/cloth-change_id_test.txt"),
        ("occluded-duke", "gallery.list"),
        ("deepchange", "test-set-query-bbox.txt"),
    ],
)
def test_a_corrupt_list_is_named_with_its_line(name: str, path: str, tmp_path: Path) -> None:
    home = TWINS[name](tmp_path)
    lines = (home / path).read_text().splitlines()

    def expect(message: str) -> None:
        with pytest.raises(DataError, match=f"{Path(path).name}.*{message}.*extract"):
            load(name, home)

    put_list(home / path, [*lines, "<html>not found</html>"])
    expect(f"line {len(lines) + 1}: '<html>not found</html>' does not fit")
    put_list(home / path, [*lines, lines[0]])
    expect(f"line {len(lines) + 1}: '.*' stands there twice")
    put_list(home / path, [])
    expect("the list is empty")
    (home / path).write_bytes(b"\xff\xfe\x00\x01")
    expect("it is no text")
    (home / path).unlink()
    expect("no such list")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("msmt17", "test/0000/0000_000_01_0303morning_0020_0.jpg"),
        ("occluded-duke", "../DukeMTMC-reID/bounding_box_test/0004_c1_f0000120.jpg"),
        ("deepchange", "test-set-gallery/P4_C2_0305_07_a_1.jpg"),
    ],
)
def test_a_listed_image_that_is_missing(name: str, path: str, tmp_path: Path) -> None:
    home = TWINS[name](tmp_path)
    (home / path).unlink()
    with pytest.raises(DataError, match=r"1 of \d listed images are missing: .*incomplete"):
        load(name, home)


def test_deepchange_needs_every_tracklet(tmp_path: Path) -> None:
    home = TWINS["deepchange"](tmp_path)
    put(home / "train-set", "P9_C1_0305_07_a_1.jpg")
    with pytest.raises(DataError, match="1 images of train-set are not listed, so their tracklets"):
        load("deepchange", home)


def test_msmt17_numbers_that_contradict_each_other(tmp_path: Path) -> None:
    home = TWINS["msmt17"](tmp_path)
    put_list(home / "list_query.txt", ["0000/0000_000_01_0303morning_0020_0.jpg 1"])
    with pytest.raises(DataError, match="gives its person three numbers that disagree"):
        load("msmt17", home)


def test_ltcc_lists_that_contradict_each_other(tmp_path: Path) -> None:
    home = TWINS["ltcc"](tmp_path)
    put_list(home / "info" / "cloth-unchange_id_test.txt", [0, 144])
    with pytest.raises(DataError, match="people 0 are in both lists"):
        load("ltcc", home)
    put_list(home / "info" / "cloth-unchange_id_test.txt", [143])
    with pytest.raises(DataError, match="people 144 are in neither list"):
        load("ltcc", home)


@pytest.mark.parametrize(
    ("name", "folder", "stray"),
    [
        ("last", "train/000002", "000010_film_0001_02.jpg"),
        ("occluded-reid", "whole_body_images/001", "200_09.tif"),
    ],
)
def test_an_image_in_another_person_s_folder(
    name: str, folder: str, stray: str, tmp_path: Path
) -> None:
    home = TWINS[name](tmp_path)
    put(home / folder, stray)
    with pytest.raises(DataError, match=f"1 images lie in another person's folder: .*{stray}"):
        load(name, home)


def test_with_one_camera_evaluation_says_that_nothing_can_be_found(tmp_path: Path) -> None:
    put(tmp_path / "bounding_box_train", "0002_c1s1_000451_03.jpg", "0007_c1s1_000051_01.jpg")
    put(tmp_path / "query", "0001_c1s1_001051_00.jpg")
    put(tmp_path / "bounding_box_test", "0001_c1s1_001051_03.jpg", "0003_c1s1_001051_03.jpg")
    dataset = load("market1501", tmp_path)
    assert "gallery 2 images (official 15,913), 2 people (official 750), 1 cameras" in str(
        dataset.notice
    )
    protocol = next(p for p in PROTOCOLS if p.name == "market1501")
    evaluator = Evaluator(dataset, (protocol,), EvaluationSection(), torch.device("cpu"))
    with pytest.raises(DataError, match=r"market1501.*camera"):
        evaluator.check()
