"""Small synthetic twins of the official trees: right names, tiny images of one colour."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from reid_benchmarks.datasets.table import BENCHMARKS
from reid_core.contract.samples import DataRequest, DataSet
from reid_core.data.counts import load_counted
from reid_core.plugins.providers import check_request

PROVIDERS = {benchmark.name: benchmark.provider() for benchmark in BENCHMARKS}


def load(name: str, root: Path, variant: str | None = None, size: str | None = None) -> DataSet:
    """Load a data set as ``--data NAME/VARIANT:SIZE --data-root ROOT`` would."""
    request = DataRequest(name, variant, size, root, root / "cache")
    check_request(PROVIDERS[name], request)
    found = load_counted(PROVIDERS[name], request)
    assert isinstance(found, DataSet)
    return found


FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF"}


def picture(name: str) -> bytes:
    """Return an image of one colour, which depends on its name."""
    buffer = io.BytesIO()
    red, green, blue, _ = zlib.crc32(name.encode()).to_bytes(4, "big")
    Image.new("RGB", (4, 8), (red, green, blue)).save(buffer, FORMATS[Path(name).suffix.lower()])
    return buffer.getvalue()


def put(folder: Path, *names: str) -> Path:
    """Write tiny images into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(picture(name))
    return folder


def put_list(path: Path, lines: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def market1501(root: Path) -> Path:
    home = root / "Market-1501-v15.09.15"
    put(
        home / "bounding_box_train",
        "0007_c6s4_000451_03.jpg",
        "0002_c1s1_000451_03.jpg",
        "0007_c3s1_000051_01.jpg",
        "0002_c2s1_000776_01.jpg",
    )
    put(home / "query", "0001_c1s1_001051_00.jpg", "0003_c4s6_015641_00.jpg")
    put(
        home / "bounding_box_test",
        "0001_c1s1_001051_03.jpg",
        "0001_c2s1_001976_01.jpg",
        "0003_c5s3_065162_04.jpg",
        "0000_c1s1_000151_01.jpg",
        "0000_c6s3_000151_01.jpg",
        "-1_c1s1_000401_03.jpg",
    )
    put(
        home / "gt_bbox",
        "0001_c1s1_001051_00.jpg",
        "0001_c1s1_001076_00.jpg",
        "0001_c2s1_001976_00.jpg",
        "0002_c1s1_000451_00.jpg",
        "0003_c4s6_015641_00.jpg",
    )
    put(home / "images", "0000_c1s1_000000_00.jpg", "0000_c3s2_000001_00.jpg")
    return home


def duke(root: Path) -> Path:
    home = root / "DukeMTMC-reID"
    put(home / "bounding_box_train", "0005_c8_f0000001.jpg", "0001_c2_f0046182.jpg")
    put(home / "query", "0004_c1_f0000100.jpg")
    # 0099 is seen by one camera: an ordinary person for whom nobody searches.
    put(
        home / "bounding_box_test",
        "0004_c1_f0000120.jpg",
        "0004_c2_f0000140.jpg",
        "0099_c3_f0000001.jpg",
    )
    return home


def occluded_duke(root: Path) -> Path:
    """Write the lists beside DukeMTMC-reID; one query is a gallery image of it."""
    duke(root)
    home = root / "Occluded_Duke"
    put_list(home / "train.list", ["0005_c8_f0000001.jpg"])
    put_list(home / "query.list", ["0004_c2_f0000140.jpg", "0004_c1_f0000100.jpg"])
    put_list(home / "gallery.list", ["0004_c1_f0000120.jpg", "0004_c2_f0000140.jpg"])
    return home


CUHK03_PEOPLE = ((1, 1), (1, 2), (2, 1), (5, 49))
"""Pair and person; the last one has images in one view only."""


def cuhk03_names() -> list[str]:
    return [
        f"{pair}_{person:03}_{1 if column < 6 else 2}_{column:02}.png"
        for pair, person in CUHK03_PEOPLE
        for column in ((1, 5) if pair == 5 else (1, 5, 6, 10))
    ]


def cuhk03_folders(root: Path) -> Path:
    """Write the new protocol as it is handed on in the folders of Market-1501."""
    for kind in ("detected", "labeled"):
        home = root / "cuhk03-np" / kind
        put(home / "bounding_box_train", "0001_c1_1.png", "0001_c2_6.png", "0004_c1_2.png")
        put(home / "query", "0003_c1_1.png", "0003_c2_6.png")
        put(home / "bounding_box_test", "0003_c1_2.png", "0003_c2_7.png", "0006_c2_8.png")
    return root / "cuhk03-np"


def msmt17(root: Path, version: str = "v1") -> Path:
    home = root / f"MSMT17_{version.upper()}"
    train, test = ("train", "test") if version == "v1" else ("mask_train_v2", "mask_test_v2")
    lists = {
        "train": (
            "0000/0000_000_01_0303morning_0015_0.jpg 0",
            "0001/0001_000_15_0113noon_0015_1_ex.jpg 1",
            "0001/0001_001_05_0113noon_0015_1.jpeg 1",
        ),
        "val": ("0000/0000_001_11_0303afternoon_0015_0.jpg 0",),
        "query": ("0000/0000_000_01_0303morning_0020_0.jpg 0",),
        "gallery": (
            "0000/0000_001_10_0303morning_0020_0.jpg 0",
            "0001/0001_000_01_0303morning_0021_0.jpg 1",
        ),
    }
    for name, lines in lists.items():
        put_list(home / f"list_{name}.txt", lines)
        for line in lines:
            path = home / (train if name in ("train", "val") else test) / line.split()[0]
            put(path.parent, path.name)
    return home


def msmt17_rearranged(root: Path) -> Path:
    home = root / "MSMT17_V1"
    put(home / "bounding_box_train", "0000_c1_0001.jpg", "0000_c11_0002.jpg", "0003_c2_0003.jpg")
    put(home / "query", "0000_c1_0001.jpg")
    put(home / "bounding_box_test", "0000_c15_0001.jpg", "0002_c1_0001.jpg")
    return home


def prcc(root: Path) -> Path:
    home = root / "prcc"
    for pid in ("300", "003"):
        names = [f"{camera}_cropped_rgb{n:03}.jpg" for camera in "ABC" for n in (1, 2)]
        put(home / "rgb" / "train" / pid, *names)
        put(home / "rgb" / "val" / pid, "A_cropped_rgb009.jpg")
    for camera in "ABC":
        for pid in ("001", "328"):
            put(home / "rgb" / "test" / camera / pid, "cropped_rgb002.jpg", "cropped_rgb001.jpg")
    put(home / "sketch" / "train" / "003", "A_cropped_rgb001.jpg")
    return home


def ltcc(root: Path) -> Path:
    home = root / "LTCC_ReID"
    put(
        home / "train",
        "001_1_c3_000123.png",
        "001_14_c11_000124.png",
        "001_1_c1_000125.png",
        "077_1_c12_000126.png",
    )
    put(home / "query", "000_1_c1_000001.png", "000_2_c2_000002.png", "144_1_c10_000003.png")
    put(
        home / "test",
        "000_1_c1_000004.png",
        "000_2_c12_000005.png",
        "000_1_c2_000006.png",
        "144_1_c11_011239.png",
    )
    put_list(home / "info" / "cloth-change_id_train.txt", [1, 90])
    put_list(home / "info" / "cloth-unchange_id_train.txt", [77])
    put_list(home / "info" / "cloth-change_id_test.txt", [0])
    put_list(home / "info" / "cloth-unchange_id_test.txt", [144])
    return home


def vcclothes(root: Path) -> Path:
    home = root / "VC-Clothes"
    put(home / "train", "0001-01-01-01.jpg", "0001-04-03-02.jpg", "0009-02-01-01.jpg")
    put(home / "query", "0002-02-02-01.jpg", "0002-03-02-01.jpg", "0002-04-03-01.jpg")
    names = ("01-01", "02-02", "03-02", "04-03")
    put(home / "gallery", *(f"0002-{name}-05.jpg" for name in names), "0004-03-01-01.jpg")
    return home


def partial_reid(root: Path) -> Path:
    home = root / "Partial-REID_Dataset"
    put(home / "partial_body_images", "001_001.jpg", "060_002.jpg")
    put(home / "occluded_body_images", "001_001.jpg")
    put(home / "whole_body_images", "001_001.jpg", "001_002.jpg", "060_001.jpg")
    return home


def partial_ilids(root: Path) -> Path:
    home = root / "Partial_iLIDS"
    put(home / "Probe", "010.jpg", "009.jpg")
    put(home / "Gallery", "010.jpg", "009.jpg")
    return home


def occluded_reid(root: Path) -> Path:
    home = root / "Occluded_REID"
    put(home / "occluded_body_images" / "001", "001_01.tif", "001_02.tif")
    put(home / "occluded_body_images" / "200", "200_01.tif")
    put(home / "whole_body_images" / "001", "001_01.tif")
    put(home / "whole_body_images" / "200", "200_01.tif")
    return home


def celeb_reid(root: Path, name: str = "Celeb-reID") -> Path:
    home = root / name
    # Numbers of people start again in test.
    put(home / "train", "1_1_0.jpg", "1_12_0.jpg", "632_19_1.jpg")
    put(home / "query", "1_1_0.jpg", "2_1_0.jpg")
    put(home / "gallery", "1_12_0.jpg", "1_19_1.jpg", "2_10_0.jpg")
    return home


def last(root: Path) -> Path:
    home = root / "last"
    put(home / "train" / "000002", "000002_film_0001_02.jpg", "000002_film_0002_10.jpg")
    put(home / "train" / "000010", "000010_film_0001_02.jpg")
    for side in ("val", "test"):
        put(home / side / "query", "000001_film_0001.jpg")
        put(home / side / "gallery" / "000001", "000001_film_0002.jpg")
        put(home / side / "gallery" / "000005", "000005_film_0001.jpg")
    return home


def deepchange(root: Path) -> Path:
    home = root / "DeepChangeDataset"
    images = {
        "train-set": ("P1_C1_0305_07_a_1.jpg,11", "P1_C17_0406_18_a_2.jpg,12"),
        "test-set-query": ("P3_C02_0305_07_a_1.jpg,31",),
        "test-set-gallery": (
            "P3_C02_0305_07_a_2.jpg,31",
            "P3_C02_0305_08_a_1.jpg,32",
            "P3_C10_0305_08_a_1.jpg,33",
            "P4_C2_0305_07_a_1.jpg,41",
        ),
        "val-set-query": ("P2_C1_0305_07_a_1.jpg,21",),
        "val-set-gallery": ("P2_C3_0305_07_a_1.jpg,22",),
    }
    for name, lines in images.items():
        put(home / name, *(line.partition(",")[0] for line in lines))
        put_list(home / f"{name}-bbox.txt", lines)
    return home


def mars(root: Path) -> Path:
    home = root / "MARS"
    tracks = {
        # First and last image, person, camera; the names follow from them.
        "train": [(1, 2, 7, 1), (3, 5, 7, 2), (6, 6, 2, 6)],
        "test": [(1, 2, 4, 1), (3, 3, 4, 1), (4, 6, 4, 3), (7, 7, 0, 2), (8, 9, -1, 2)],
    }
    for side, rows in tracks.items():
        names = []
        for number, (first, last, pid, camera) in enumerate(rows, 1):
            person = f"{pid:04d}" if pid >= 0 else "00-1"
            names += [
                f"{person}C{camera}T{number:04d}F{frame:03d}.jpg"
                for frame in range(1, last - first + 2)
            ]
        for name in names:
            put(home / f"bbox_{side}" / name[:4], name)
        put_list(home / "info" / f"{side}_name.txt", names)
        table = np.array(rows, np.float64)
        savemat(home / "info" / f"tracks_{side}_info.mat", {f"track_{side}_info": table})
    savemat(home / "info" / "query_IDX.mat", {"query_IDX": np.array([[1.0]])})
    return home


def ilids_vid(root: Path) -> Path:
    home = root / "iLIDS-VID"
    for camera in (1, 2):
        for pid in (1, 2, 5, 9):
            frames = range(9, 11 + camera)
            folder = home / "i-LIDS-VID" / "sequences" / f"cam{camera}" / f"person{pid:03d}"
            put(folder, *(f"cam{camera}_person{pid:03d}_{frame}.png" for frame in frames))
    lists = home / "train-test people splits"
    lists.mkdir()
    order = np.array([[1, 4, 2, 3], [2, 3, 1, 4]], np.uint16)
    savemat(lists / "train_test_splits_ilidsvid.mat", {"ls_set": order})
    return home


def ccvid(root: Path) -> Path:
    home = root / "CCVID"
    lines = {
        "train": ["session1/001_01\t001\tu0_l0", "session1/001_03\t001\tu1_l0"],
        "query": ["session1/002_01 002 u0_l0"],
        "gallery": [
            "session2/002_01 002 u1_l0",
            "session3/002_01 002 u0_l0",
            "session1/002_12 002 u1_l1",
            "session1/003_02 003 u0_l0",
        ],
    }
    for split, listed in lines.items():
        put_list(home / f"{split}.txt", listed)
        for line in listed:
            put(home / line.split()[0], "00310.jpg", "00306.jpg")
    return home


TWINS: dict[str, Callable[[Path], Path]] = {
    "market1501": market1501,
    "duke": duke,
    "cuhk03": cuhk03_folders,
    "msmt17": msmt17,
    "prcc": prcc,
    "ltcc": ltcc,
    "vcclothes": vcclothes,
    "partial-reid": partial_reid,
    "partial-ilids": partial_ilids,
    "occluded-reid": occluded_reid,
    "occluded-duke": occluded_duke,
    "celeb-reid": celeb_reid,
    "celeb-reid-light": lambda root: celeb_reid(root, "Celeb-reID-light"),
    "last": last,
    "deepchange": deepchange,
    "mars": mars,
    "ilids-vid": ilids_vid,
    "ccvid": ccvid,
}
"""Writers of the twins by data set; each returns the data set's own folder within ``root``."""


def write_cuhk03_release(path: Path, testsets: Iterable[Iterable[tuple[int, int]]]) -> Path:
    """Write a ``cuhk-03.mat`` as MATLAB 7.3 would: cells of references, columns first.

    Every image is grey of its own level, 6 x 3 pixels, so that extraction can be checked.
    """
    import h5py

    with h5py.File(path, "w") as file:
        store = file.create_group("#refs#")
        empty = store.create_dataset("empty", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)

        def keep(data: np.ndarray) -> h5py.Reference:
            return store.create_dataset(str(len(store)), data=data).ref

        def cells(references: list[list[h5py.Reference]]) -> np.ndarray:
            return np.array(references, dtype=h5py.ref_dtype)

        for kind in ("labeled", "detected"):
            pairs = []
            for pair in range(1, 6):
                people = [person for owner, person in CUHK03_PEOPLE if owner == pair]
                rows = [[empty.ref] * 10 for _ in range(max(people, default=0))]
                for name in cuhk03_names():
                    owner, person, _, column = (int(part) for part in name[:-4].split("_"))
                    if owner == pair:
                        pixels = np.full((6, 3, 3), grey_of(name), np.uint8)
                        rows[person - 1][column - 1] = keep(pixels.T)
                pairs.append(keep(cells(rows).T if rows else cells([[empty.ref]])))
            file.create_dataset(kind, data=cells([pairs]))
        splits = [keep(np.array(list(split), np.float64).T) for split in testsets]
        file.create_dataset("testsets", data=cells([splits]))
    return path


def grey_of(name: str) -> int:
    return 10 + 5 * cuhk03_names().index(name)


def write_new_protocol(path: Path, views: list[int] | None = None) -> Path:
    """Write the configuration of the new protocol: people 1 and 4 train, 2 and 3 test."""
    from scipy.io import savemat

    names = cuhk03_names()
    people = {person: number for number, person in enumerate(CUHK03_PEOPLE, 1)}
    labels = [people[int(name[0]), int(name[2:5])] for name in names]
    train = [i for i, label in enumerate(labels, 1) if label in (1, 4)]
    query = [i for i, name in enumerate(names, 1) if i not in train and name[-6:-4] in ("01", "06")]
    gallery = sorted({*range(1, len(names) + 1)} - {*train, *query})
    content = {
        "filelist": np.array(names, dtype=object).reshape(-1, 1),
        "labels": np.array(labels).reshape(-1, 1),
        "camId": np.array(views or [int(name[6]) for name in names]).reshape(-1, 1),
    }
    for key, places in (("train", train), ("query", query), ("gallery", gallery)):
        content[f"{key}_idx"] = np.array(places, np.uint16).reshape(-1, 1)
    savemat(path, content)
    return path
