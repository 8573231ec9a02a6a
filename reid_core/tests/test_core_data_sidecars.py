"""Side-car files: whose they are, what is refused, and what test images carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core import ConfigError, DataError, DataSet, Sample, Source
from reid_core.contract.fields import SHARED_FIELDS, FieldSpec
from reid_core.data.sidecars import names_of, side_car_files, with_field_folders

PARTS = SHARED_FIELDS["parts"]


def samples(root: Path, names: Sequence[str], split: str = "train") -> tuple[Sample, ...]:
    return tuple(Sample(root / name, 0, 0, split=split) for name in names)


def data(root: Path, train: Sequence[str], query: Sequence[str] = ()) -> DataSet:
    source = Source("main", samples(root, train))
    fields = {"parts": replace(PARTS, layout="the data set's own")}
    asked = tuple(
        replace(s, fields={"parts": Path("truth.png")}) for s in samples(root, query, "query")
    )
    return DataSet("data", source, asked, query_fields=fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "parts"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(dataset: DataSet, folder: Path) -> tuple[list[str], list[str]]:
    """Return the files of training and query images, relative to the folder."""
    read, _ = with_field_folders(dataset, {"parts": folder})
    return tuple(  # type: ignore[return-value]
        [Path(str(s.fields["parts"])).relative_to(folder).as_posix() for s in images]
        for images in (read.train.samples, read.query)
    )


def test_names_are_paths_below_the_folder_of_all_images(tmp_path: Path) -> None:
    dataset = data(tmp_path, ["train/001/a.jpg", "train/002/a.jpg"], ["test/A/001/a.b.png"])
    assert set(names_of(dataset).values()) == {
        ("train", "001", "a"),
        ("train", "002", "a"),
        ("test", "A", "001", "a.b"),
    }
    assert set(names_of(data(tmp_path, ["b.jpg", "a.jpg"])).values()) == {("a",), ("b",)}


def test_files_in_one_folder_belong_to_images_by_stem(tmp_path: Path, folder: Path) -> None:
    write(folder, "a.png", "b.npy", "c.png", "others.txt", "nobody.png")
    dataset = data(tmp_path, ["train/b.jpg", "train/a.jpg"], ["query/c.jpg"])
    assert found(dataset, folder) == (["b.npy", "a.png"], ["c.png"])


def test_names_may_repeat_from_folder_to_folder(tmp_path: Path, folder: Path) -> None:
    """As PRCC's do, whose images of all people have the same names."""
    train = ["train/001/a.jpg", "train/002/a.jpg"]
    write(folder, "train/001/a.png", "train/002/a.png", "test/A/001/a.png")
    dataset = data(tmp_path, train, ["test/A/001/a.jpg"])
    assert found(dataset, folder) == (
        ["train/001/a.png", "train/002/a.png"],
        ["test/A/001/a.png"],
    )


def test_last_names_will_do_where_nobody_else_ends_in_them(tmp_path: Path, folder: Path) -> None:
    write(folder, "001/a.png", "002/a.png")
    dataset = data(tmp_path, ["train/001/a.jpg", "train/002/a.jpg"], ["test/A/003/a.jpg"])
    read, _ = with_field_folders(dataset, {"parts": folder})
    assert [s.fields["parts"] for s in read.train.samples] == [
        folder / "001/a.png",
        folder / "002/a.png",
    ]
    assert read.query_fields == {}


def test_files_of_a_larger_data_set_are_found_by_their_last_names(
    tmp_path: Path, folder: Path
) -> None:
    write(folder, "train/a.png", "train/b.png", "query/c.png")
    assert found(data(tmp_path, ["a.jpg", "b.jpg"]), folder)[0] == ["train/a.png", "train/b.png"]


def test_the_whole_name_comes_before_the_last_names(tmp_path: Path, folder: Path) -> None:
    write(folder, "a.png", "sub/a.png")
    assert found(data(tmp_path, ["a.jpg", "sub/a.jpg"]), folder)[0] == ["a.png", "sub/a.png"]
    (folder / "sub/a.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no file .* first sub/a$"):
        found(data(tmp_path, ["a.jpg", "sub/a.jpg"]), folder)


@pytest.mark.parametrize(
    ("train", "files", "message"),
    [
        (["x/1/a.jpg", "x/2/a.jpg"], ["a.png"], r"a\.png could be of 1/a and of 2/a"),
        (["1/a.jpg", "2/b.jpg"], ["a.png", "2/a.png", "b.png"], None),
        (["1/a.jpg", "2/b.jpg"], ["a.png", "a.npy", "b.png"], r"a\.npy and .*a\.png could both be"),
        (["1/a.jpg", "1/a.bmp"], ["a.png"], r"a\.png could be of several images that are named a"),
    ],
    ids=["two images", "a file of nobody", "two files", "twins"],
)
def test_what_cannot_be_told_is_refused(
    train: list[str], files: list[str], message: str | None, tmp_path: Path, folder: Path
) -> None:
    write(folder, *files)
    if message is None:
        assert found(data(tmp_path, train), folder)[0] == ["a.png", "b.png"]
        return
    with pytest.raises(DataError, match=rf"--field parts=.*{message}.*name files by the images' f"):
        found(data(tmp_path, train), folder)


def test_a_training_image_s_file_is_no_test_image_s(tmp_path: Path, folder: Path) -> None:
    write(folder, "001/a.png")
    dataset = data(tmp_path, ["train/001/a.jpg"], ["test/A/001/a.jpg"])
    with pytest.raises(DataError, match=r"could be of test/A/001/a and of train/001/a"):
        found(dataset, folder)


def test_test_images_carry_the_field_all_or_not_at_all(tmp_path: Path, folder: Path) -> None:
    write(folder, "a.png", "b.png")
    dataset = data(tmp_path, ["train/a.jpg"], ["query/b.jpg", "query/c.jpg"])
    read, notes = with_field_folders(dataset, {"parts": folder})
    assert read.query_fields == {}
    assert [sample.fields for sample in read.query] == [{}, {}], "the data set's own are gone"
    assert notes == [
        f"--field parts={folder}: 1 of 2 test images have no file there, so test images carry no "
        "'parts'"
    ]
    write(folder, "c.png")
    read, notes = with_field_folders(dataset, {"parts": folder})
    assert read.query_fields == {"parts": PARTS}
    assert [s.fields["parts"] for s in read.query] == [folder / "b.png", folder / "c.png"]
    assert notes == []
    assert with_field_folders(dataset, {}) == (dataset, [])


def test_a_folder_that_lacks_files_names_the_first_and_counts(tmp_path: Path, folder: Path) -> None:
    dataset = data(tmp_path, [f"{name}.jpg" for name in "abcde"])
    write(folder, "a.npy", "b.jpg")
    with pytest.raises(
        DataError, match=r"--field parts=.*: 4 of 5 images .*\(\.png, \.npy\) there, first b, c, d$"
    ):
        with_field_folders(dataset, {"parts": folder})
    with pytest.raises(ConfigError, match=r"--field parts=.*nowhere: there is no such folder"):
        with_field_folders(dataset, {"parts": tmp_path / "nowhere"})
    with pytest.raises(ConfigError, match=r"no shared field 'part'; did you mean 'parts'"):
        with_field_folders(dataset, {"part": tmp_path})


@pytest.mark.parametrize(
    ("spec", "suffix", "counts"),
    [
        (SHARED_FIELDS["parts"], ".jpg", False),
        (SHARED_FIELDS["parts"], ".PNG", True),
        (SHARED_FIELDS["texture"], ".jpg", True),
        (SHARED_FIELDS["keypoints"], ".npy", True),
        (SHARED_FIELDS["keypoints"], ".png", False),
        (SHARED_FIELDS["pose"], ".npy", True),
        (SHARED_FIELDS["pose"], ".jpg", False),
    ],
    ids=str,
)
def test_the_field_says_which_files_count(
    spec: FieldSpec, suffix: str, counts: bool, tmp_path: Path, folder: Path
) -> None:
    write(folder, f"a{suffix}")
    dataset = data(tmp_path, ["a.jpg"])
    if counts:
        with_field_folders(dataset, {spec.name: folder})
    else:
        with pytest.raises(DataError, match="1 of 1 images have no file"):
            with_field_folders(dataset, {spec.name: folder})


def test_label_maps_of_jpegs_are_refused(tmp_path: Path) -> None:
    from reid_core.data.decoding import read_labels

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: a label map must not be JPEG, .* as PNG"):
        read_labels(tmp_path / "a.jpg")


def test_side_car_files_of_samples_are_told_apart_by_folders(tmp_path: Path, folder: Path) -> None:
    images = samples(tmp_path, ["train/001/a.jpg", "train/002/a.jpg"])
    write(folder, "002/a.png", "001/a.png")
    files = side_car_files("--poses", folder, PARTS, images)
    assert [file.relative_to(folder).as_posix() for file in files] == ["001/a.png", "002/a.png"]
    for file in files:
        file.unlink()
    write(folder, "a.png")
    with pytest.raises(DataError, match=r"--poses: .*a\.png could be of 001/a and of 002/a"):
        side_car_files("--poses", folder, PARTS, images)


def test_every_frame_of_a_tracklet_has_its_own_file(tmp_path: Path, folder: Path) -> None:
    def walk(split: str, *numbers: int) -> Sample:
        frames = tuple(tmp_path / split / "w" / f"{number}.jpg" for number in numbers)
        return Sample(frames[1], 0, 0, split=split, frames=frames)

    still = Sample(tmp_path / "train/still.jpg", 0, 0)
    dataset = DataSet("data", Source("main", (walk("train", 1, 2), still)), (walk("query", 1, 2),))
    write(folder, "train/w/1.png", "train/w/2.png", "train/still.png", "query/w/1.png")
    read, notes = with_field_folders(dataset, {"parts": folder})
    first, second = read.train.samples
    assert first.fields["parts"] == (folder / "train/w/1.png", folder / "train/w/2.png")
    assert second.fields["parts"] == folder / "train/still.png"
    assert notes == [
        f"--field parts={folder}: 1 of 2 test images have no file there, so test images carry no "
        "'parts'"
    ]
    write(folder, "query/w/2.png")
    read, notes = with_field_folders(dataset, {"parts": folder})
    assert not notes
    assert read.query[0].fields["parts"] == (folder / "query/w/1.png", folder / "query/w/2.png")
    (folder / "train/w/1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images have no file .* first train/w/1"):
        with_field_folders(dataset, {"parts": folder})
