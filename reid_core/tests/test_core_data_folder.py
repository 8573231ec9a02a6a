"""The folder data set: what names mean, what is ignored, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataRequest, DataSet
from reid_core.data.folder import load_folder
from reid_core.errors import DataError

TRAIN = ("0007_c1_o1_a.jpg", "0007_c3_o2.jpg", "0012_c1.png", "0012_c12_0_1.JPEG", "0003_c3.jpg")
QUERY = ("0005_c1_o1.jpg", "0001_c2.jpg")
GALLERY = ("0005_c2_o1_x.jpg", "0001_c3_o2.jpg", "-1_c1_o1.jpg", "0000_c1.jpg")


def load(root: Path | None) -> DataSet:
    request = DataRequest("folder", None, None, root, Path("unused"))
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
        "0007_c123.jpg",
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
    assert name in str(caught.value)


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
    with pytest.raises(DataError, match=f"train: no such folder; {layout}"):
        load(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=f"train holds no images; {layout}"):
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
    with pytest.raises(
        DataError, match=r"parts.train: 4 of 5 images have no side-car file"
    ) as caught:
        load(root)
    assert "0003_c3, 0007_c3_o2, 0012_c1, ..." in str(caught.value)


def test_incomplete_fields_of_a_test_split_are_refused(root: Path) -> None:
    add_field(root, "parts", "train", TRAIN, ".png")
    add_field(root, "parts", "gallery", GALLERY[1:], ".png")
    with pytest.raises(DataError, match=r"parts.gallery: 1 of 4 images"):
        load(root)


def test_two_images_with_one_stem_cannot_share_a_label(root: Path) -> None:
    (root / "train" / "0003_c3.png").write_bytes(b"")
    assert len(load(root).train) == 6
    add_field(root, "parts", "train", TRAIN, ".png")
    with pytest.raises(DataError, match="two images with one stem"):
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
