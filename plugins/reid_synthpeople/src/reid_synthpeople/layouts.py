"""File names of the official layouts, so that whatever reads the real sets reads these as well.

Paths are relative to the data set's folder and end in the official tree; all numbers come 0-based
and leave as the layout counts them. Side-cars lie in one layout for all variants: the field
``parts`` of ``prcc/rgb/train/001/A_cropped_rgb001.jpg`` is
``fields/parts/prcc/rgb/train/001/A_cropped_rgb001.png``.
"""

from __future__ import annotations

from collections.abc import Iterable

from reid_synthpeople.names import DRESSED, DRESSED_GARMENTS, GARMENTS

ROOTS = {
    "market": "Market-1501-v15.09.15",
    "prcc": "prcc",
    "ltcc": "LTCC_ReID",
    "vcclothes": "VC-Clothes",
    "tracks": "prcc",
}
"""The folder in which each official tree begins; the other variants begin at the top."""

LABELLED = ("parts", "garments", "keypoints")
"""Fields of the data sets and of labelled sources."""

DRESSING = (GARMENTS, DRESSED, DRESSED_GARMENTS)
"""Fields of the source that shows everybody in somebody else's outfit, too."""

SIDE_CARS = {"keypoints": "npy"} | dict.fromkeys(("parts", "garments", *DRESSING), "png")
"""Fields that have a file per image, with its suffix."""

TEMPLATES = "templates.csv"
"""Says which image is whose template."""

TEXTURES = "textures"
"""Folder of the atlases, one per person and outfit, with `layout.txt`."""

_MARKET_FOLDERS = {
    "train": "bounding_box_train",
    "query": "query",
    "gallery": "bounding_box_test",
}
_FRAMES = 25
"""Video frames between two images of a person."""


def side_car(file: str, field: str) -> str:
    """Return the path of an image's side-car."""
    return f"fields/{field}/{file.rpartition('.')[0]}.{SIDE_CARS[field]}"


def texture_file(person: int, outfit: int) -> str:
    """Return the path of the atlas of a person in an outfit."""
    return f"{TEXTURES}/{person:05d}_o{outfit + 1}.png"


def folder_file(split: str, pid: int, camid: int, outfit: int, number: int) -> str:
    """Name an image as the core's ``folder`` does: ``train/0001_c1_o1_000.jpg``."""
    return f"{split}/{pid:04d}_c{camid + 1}_o{outfit + 1}_{number:03d}.jpg"


def frame_file(split: str, pid: int, camid: int, outfit: int, walk: int, frame: int) -> str:
    """Name a frame of a tracklet, which is a folder: ``train/0001_c1_o1_000/003.jpg``."""
    return f"{split}/{pid:04d}_c{camid + 1}_o{outfit + 1}_{walk:03d}/{frame:03d}.jpg"


def market_file(split: str, pid: int, camid: int, number: int) -> str:
    """Name an image as Market-1501 does: ``0002_c1s1_000451_03.jpg``.

    Person, camera and sequence, frame, box; the box is 00 in queries, which were drawn by hand, and
    junk has the person -1.
    """
    title = f"{pid:04d}" if pid >= 0 else str(pid)
    box = 0 if split == "query" else number % 99 + 1
    frame = number * _FRAMES + max(pid, 0) % _FRAMES + 1
    name = f"{title}_c{camid + 1}s1_{frame:06d}_{box:02d}.jpg"
    return f"{ROOTS['market']}/{_MARKET_FOLDERS[split]}/{name}"


def prcc_file(split: str, pid: int, camid: int, number: int) -> str:
    """Name an image as PRCC does: ``rgb/train/001/A_cropped_rgb001.jpg``.

    At test the camera is a folder: ``rgb/test/A/001/cropped_rgb001.jpg``; A is the gallery, B and C
    ask.
    """
    camera, name = "ABC"[camid], f"cropped_rgb{number + 1:03d}.jpg"
    if split in ("train", "val"):
        return f"{ROOTS['prcc']}/rgb/{split}/{pid:03d}/{camera}_{name}"
    return f"{ROOTS['prcc']}/rgb/test/{camera}/{pid:03d}/{name}"


def ltcc_file(split: str, pid: int, camid: int, outfit: int, number: int) -> str:
    """Name an image as LTCC does: ``train/144_1_c11_011239.png``; ``test`` is the gallery."""
    folder = {"gallery": "test"}.get(split, split)
    frame = (outfit * 100 + number) * _FRAMES + pid % _FRAMES
    return f"{ROOTS['ltcc']}/{folder}/{pid:03d}_{outfit + 1}_c{camid + 1}_{frame:06d}.png"


def ltcc_lists(changing: dict[str, list[int]], constant: dict[str, list[int]]) -> dict[str, str]:
    """Return LTCC's lists of people who change clothes and who do not, by path.

    Args:
        changing, constant: pids by ``train`` and ``test``.
    """
    return {
        f"{ROOTS['ltcc']}/info/cloth-{kind}_id_{split}.txt": "".join(f"{pid}\n" for pid in pids)
        for kind, people in (("change", changing), ("unchange", constant))
        for split, pids in people.items()
    }


def vcclothes_file(split: str, pid: int, camid: int, outfit: int, number: int) -> str:
    """Name an image as VC-Clothes does: ``train/0001-02-01-03.jpg``.

    Person, camera, outfit and image, each counted from 1.
    """
    name = f"{pid:04d}-{camid + 1:02d}-{outfit + 1:02d}-{number + 1:02d}.jpg"
    return f"{ROOTS['vcclothes']}/{split}/{name}"


def image_file(person: int, outfit: int, number: int) -> str:
    """Name an image of a training source: ``images/00001_o1_00.jpg``."""
    return f"images/{person:05d}_o{outfit + 1}_{number:02d}.jpg"


def templates_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the file that names every image's template."""
    return "file,template\n" + "".join(f"{file},{template}\n" for file, template in pairs)
