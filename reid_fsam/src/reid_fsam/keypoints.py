"""Joints of people: from the field ``keypoints``, or from a pose estimator's JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid_core import SHARED_FIELDS, DataError, Sample
from reid_core.contract.fields import COCO_JOINTS
from reid_core.data.decoding import read_field
from reid_fsam.pose_files import DETECTED, read_people
from reid_parsing.inference import image_size

Joints = NDArray[np.float32]
"""``N 17 3``: x, y and visibility 0 to 1, joints in COCO's order."""

_JOINTS = len(COCO_JOINTS)
_SHOWN = 3


def joints_of_field(samples: Sequence[Sample], threshold: float | None = None) -> Joints:
    """Return the field ``keypoints`` of samples, ``N 17 3``, in pixels of each image.

    Args:
        samples: the images.
        threshold: joints count as visible above it; None takes `DETECTED`: a labeler may have
            made the field from a detector's scores, and labels are 0, 0.5 or 1.

    Raises:
        DataError: a value that cannot be read, or of other than 17 joints.
    """
    spec = SHARED_FIELDS["keypoints"]
    rows = []
    for sample in samples:
        joints = read_field(sample.fields["keypoints"], spec)
        if joints.shape != (_JOINTS, 3):
            raise DataError(
                f"{sample.path}: 'keypoints' has shape {joints.shape}; COCO's {_JOINTS} joints "
                f"with x, y and visibility are ({_JOINTS}, 3)"
            )
        rows.append(joints)
    found = np.asarray(rows, np.float32).reshape(-1, _JOINTS, 3)
    return seen_joints(found, DETECTED if threshold is None else threshold)


def joints_of_file(samples: Sequence[Sample], path: Path, threshold: float | None = None) -> Joints:
    """Return the joints that a JSON file has for samples, ``N 17 3``, in pixels of each image.

    An image is found by its name, with as many folders before it as the file gives; of several
    people on an image the one with the best score counts. Images without any have visibility 0.

    Args:
        samples: the images.
        path: the file.
        threshold: joints count as visible above it; None takes `DETECTED` for a detector's
            results and `LABELLED` for annotations.

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
        name = next((n for n in names if n in people.joints), None)
        if name is None:
            missing.append(sample.path.name)
            continue
        if owners.setdefault(name, sample.path) != sample.path:
            raise DataError(
                f"{path}: '{name}' could be {owners[name]} or {sample.path}; run the estimator "
                "folder by folder, and let `reid fsam poses` put the folders before the names"
            )
        found[row] = people.joints[name]
    if 2 * len(missing) > len(samples):
        raise DataError(
            f"{path}: {len(missing)} of {len(samples)} images have no keypoints there, first "
            f"{', '.join(missing[:_SHOWN])}; it seems to be of other images"
        )
    return seen_joints(found, people.threshold if threshold is None else threshold)


def seen_joints(joints: Joints, threshold: float) -> Joints:
    """Return joints with visibility 0 wherever it is not above a threshold."""
    seen = joints.copy()
    seen[seen[..., 2] <= threshold, 2] = 0
    return seen


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
            relative[row, :, :2] /= image_size(sample)[::-1]
        return relative
    for row in relative:
        seen = row[:, 2] > 0
        if seen.any():
            low, high = row[seen, :2].min(0), row[seen, :2].max(0)
            row[:, :2] = (row[:, :2] - low) / np.maximum(high - low, 1e-6)
    return relative
