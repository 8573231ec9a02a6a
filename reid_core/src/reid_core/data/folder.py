"""The ``folder`` data set: a folder of images whose names say who, where and in what clothes.

    ROOT/train/  ROOT/query/  ROOT/gallery/     PID_cCAM[_oOUTFIT][_anything].jpg, .jpeg or .png
    ROOT/fields/FIELD/SPLIT/STEM.png or .npy    side-car files, for all images of a split or none
    ROOT/fields/FIELD/layout.txt                the layout id of a fixed array (``texture``)

``0002_c12_o3_0041.jpg`` is person 2 before camera 12 in the third outfit; the pid ``-1`` marks
junk in the gallery.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source
from reid_core.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from reid_core.contract.samples import FieldValue

SPLITS = ("train", "query", "gallery")
LAYOUT = "ROOT/{train,query,gallery}/PID_cCAM[_oOUTFIT][_anything].jpg|png"
"""The layout in one line."""

_NAME = re.compile(
    r"(?P<pid>-1|\d+)_c(?P<camera>\d{1,2})(?:_o(?P<outfit>\d+))?(?:_.*)?\.(?:jpg|jpeg|png)",
    re.IGNORECASE,
)
_LITTER = re.compile(r"Thumbs\.db|\.DS_Store|\._.*|__MACOSX|desktop\.ini", re.IGNORECASE)
"""What file managers and archivers leave behind."""

_Key = TypeVar("_Key", int, tuple[int, int])

_SHOWN = 3
"""How many offending names a message lists."""


@dataclass(frozen=True)
class _Image:
    path: Path
    pid: int
    camera: int
    outfit: int | None


def load_folder(request: DataRequest) -> DataSet:
    """Load a data set from a folder of named images.

    Training identities are numbered ``0 .. N-1`` in the order of their pids, test identities keep
    theirs. Cameras are numbered ``0 .. C-1`` over all splits, outfits over all persons (``-1``
    where a name has none). Only names are read, and the side-car files of scalar fields.

    Args:
        request: ``request.root`` is the folder.

    Returns:
        The data set, samples sorted by file name; query and gallery may be empty.

    Raises:
        DataError: the folder is missing, holds files that fit no rule, or a field is incomplete.
    """
    root = request.root
    if root is None or not (root / "train").is_dir():
        missing = "no --data-root was given" if root is None else f"{root}/train: no such folder"
        raise DataError(f"data set '{request.text}': {missing}; expected {LAYOUT}")
    images = {split: _scan(root / split, split) for split in SPLITS}
    if not images["train"]:
        raise DataError(f"{root}/train holds no images; expected {LAYOUT}")
    everything = [image for split in SPLITS for image in images[split]]
    cameras = _numbering(image.camera for image in everything)
    outfits = _numbering(outfit for image in everything if (outfit := _outfit(image)))
    pids = _numbering(image.pid for image in images["train"])
    samples = {
        split: tuple(
            Sample(
                image.path,
                pids[image.pid] if split == "train" else image.pid,
                cameras[image.camera],
                outfits[outfit] if (outfit := _outfit(image)) else -1,
                split,
                extra={"person": image.pid},
            )
            for image in images[split]
        )
        for split in SPLITS
    }
    fields = _fields(root)
    for spec in fields:
        for split in SPLITS:
            if split == "train" or (root / "fields" / spec.name / split).is_dir():
                values = _side_cars(root, spec, split, [s.path for s in samples[split]])
                samples[split] = tuple(
                    replace(sample, fields={**sample.fields, spec.name: value})
                    for sample, value in zip(samples[split], values, strict=True)
                )
    tested = (*samples["query"], *samples["gallery"])
    known = {image.pid for image in images["train"]}
    shared = len({sample.pid for sample in tested if sample.pid in known})
    return DataSet(
        name=request.text,
        train=Source("main", samples["train"], {spec.name: spec for spec in fields}),
        query=samples["query"],
        gallery=samples["gallery"],
        query_fields={
            spec.name: spec
            for spec in fields
            if tested and all(spec.name in s.fields for s in tested)
        },
        notice=f"{shared} identities are in training and in test" if shared else None,
    )


def _scan(folder: Path, split: str) -> list[_Image]:
    """Return the images of a split, sorted by name."""
    if not folder.is_dir():
        return []
    images, strays = [], []
    for name in sorted(entry for entry in os.listdir(folder) if not _LITTER.fullmatch(entry)):
        match = _NAME.fullmatch(name)
        if match is None or (match["pid"] == "-1" and split != "gallery"):
            strays.append(name)
            continue
        outfit = int(match["outfit"]) if match["outfit"] else None
        images.append(_Image(folder / name, int(match["pid"]), int(match["camera"]), outfit))
    if strays:
        raise DataError(
            f"{folder}: {len(strays)} names do not fit PID_cCAM[_oOUTFIT][_anything].jpg|png with "
            f"a pid of digits{' or -1' if split == 'gallery' else ''}: {_some(strays)}"
        )
    return images


def _outfit(image: _Image) -> tuple[int, int] | None:
    return None if image.outfit is None or image.pid < 0 else (image.pid, image.outfit)


def _numbering(values: Iterable[_Key]) -> dict[_Key, int]:
    return {value: number for number, value in enumerate(sorted(set(values)))}


def _fields(root: Path) -> list[FieldSpec]:
    """Return the fields that have a folder, sorted by name."""
    folder = root / "fields"
    if not folder.is_dir():
        return []
    specs = []
    for name in sorted(entry for entry in os.listdir(folder) if not _LITTER.fullmatch(entry)):
        if name not in SHARED_FIELDS:
            raise DataError(
                f"{folder / name}: there is no field '{name}'{did_you_mean(name, SHARED_FIELDS)} "
                f"(fields: {', '.join(SHARED_FIELDS)})"
            )
        layout = folder / name / "layout.txt"
        spec = SHARED_FIELDS[name]
        specs.append(replace(spec, layout=layout.read_text().strip()) if layout.exists() else spec)
    return specs


def _side_cars(root: Path, spec: FieldSpec, split: str, images: list[Path]) -> list[FieldValue]:
    """Return the value of a field for every image of a split."""
    folder = root / "fields" / spec.name / split
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    values: list[FieldValue] = []
    missing = []
    if len({image.stem for image in images}) < len(images):
        raise DataError(f"{images[0].parent}: two images with one stem would share side-car files")
    for image in images:
        name = next((n for n in (f"{image.stem}.png", f"{image.stem}.npy") if n in present), None)
        if name is None:
            missing.append(image.stem)
        else:
            values.append(folder / name)
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(images)} images have no side-car file "
            f"(STEM.png or STEM.npy): {_some(missing)}"
        )
    if spec.kind is FieldKind.SCALAR:
        from reid_core.data.decoding import read_field  # Pillow: not for every listing of providers

        return [read_field(value, spec).item() for value in values]
    return values


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
