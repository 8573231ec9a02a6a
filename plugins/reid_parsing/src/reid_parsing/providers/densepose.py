"""COCO-DensePose annotations as crops of single people with ``parts``, cut once into the cache.

    ROOT/annotations/densepose_coco_2014_train.json, ..._valminusminival.json   to learn from
    ROOT/annotations/densepose_coco_2014_minival.json                           to measure on
    ROOT/train2014/, ROOT/val2014/                                              COCO's images

A file of annotations may be missing, not all of those to learn from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source
from reid_core.data.encoding import image_bytes, label_bytes
from reid_core.data.label_store import content_hash
from reid_core.errors import DataError
from reid_core.images import read_image
from reid_parsing.lookup import look_up, lookup_table
from reid_parsing.providers.coco_masks import part_map
from reid_parsing.providers.layouts import DENSEPOSE as LAYOUT

_FILES = {"train": ("train", "valminusminival"), "gallery": ("minival",)}
_FOLDERS = ("train2014", "val2014", "")
_QUALITY = 95
_DONE = "crops.json"
_VERSION = 1


@dataclass(frozen=True)
class _Person:
    image: Path
    box: tuple[float, float, float, float]
    masks: list[Any]
    where: str


def load_densepose(request: DataRequest) -> DataSet:
    """Load ``parsing-densepose``: every annotated person is an image of its own.

    Crops are the annotated boxes; part masks are stretched over them (nearest-exact) and become
    ``parts`` by the look-up table.

    Raises:
        DataError: annotations or images are missing, or nobody has part masks.
    """
    root = request.root
    if root is None:
        raise DataError(f"data set '{request.text}': no folder was given; expected {LAYOUT}")
    files = {
        split: [path for name in names if (path := _annotations(root, name)).is_file()]
        for split, names in _FILES.items()
    }
    if not files["train"]:
        raise DataError(f"{_annotations(root, 'train')}: no such file; expected {LAYOUT}")
    hashes = [content_hash(path) for paths in files.values() for path in paths]
    text = "|".join((str(_VERSION), str(root.resolve()), *hashes))
    folder = request.cache / "parsing-densepose" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (folder / _DONE).is_file():
        _cut_all(root, files, folder)
    made = {split: _samples(folder, split) for split in _FILES}
    specs = {"parts": SHARED_FIELDS["parts"]}
    source = Source("main", made["train"], specs, identities=False)
    return DataSet(
        request.text,
        source,
        (),
        made["gallery"],
        query_fields=specs if made["gallery"] else {},
    )


def _annotations(root: Path, name: str) -> Path:
    return root / "annotations" / f"densepose_coco_2014_{name}.json"


def _samples(folder: Path, split: str) -> tuple[Sample, ...]:
    labels = folder / split / "parts"
    return tuple(
        Sample(path, -1, 0, split=split, fields={"parts": labels / f"{path.stem}.png"})
        for path in sorted((folder / split / "images").iterdir())
    )


def _cut_all(root: Path, files: dict[str, list[Path]], folder: Path) -> None:
    """Cut every person; the folder appears whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for split, paths in files.items():
            (made / split / "images").mkdir(parents=True)
            (made / split / "parts").mkdir()
            number = 0
            for path in paths:
                for person in _people(root, path):
                    number += _cut(person, made / split, number)
            if split == "train" and not number:
                raise DataError(f"{paths[0]}: no annotation has part masks (dp_masks)")
        (made / _DONE).write_text(json.dumps({"version": _VERSION}))
        made.chmod(0o755)  # mkdtemp's folders are for the user alone
        try:
            os.replace(made, folder)
        except OSError:
            if not (folder / _DONE).is_file():  # another process was faster, and reads its own
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _people(root: Path, path: Path) -> Iterator[_Person]:
    """Yield the people of a file who have part masks, in the order of their annotations."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation.get("dp_masks"):
                name = names[annotation["image_id"]]
                where = f"{path.name}, annotation {annotation.get('id')}"
                box = tuple(float(value) for value in annotation["bbox"])
                x, y, width, height = box
                image = _image(root, name, where)
                yield _Person(image, (x, y, width, height), annotation["dp_masks"], where)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no DensePose annotations ({type(error).__name__}: {error})"
        ) from error


def _image(root: Path, name: str, where: str) -> Path:
    for folder in _FOLDERS:
        path = root / folder / name
        if path.is_file():
            return path
    raise DataError(f"{where}: its image {name} is in neither {root}/train2014 nor val2014")


def _cut(person: _Person, folder: Path, number: int) -> int:
    """Write image and label map of one person; return how many, 0 where the box is empty."""
    pixels = read_image(person.image)
    x, y, width, height = person.box
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = (
        min(end, round(start + length))
        for end, start, length in ((pixels.shape[1], x, width), (pixels.shape[0], y, height))
    )
    if right - left < 2 or bottom - top < 2:
        return 0
    # Masks cover the whole box, of which the image may show a part.
    whole = part_map(
        person.masks, (round(y + height) - round(y), round(x + width) - round(x)), person.where
    )
    seen = whole[top - round(y) : bottom - round(y), left - round(x) : right - round(x)]
    labels = look_up(np.ascontiguousarray(seen), lookup_table("densepose", "parts"), person.where)
    crop = np.ascontiguousarray(pixels[top:bottom, left:right].transpose(2, 0, 1))
    (folder / "images" / f"{number:06d}.jpg").write_bytes(image_bytes(crop, _QUALITY))
    (folder / "parts" / f"{number:06d}.png").write_bytes(label_bytes(labels))
    return 1
