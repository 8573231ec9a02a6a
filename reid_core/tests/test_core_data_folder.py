"""The folder data set: what names mean, what is ignored, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.cli.options import to_flags
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataRequest, DataSet
from reid_core.data.folder import load_folder
from reid_core.errors import ConfigError, DataError
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly

TRAIN = ("0007_c1_o1_a.jpg", "0007_c3_o2.jpg", "0012_c1.png", "0012_c12_0_1.JPEG", "0003_c3.jpg")
QUERY = ("0005_c1_o1.jpg", "0001_c2.jpg")
GALLERY = ("0005_c2_o1_x.jpg", "0001_c3_o2.jpg", "-1_c1_o1.jpg", "0000_c1.jpg")


def load(root: Path | None, variant: str | None = None) -> DataSet:
    request = DataRequest("folder", variant, None, root, Path("unused"))
    return load_folder(request)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, names in (("train", TRAIN), ("query", QUERY), ("gallery", GALLERY)):
        (tmp_path / split).mkdir()
        for name in names:
            (tmp_path / split / name).write_bytes(b"never opened")
    return tmp_path


def add_field(root: Path, field: str, split: str, names: tuple[str, ...], suffix: str) -> None:
    folder = root / "fields" / field / split
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{Path(name).stem}{suffix}").write_bytes(b"never opened")


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    elsewhere, train = tmp_path / "elsewhere", tmp_path / "photos" / "train"
    for folder in (elsewhere / "walk", train / "2"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"never opened")
    for name in ("7", "8"):  # both count
        (train / name).symlink_to(elsewhere, target_is_directory=True)
    (train / "2" / "up").symlink_to(train, target_is_directory=True)
    (elsewhere / "walk" / "again").symlink_to(elsewhere, target_is_directory=True)
    data = load(tmp_path / "photos", "pid").train
    assert [s.path.relative_to(train).as_posix() for s in data.samples] == [
        "2/a.png",
        "7/walk/a.png",
        "8/walk/a.png",
    ]
    assert [s.extra["person"] for s in data.samples] == [2, 7, 8]
    labels = tmp_path / "photos" / "fields" / "parts" / "train"
    labels.mkdir(parents=True)
    for name in ("2", "7", "8"):
        (labels / name).symlink_to(train / name, target_is_directory=True)
    fields = load(tmp_path / "photos", "pid").train.samples[1].fields
    assert fields == {"parts": labels / "7" / "walk" / "a.png"}


def test_names_become_labels(root: Path) -> None:
    data = load(root)
    assert data.name == "folder"
    assert data.notice is None
    train = {sample.path.name: sample for sample in data.train.samples}
    assert [s.path.name for s in data.train.samples] == sorted(TRAIN)
    assert {name: sample.pid for name, sample in train.items()} == {
        "0003_c3.jpg": 0,
        "0007_c1_o1_a.jpg": 1,
        "0007_c3_o2.jpg": 1,
        "0012_c1.png": 2,
        "0012_c12_0_1.JPEG": 2,
    }
    assert data.train.num_identities == 3
    # Cameras 1, 2, 3 and 12 over all splits.
    assert train["0012_c12_0_1.JPEG"].camid == 3
    assert train["0003_c3.jpg"].camid == 2
    # Outfits (1, 2), (5, 1), (7, 1), (7, 2) of real persons; junk has none.
    assert train["0007_c1_o1_a.jpg"].clothes == 2
    assert train["0007_c3_o2.jpg"].clothes == 3
    assert train["0012_c1.png"].clothes == -1
    gallery = {s.path.name: (s.pid, s.camid, s.clothes, s.split) for s in data.gallery}
    assert gallery == {
        "-1_c1_o1.jpg": (-1, 0, -1, "gallery"),
        "0000_c1.jpg": (0, 0, -1, "gallery"),
        "0001_c3_o2.jpg": (1, 2, 0, "gallery"),
        "0005_c2_o1_x.jpg": (5, 1, 1, "gallery"),
    }
    assert [s.pid for s in data.query] == [1, 5]
    assert data.fingerprint() == load(root).fingerprint()


def test_litter_is_ignored(root: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "._0007_c1.jpg", "desktop.ini"):
        (root / "train" / name).write_bytes(b"")
    (root / "gallery" / "__MACOSX").mkdir()
    assert len(load(root).train) == 5


@pytest.mark.parametrize(
    "name",
    [
        "readme.txt",
        "0007.jpg",
        "0007_c1.gif",
        "0007_c1s1_000151_01.jpg",
        "x0007_c1.jpg",
        "0007_c1.jpg.bak",
        "-1_c1.jpg",
        "-2_c1.jpg",
    ],
)
def test_stray_files_are_refused(root: Path, name: str) -> None:
    (root / "train" / name).write_bytes(b"")
    with pytest.raises(DataError, match="train: 1 names do not fit PID_cCAM") as caught:
        load(root)
    assert str(caught.value).endswith(name)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("market", "0007_c1s1_000151_01.jpg"),
        ("msmt17", "0007_000_01_0303morning_0015_0.jpg"),
        ("prcc", "007/A_cropped_rgb001.jpg"),
        ("pid", "0007/first.jpg"),
    ],
)
def test_names_of_another_variant_are_pointed_to_it(
    tmp_path: Path, variant: str, name: str
) -> None:
    for split in ("train", "query", "gallery"):
        path = tmp_path / split / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"; --data folder/{variant} reads such names$"):
        load(tmp_path)
    assert load_folder(DataRequest("folder", variant, None, tmp_path, tmp_path)).query


def test_names_of_no_variant_are_pointed_to_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "cam1-0001-0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"; -s folder.pattern=REGEX reads such names$"):
        load(tmp_path)


def test_only_a_few_stray_files_are_listed(root: Path) -> None:
    for number in range(9):
        (root / "query" / f"stray{number}.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"query: 9 names .*: stray0.jpg, stray1.jpg, stray2.jpg, \.\.\.$"
    ):
        load(root)


def test_missing_folders(tmp_path: Path) -> None:
    layout = r"expected ROOT/\{train,query,gallery\}/PID_cCAM"
    with pytest.raises(DataError, match=f"data set 'folder': no --data-root was given; {layout}"):
        load(None)
    with pytest.raises(DataError, match=f"nowhere: no such folder; {layout}"):
        load(tmp_path / "nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=f"none of train, query and gallery holds images; {layout}"):
        load(tmp_path)
    (tmp_path / "train" / "1_c1.jpg").write_bytes(b"")
    data = load(tmp_path)
    assert (len(data.train), data.query, data.gallery) == (1, (), ())


def test_identities_in_training_and_test_are_noticed(root: Path) -> None:
    (root / "query" / "0007_c1.jpg").write_bytes(b"")
    (root / "gallery" / "0007_c2.jpg").write_bytes(b"")
    assert load(root).notice == "1 identities are in training and in test"


def test_fields_are_picked_up(root: Path) -> None:
    add_field(root, "parts", "train", TRAIN, ".png")
    add_field(root, "keypoints", "train", TRAIN, ".npy")
    add_field(root, "texture", "train", TRAIN, ".png")
    (root / "fields" / "texture" / "layout.txt").write_text("smpl-uv\n")
    for split, names in (("query", QUERY), ("gallery", GALLERY)):
        add_field(root, "parts", split, names, ".png")
    add_field(root, "keypoints", "query", QUERY, ".npy")
    (root / "fields" / ".DS_Store").write_bytes(b"")
    data = load(root)
    assert set(data.train.fields) == {"parts", "keypoints", "texture"}
    assert data.train.fields["parts"] == SHARED_FIELDS["parts"]
    assert data.train.fields["texture"].layout == "smpl-uv"
    for sample in data.train.samples:
        folder = root / "fields"
        assert sample.fields["parts"] == folder / "parts" / "train" / f"{sample.path.stem}.png"
        assert sample.fields["keypoints"] == folder / "keypoints/train" / f"{sample.path.stem}.npy"
    # The gallery has no keypoints, so test samples do not carry them.
    assert set(data.query_fields) == {"parts"}


def test_scalars_are_read(root: Path) -> None:
    folder = root / "fields" / "pose" / "train"
    folder.mkdir(parents=True)
    for number, name in enumerate(TRAIN):
        np.save(folder / f"{Path(name).stem}.npy", np.int64(number))
    poses = {s.path.name: s.fields["pose"] for s in load(root).train.samples}
    assert poses == {name: number for number, name in enumerate(TRAIN)}


def test_incomplete_fields_are_refused(root: Path) -> None:
    add_field(root, "parts", "train", TRAIN[:1], ".png")
    with pytest.raises(DataError, match=r"parts.train: 4 of 5 images have no file") as caught:
        load(root)
    assert "first 0003_c3, 0007_c3_o2, 0012_c1" in str(caught.value)


def test_incomplete_fields_of_a_test_split_are_refused(root: Path) -> None:
    add_field(root, "parts", "train", TRAIN, ".png")
    add_field(root, "parts", "gallery", GALLERY[1:], ".png")
    with pytest.raises(DataError, match=r"parts.gallery: 1 of 4 images"):
        load(root)


def test_two_images_with_one_stem_cannot_share_a_label(root: Path) -> None:
    (root / "train" / "0003_c3.png").write_bytes(b"")
    assert len(load(root).train) == 6
    add_field(root, "parts", "train", TRAIN, ".png")
    with pytest.raises(DataError, match="of several images that are named 0003_c3"):
        load(root)


def test_unknown_fields_are_refused(root: Path) -> None:
    (root / "fields" / "part").mkdir(parents=True)
    with pytest.raises(DataError, match="there is no field 'part'; did you mean 'parts'"):
        load(root)


def test_images_are_read_from_the_folder(tmp_path: Path) -> None:
    from reid_core.images import read_image

    (tmp_path / "train").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "train" / "1_c1.png")
    np.testing.assert_array_equal(read_image(load(tmp_path).train.samples[0].path), pixels)


def labels_of(root: Path, variant: str | None, *names: str) -> list[tuple[str, int, int]]:
    """Return name, identity and camera of files of the training split."""
    for name in names:
        (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "train" / name).write_bytes(b"never opened")
    return [
        (s.path.relative_to(root / "train").as_posix(), s.pid, s.camid)
        for s in load(root, variant).train.samples
    ]


def test_cameras_may_be_any_number_and_images_of_any_format(tmp_path: Path) -> None:
    names = [f"{pid}_c{camera}.{suffix}" for pid, camera, suffix in (
        (7, 0, "png"), (7, 113, "webp"), (8, 20240131, "TIF"), (8, 9, "bmp"),
    )]  # fmt: skip
    assert labels_of(tmp_path, None, *names) == [
        ("7_c0.png", 0, 0),
        ("7_c113.webp", 0, 2),
        ("8_c20240131.TIF", 1, 3),
        ("8_c9.bmp", 1, 1),
    ]


def test_more_than_a_hundred_cameras_are_told_apart(tmp_path: Path) -> None:
    names = [f"1_c{camera:04d}.jpg" for camera in range(150)]
    assert [camid for *_, camid in labels_of(tmp_path, None, *names)] == list(range(150))


@pytest.mark.parametrize(
    ("variant", "names", "expected"),
    [
        ("market", ["0002_c1s1_000451_03.jpg", "0007_c12_x.png"], [(0, 0), (1, 1)]),
        (
            "msmt17",
            ["0003/0003_000_01_0303morning_0015_0.jpg", "0004_001_15_0303noon_1.png"],
            [(0, 0), (1, 1)],
        ),
        (
            "prcc",
            ["012/A_rgb001.jpg", "012/C_x.jpg", "14/b_1.png"],
            [(0, 0), (0, 2), (1, 1)],
        ),
        ("pid", ["12/any thing.jpg", "12/deep/er.png", "3/a_c9.jpeg"], [(1, 0), (1, 0), (0, 0)]),
    ],
)
def test_names_of_other_data_sets(
    tmp_path: Path, variant: str, names: list[str], expected: list[tuple[int, int]]
) -> None:
    found = labels_of(tmp_path, variant, *names)
    assert found == [(n, *labels) for n, labels in sorted(zip(names, expected, strict=True))]


def test_a_pattern_of_one_s_own_stands_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").write_text("pattern = 'cam(?P<camera>[a-z])-(?P<pid>\\d+)-.*'")
    assert labels_of(tmp_path, None, "camb-7-x.png", "cama-9-y.jpg") == [
        ("cama-9-y.jpg", 1, 0),
        ("camb-7-x.png", 0, 1),
    ]
    (tmp_path / "train" / "other.jpg").touch()
    with pytest.raises(DataError, match=r"train: 1 names do not fit cam.*: other\.jpg"):
        load(tmp_path)


def test_a_pattern_may_be_a_setting(tmp_path: Path, reid_cache: Path) -> None:
    for split, names in {"train": "1-a 1-b 2-a 2-b", "query": "8-a", "gallery": "8-b 9-a"}.items():
        (tmp_path / split).mkdir()
        for name in names.split():
            (tmp_path / split / f"cam{name[-1]}-{name[0]}-x.png").touch()
    options = ("folder.pattern=cam(?P<camera>[a-z])-(?P<pid>\\d+)-.*",)
    flags = to_flags({"data": "folder", "data_root": tmp_path, "settings": options})
    data = resolve(flags).config.data
    assert data.pattern == r"cam(?P<camera>[a-z])-(?P<pid>\d+)-.*"
    request = DataRequest("folder", None, None, data.root, reid_cache, data.pattern)
    assert [(s.pid, s.camid) for s in load_folder(request).train.samples] == [
        (0, 0), (1, 0), (0, 1), (1, 1),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"folder\.pattern: .*needs a group"):
        load_folder(replace(request, pattern=".*"))
    with pytest.raises(ConfigError, match=r"data\.pattern is of names in .* not in 'toy'"):
        tiny_assembly([], {"data": {"pattern": ".*"}}, cache=reid_cache)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pattern = '('", r"expected pattern = .*\(missing \)"),
        ("pattern = 3", "a group"),
        ("name = 'x'", r"\(there is none\)"),
        ("pattern", r"\(Expected '='"),
        ("pattern = '(?P<who>.*)'", "needs a group"),
        ("pattern = '(?P<pid>[0-9]+)_(?P<cam>.*)'", "may have camera and outfit; it has pid, cam"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "folder.toml").write_text(text)
    with pytest.raises(DataError, match=rf"folder\.toml: .*{reason}") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_market_s_folders_are_the_splits(tmp_path: Path) -> None:
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0002_c1s1_1.jpg").touch()
    data = load(tmp_path, "market")
    assert [len(split) for split in (data.train, data.query, data.gallery)] == [1, 1, 1]


@pytest.mark.parametrize("splits", [("query", "gallery"), ("gallery",)])
def test_a_test_set_alone_is_a_data_set(root: Path, splits: tuple[str, ...]) -> None:
    for split in {"train", "query", "gallery"} - set(splits):
        shutil.rmtree(root / split)
    add_field(root, "parts", "gallery", GALLERY, ".png")
    data = load(root)
    assert [bool(split) for split in (data.train.samples, data.query, data.gallery)] == [
        False,
        "query" in splits,
        True,
    ]


def test_side_cars_lie_in_folders_as_images_do(tmp_path: Path) -> None:
    labels_of(tmp_path, "pid", "1/a.jpg", "2/a.jpg")
    for pid in (1, 2):
        folder = tmp_path / "fields" / "parts" / "train" / str(pid)
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    found = [s.fields["parts"] for s in load(tmp_path, "pid").train.samples]
    assert found == [tmp_path / "fields/parts/train" / str(pid) / "a.png" for pid in (1, 2)]
