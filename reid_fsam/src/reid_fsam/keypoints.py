"""Joints of people: from the field ``keypoints``, or from a pose estimator's JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from reid_core import DataError, Sample
from reid_core.contract.fields import COCO_JOINTS, SHARED_FIELDS, FieldSpec
from reid_core.data.decoding import read_field

Joints = NDArray[np.float32]
"""``N 17 3``: x, y and visibility 0 to 1, joints in COCO's order."""

_JOINTS = len(COCO_JOINTS)
_SHOWN = 3
_LABELLED = 2
"""COCO's mark of a joint that was labelled and is visible; 1 is labelled and hidden."""


def joints_of_field(samples: Sequence[Sample], spec: FieldSpec | None = None) -> Joints:
    """Return the field ``keypoints`` of samples, ``N 17 3``, in pixels of each image.

    Raises:
        DataError: a value that cannot be read, or of other than 17 joints.
    """
    spec = spec or SHARED_FIELDS["keypoints"]
    rows = []
    for sample in samples:
        joints = read_field(sample.fields["keypoints"], spec)
        if joints.shape != (_JOINTS, 3):
            raise DataError(
                f"{sample.path}: 'keypoints' has shape {joints.shape}; COCO's {_JOINTS} joints "
                f"with x, y and visibility are ({_JOINTS}, 3)"
            )
        rows.append(joints)
    return np.asarray(rows, np.float32).reshape(-1, _JOINTS, 3)


def joints_of_file(samples: Sequence[Sample], path: Path) -> Joints:
    """Return the joints that a JSON file has for samples, ``N 17 3``, in pixels of each image.

    An image is found by its name, with as many folders before it as the file gives; of several
    people on an image the one with the best score counts. Images without any have visibility 0.

    Raises:
        DataError: the file cannot be used, most images are missing, or names are ambiguous.
    """
    people = read_people(path)
    found = np.zeros((len(samples), _JOINTS, 3), np.float32)
    owners: dict[str, Path] = {}
    missing = []
    for row, sample in enumerate(samples):
        parts = sample.path.parts
        names = ("/".join(parts[start:]) for start in range(len(parts)))
        name = next((n for n in names if n in people), None)
        if name is None:
            missing.append(sample.path.name)
            continue
        if owners.setdefault(name, sample.path) != sample.path:
            raise DataError(
                f"{path}: '{name}' could be {owners[name]} or {sample.path}; let image_id tell "
                "their folders, too"
            )
        found[row] = people[name]
    if 2 * len(missing) > len(samples):
        raise DataError(
            f"{path}: {len(missing)} of {len(samples)} images have no keypoints there, first "
            f"{', '.join(missing[:_SHOWN])}; it seems to be of other images"
        )
    return found


def read_people(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the best person ``17 3`` of every image of a JSON file, by the image's name.

    Understood are AlphaPose's results and COCO's (a list of ``image_id`` and ``keypoints``), and
    COCO's annotations (``images``, ``annotations``, ``categories``).

    Raises:
        DataError: it is missing, another format, or has other joints or another order of them.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"fsam.poses: {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"fsam.poses: {path} is no JSON ({error})") from None
    entries, names, annotated = _entries(content, path)
    best: dict[str, tuple[float, NDArray[np.float32]]] = {}
    for number, entry in enumerate(entries):
        joints = _person(entry, number, path, annotated)
        identity = entry["image_id"]
        name = names.get(identity, str(identity)) if names else str(identity)
        name = Path(name).as_posix()
        score = float(joints[:, 2].mean())
        if name not in best or score > best[name][0]:
            best[name] = score, joints
    people = {name: joints for name, (_, joints) in best.items()}
    _check_upright(people, path)
    return people


def _entries(content: Any, path: Path) -> tuple[Sequence[Any], Mapping[Any, str], bool]:
    """Return the people of a file, the names of images by number, and whether it is annotated."""
    if isinstance(content, list):
        return content, {}, False
    if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
        raise DataError(
            f"fsam.poses: {path} is neither a list of results (image_id, keypoints) nor COCO "
            "annotations (images, annotations); let AlphaPose write its default format"
        )
    for category in content.get("categories", ()):
        order = [str(name).replace("_", " ") for name in category.get("keypoints", COCO_JOINTS)]
        if order != list(COCO_JOINTS):
            wrong = next(
                (pair for pair in zip(order, COCO_JOINTS, strict=False) if pair[0] != pair[1]),
                (f"{len(order)} joints", f"{_JOINTS}"),
            )
            raise DataError(
                f"fsam.poses: {path} has its joints in another order than COCO's: '{wrong[0]}' in "
                f"place of '{wrong[1]}'; write them in COCO's order"
            )
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return content["annotations"], names, True


def _person(entry: Any, number: int, path: Path, annotated: bool) -> NDArray[np.float32]:
    if not isinstance(entry, dict) or not {"image_id", "keypoints"} <= set(entry):
        raise DataError(
            f"fsam.poses: {path}, entry {number} has no image_id and keypoints; let AlphaPose "
            "write its default format"
        )
    values = np.asarray(entry["keypoints"], np.float32)
    if values.size != 3 * _JOINTS:
        raise DataError(
            f"fsam.poses: {path}, entry {number} has {values.size / 3:g} joints instead of COCO's "
            f"{_JOINTS}; use an estimator trained on COCO"
        )
    joints: NDArray[np.float32] = values.reshape(_JOINTS, 3)
    scale = _LABELLED if annotated else 1
    joints[:, 2] = np.clip(joints[:, 2] / scale, 0, 1)
    return joints


def _check_upright(people: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Refuse a file in which most people's ankles are above their shoulders."""
    if not people:
        return
    y = np.stack(list(people.values()))[:, :, 1]
    shoulders, ankles = y[:, 5:7].mean(1), y[:, 15:17].mean(1)
    wrong = int((ankles < shoulders).sum())
    if 2 * wrong > len(people):
        raise DataError(
            f"fsam.poses: {path} seems to have another order of joints than COCO's: in {wrong} of "
            f"{len(people)} images what should be ankles is above what should be shoulders"
        )


def relative_joints(
    joints: Joints, samples: Sequence[Sample], scale: Literal["image", "box"]
) -> Joints:
    """Return joints relative to their image, or to the box around their visible joints.

    Args:
        joints: ``N 17 3`` in pixels.
        samples: whose images they are on.
        scale: ``image`` or ``box``.
    """
    relative = joints.copy()
    if scale == "image":
        for row, sample in enumerate(samples):
            relative[row, :, :2] /= _size_of(sample)
        return relative
    for row in relative:
        seen = row[:, 2] > 0
        if seen.any():
            low, high = row[seen, :2].min(0), row[seen, :2].max(0)
            row[:, :2] = (row[:, :2] - low) / np.maximum(high - low, 1e-6)
    return relative


def _size_of(sample: Sample) -> tuple[int, int]:
    """Return width and height of a sample's image, from the file's header."""
    try:
        with PIL.Image.open(sample.path) as image:
            return image.size
    except OSError as error:
        raise DataError(f"{sample.path}: cannot be read as an image ({error})") from error
