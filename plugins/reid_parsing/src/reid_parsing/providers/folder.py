"""A folder of images and label maps, in any label set that can become ``parts`` or ``garments``.

    ROOT/images/NAME.jpg|png          ROOT/labels/NAME.png        to learn from
    ROOT/held_out/images/...          ROOT/held_out/labels/...    to measure on, optional

Label maps are palette or grey PNGs whose values are the classes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source
from reid_core.data.decoding import read_labels
from reid_core.data.encoding import label_bytes, write_whole
from reid_core.data.label_store import content_hash
from reid_core.errors import DataError
from reid_core.images import BROKEN, upright_size
from reid_parsing.lookup import LABEL_SETS, fields_of, look_up, lookup_table
from reid_parsing.providers.layouts import FOLDER as LAYOUT

VARIANTS = tuple(LABEL_SETS)
"""Label sets of the PNGs; the first one is the default."""

_IMAGES = (".jpg", ".jpeg", ".png")
_SHOWN = 3


def load_labelled_folder(request: DataRequest) -> DataSet:
    """Load ``parsing-folder[/LABEL_SET]``.

    Every image is a person of its own. Labels of a public label set are looked up once, and kept
    in the cache.

    Args:
        request: ``request.root`` is the folder, ``request.variant`` the label set.

    Raises:
        DataError: a folder is missing or empty, images have no label map (the first few and their
            number), a label map differs in size from its image or has other classes.
    """
    root = request.root
    if root is None:
        raise DataError(f"data set '{request.text}': no folder was given; expected {LAYOUT}")
    labels = request.variant or VARIANTS[0]
    train = _pairs(root)
    held_out = _pairs(root / "held_out") if (root / "held_out").is_dir() else []
    specs = {field: SHARED_FIELDS[field] for field in fields_of(labels)}
    made = {
        split: tuple(
            Sample(image, -1, 0, split=split, fields=_fields(request, labels, image, label))
            for image, label in pairs
        )
        for split, pairs in (("train", train), ("gallery", held_out))
    }
    source = Source("main", made["train"], specs, identities=False)
    return DataSet(
        request.text, source, (), made["gallery"], query_fields=specs if held_out else {}
    )


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    """Return images with their label maps, sorted by name."""
    folder = root / "images"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {LAYOUT}")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES)
    if not images:
        raise DataError(f"{folder} holds no images; expected {LAYOUT}")
    pairs = [(image, root / "labels" / f"{image.stem}.png") for image in images]
    missing = [image.name for image, label in pairs if not label.is_file()]
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise DataError(
            f"{root / 'labels'}: {len(missing)} of {len(images)} images have no label map "
            f"NAME.png: {', '.join(missing[:_SHOWN])}{more}"
        )
    for image, label in pairs:
        (width, height), own = _stored_size(label), upright_size(image)
        if (height, width) != own:
            raise DataError(
                f"{label}: the label map is {width} x {height}, its image {own[1]} x {own[0]} "
                "(width x height)"
            )
    return pairs


def _stored_size(label: Path) -> tuple[int, int]:
    """Return width and height of a label map, which is taken as it is stored, never turned."""
    try:
        with Image.open(label) as picture:
            return picture.size
    except BROKEN as error:
        raise DataError(f"{label}: cannot be read as an image ({error})") from error


def _fields(request: DataRequest, labels: str, image: Path, label: Path) -> dict[str, Path]:
    """Return the file of every field, made where the classes are not the field's own."""
    if labels in SHARED_FIELDS:
        return {labels: label}
    files = {}
    for field in fields_of(labels):
        table = lookup_table(labels, field)
        key = hashlib.sha256(f"{content_hash(label)}|{table}".encode()).hexdigest()
        path = request.cache / "parsing-folder" / field / key[:2] / f"{key}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            found = look_up(np.asarray(read_labels(label)), table, label)
            write_whole(path, label_bytes(found))
        files[field] = path
    return files
