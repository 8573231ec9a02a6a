"""The ``folder`` data set: a folder of images whose names say who, where and in what clothes.

    ROOT/train/  ROOT/query/  ROOT/gallery/     PID_cCAM[_oOUTFIT][_anything].jpg, .png, ...
    ROOT/folder.toml                            pattern = "...", where names are of another kind
    ROOT/fields/FIELD/SPLIT/NAME.png or .npy    side-car files, for all images of a split or none
    ROOT/fields/FIELD/layout.txt                the layout id of a fixed array (``texture``)

``0002_c12_o3_0041.jpg`` is person 2 before camera 12 in the third outfit; the pid ``-1`` marks
junk in the gallery. Variants read the names of other data sets (`PATTERNS`).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.names import check_choice
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source, renumbered
from reid_core.data.decoding import read_field
from reid_core.data.sidecars import LITTER, files_below, laid_out, side_car_files
from reid_core.errors import DataError, reason_of, some

SPLITS = ("train", "query", "gallery")
LAYOUT = "ROOT/{train,query,gallery}/PID_cCAM[_oOUTFIT][_anything].jpg|png"
"""The layout in one line."""

PATTERNS = {
    "names": (
        r"(?P<pid>-1|\d+)_c(?P<camera>\d+)(?:_o(?P<outfit>\d+))?(?:_[^/]*)?",
        "PID_cCAM[_oOUTFIT][_anything]",
    ),
    "market": (r"(?P<pid>-1|\d+)_c(?P<camera>\d+)(?:s\d+)?(?:_[^/]*)?", "PID_cCAM[sN][_anything]"),
    "msmt17": (r"(?:.*/)?(?P<pid>\d+)_\d+_(?P<camera>\d+)(?:_[^/]*)?", "PID_NUMBER_CAM[_anything]"),
    "prcc": (r"(?P<pid>\d+)/(?P<camera>[A-Za-z])(?:_[^/]*)?", "PID/CAM[_anything]"),
    "pid": (r"(?P<pid>-1|\d+)/.+", "PID/anything"),
}
"""Patterns of names in a split, without the suffix, and the same for people, by variant."""

_FOLDERS = {"train": ("bounding_box_train",), "gallery": ("bounding_box_test",)}
"""What splits are called elsewhere."""

_SUFFIXES = ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp")
_Key = TypeVar("_Key", int, tuple[int, int], tuple[int, str])


@dataclass(frozen=True)
class _Image:
    path: Path
    pid: int
    camera: tuple[int, str]
    outfit: tuple[int, int] | None


def load_folder(request: DataRequest) -> DataSet:
    """Load a data set from a folder of named images.

    Training identities are numbered ``0 .. N-1`` in the order of their pids, test identities keep
    theirs. Cameras are numbered ``0 .. C-1`` over all splits, outfits over all persons (``-1``
    where a name has none). Only names are read, and the side-car files of scalar fields.

    Args:
        request: ``request.root`` is the folder.

    Returns:
        The data set, samples sorted by file name; splits may be empty, but not all of them.

    Raises:
        DataError: the folder is missing, holds files that fit no rule, or a field is incomplete.
    """
    root = request.root
    if root is None or not root.is_dir():
        missing = "no --data-root was given" if root is None else f"{root}: no such folder"
        raise DataError(f"data set '{request.text}': {missing}; expected {LAYOUT}")
    pattern, expected = _pattern(root, request.variant or "names", request.pattern)
    images = {split: _scan(root, split, pattern, expected) for split in SPLITS}
    if not any(images.values()):
        raise DataError(f"{root}: none of train, query and gallery holds images; expected {LAYOUT}")
    everything = [image for split in SPLITS for image in images[split]]
    cameras = _numbering(image.camera for image in everything)
    outfits = _numbering(image.outfit for image in everything if image.outfit)
    samples = {
        split: tuple(
            Sample(
                image.path,
                image.pid,
                cameras[image.camera],
                outfits[image.outfit] if image.outfit else -1,
                split,
                extra={"person": image.pid},
            )
            for image in images[split]
        )
        for split in SPLITS
    }
    samples["train"] = renumbered(samples["train"])
    fields = {spec.name: spec for spec in _fields(root)}
    for spec in fields.values():
        for split in SPLITS:
            folder = root / "fields" / spec.name / split
            if (split == "train" and images[split]) or folder.is_dir():
                source = Source(split, samples[split])
                files = side_car_files(str(folder), folder, spec, source.samples)
                scalar = spec.kind is FieldKind.SCALAR
                values = [read_field(file, spec).item() if scalar else file for file in files]
                samples[split] = source.with_field(spec, values).samples
    tested = (*samples["query"], *samples["gallery"])
    shared = len({image.pid for image in images["train"]} & {sample.pid for sample in tested})
    return DataSet(
        name=request.text,
        train=Source("main", samples["train"], fields),
        query=samples["query"],
        gallery=samples["gallery"],
        query_fields={
            name: spec
            for name, spec in fields.items()
            if tested and all(name in sample.fields for sample in tested)
        },
        notice=f"{shared} identities are in training and in test" if shared else None,
    )


def _pattern(root: Path, variant: str, given: str | None) -> tuple[re.Pattern[str], str]:
    """Return the pattern of names and the same for people: that given, the folder's or variant's.

    Raises:
        DataError: the folder's own cannot be read, or does not say where the pid is.
    """
    # Data sets of plugins are read by it under variants of their own.
    text, expected = PATTERNS.get(variant, PATTERNS["names"])
    own: Path | str = root / "folder.toml"
    try:
        if given is not None:
            own, text, expected = "folder.pattern", given, given
        elif isinstance(own, Path) and own.is_file():
            text = expected = tomllib.loads(own.read_text("utf-8"))["pattern"]
        pattern = _compiled(text)
    except (KeyError, TypeError, ValueError, re.error) as error:
        reason = "there is none" if isinstance(error, KeyError) else reason_of(error)
        raise DataError(f"{own}: expected pattern = 'REGULAR EXPRESSION' ({reason})") from None
    # Another name would be a camera or an outfit that nobody reads.
    if not {"pid"} <= pattern.groupindex.keys() <= {"pid", "camera", "outfit"}:
        raise DataError(
            f"{own}: the pattern needs a group (?P<pid>...), and may have camera and outfit; it "
            f"has {', '.join(pattern.groupindex) or 'none'}"
        )
    return pattern, expected


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})\.(?:{'|'.join(_SUFFIXES)})", re.IGNORECASE | re.ASCII)


def _scan(root: Path, split: str, pattern: re.Pattern[str], expected: str) -> list[_Image]:
    """Return the images of a split, sorted by name."""
    places = [root / name for name in (split, *_FOLDERS.get(split, ()))]
    folder = next((place for place in places if place.is_dir()), places[0])
    names = sorted(path.relative_to(folder).as_posix() for path in files_below(folder))
    images, strays = [], []
    for name in names:
        found = _said(pattern, name, split)
        if found is None:
            strays.append(name)
            continue
        pid, worn = found["pid"], found.get("outfit") or ""
        outfit = (int(pid), int(worn)) if worn.isdecimal() and pid != "-1" else None
        camera = _camera(found.get("camera") or "")
        images.append(_Image(folder / name, int(pid), camera, outfit))
    if strays:
        known = ((variant, _compiled(text)) for variant, (text, _) in PATTERNS.items())
        fits = next((v for v, other in known if all(_said(other, n, split) for n in names)), None)
        way = f"--data folder/{fits}" if fits else "-s folder.pattern=REGEX"
        advice = "" if images else f"; {way} reads such names"
        raise DataError(
            f"{folder}: {len(strays)} names do not fit {expected}.jpg|png with "
            f"a pid of digits{' or -1' if split == 'gallery' else ''}: {some(strays)}{advice}"
        )
    return images


def _said(pattern: re.Pattern[str], name: str, split: str) -> dict[str, str] | None:
    """Return what an image's name says, or None where it does not say whom the image shows."""
    match = pattern.fullmatch(name)
    found = match.groupdict() if match else {}
    pid = found.get("pid") or ""
    junk = pid == "-1" and split == "gallery"
    return found if junk or re.fullmatch(r"\d+", pid, re.ASCII) else None


def _camera(text: str) -> tuple[int, str]:
    """Return what cameras are told apart and sorted by: numbers by value, letters as such."""
    return (int(text), "") if text.isdecimal() else (-1, text.upper())


def _numbering(values: Iterable[_Key]) -> dict[_Key, int]:
    return {value: number for number, value in enumerate(sorted(set(values)))}


def _fields(root: Path) -> list[FieldSpec]:
    """Return the fields that have a folder, sorted by name."""
    folder = root / "fields"
    if not folder.is_dir():
        return []
    specs = []
    for name in sorted(entry for entry in os.listdir(folder) if not LITTER.fullmatch(entry)):
        check_choice(name, SHARED_FIELDS, f"{folder / name}: there is no field", DataError)
        specs.append(laid_out(SHARED_FIELDS[name], folder / name))
    return specs
