"""Files of joints as pose estimators write them, and as COCO's annotations have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError
from reid_core.contract.fields import COCO_JOINTS
from reid_core.data.sidecars import files_below

DETECTED = 0.4
"""Score above which a detected joint counts as visible. Detectors give all joints, also those that
they do not see, with low scores; this is where AlphaPose stops to draw them."""

LABELLED = 0.0
"""The same of labelled joints, whose visibility is 0 where they are not seen."""

_JOINTS = len(COCO_JOINTS)
_VISIBLE = 2
"""COCO's mark of a joint that was labelled and is visible; 1 is labelled and hidden."""


@dataclass(frozen=True)
class People:
    """The best person of every image of a file.

    Args:
        joints: ``17 3`` by the image's name, with the folders that the file gives.
        detected: whether visibilities are a detector's scores, or labels.
    """

    joints: Mapping[str, NDArray[np.float32]]
    detected: bool

    @property
    def threshold(self) -> float:
        """Visibility above which a joint is seen."""
        return DETECTED if self.detected else LABELLED


def read_people(path: Path) -> People:
    """Read the best person of every image of a JSON file.

    Understood are AlphaPose's results and COCO's (a list of ``image_id`` and ``keypoints``), and
    COCO's annotations (``images``, ``annotations``, ``categories``).

    Raises:
        DataError: it is missing, another format, or has other joints or another order of them.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error})") from None
    entries, names = _entries(content, path)
    best: dict[str, tuple[float, NDArray[np.float32]]] = {}
    for number, entry in enumerate(entries):
        joints = _person(entry, f"{path}, entry {number}", labelled=names is not None)
        identity = entry["image_id"]
        name = Path(str(identity if names is None else names.get(identity, identity))).as_posix()
        score = float(joints[:, 2].mean())
        if name not in best or score > best[name][0]:
            best[name] = score, joints
    people = {name: joints for name, (_, joints) in best.items()}
    found = People(people, detected=names is None)
    _check_upright(found, path)
    return found


def _entries(content: Any, path: Path) -> tuple[Sequence[Any], Mapping[Any, str] | None]:
    """Return the people of a file; of annotations also the names of images by number."""
    if isinstance(content, list):
        return content, None
    lists = [content.get(k) for k in ("images", "annotations")] if isinstance(content, dict) else []
    if not lists or not all(isinstance(values, list) for values in lists):
        raise DataError(
            f"{path} is neither a list of results (image_id, keypoints) nor COCO "
            "annotations (images, annotations); let AlphaPose write its default format"
        )
    for category in content.get("categories") or ():
        named = category.get("keypoints") if isinstance(category, dict) else None
        order = [str(name).replace("_", " ") for name in named or COCO_JOINTS]
        if order != list(COCO_JOINTS):
            wrong = next(
                (pair for pair in zip(order, COCO_JOINTS, strict=False) if pair[0] != pair[1]),
                (f"{len(order)} joints", f"{_JOINTS}"),
            )
            raise DataError(
                f"{path} has its joints in another order than COCO's: '{wrong[0]}' in "
                f"place of '{wrong[1]}'; write them in COCO's order"
            )
    names = {}
    for number, image in enumerate(lists[0] or ()):
        if not isinstance(image, dict) or not {"id", "file_name"} <= set(image):
            raise DataError(
                f"{path}, image {number} has no id and file_name, by which its people are found; "
                "write both, as COCO's annotations have them"
            )
        names[image["id"]] = str(image["file_name"])
    return lists[1] or (), names


def _person(entry: Any, where: str, labelled: bool) -> NDArray[np.float32]:
    named = isinstance(entry, dict) and isinstance(entry.get("image_id"), str | int)
    if not named or not isinstance(entry.get("keypoints"), list):
        raise DataError(
            f"{where} has no image_id and keypoints; let AlphaPose write its default format"
        )
    try:
        values = np.asarray(entry["keypoints"], np.float32).flatten()
    except (TypeError, ValueError):
        raise DataError(f"{where}: its keypoints are not all numbers; write x, y, score") from None
    if values.size != 3 * _JOINTS:
        raise DataError(
            f"{where} has {values.size} numbers instead of x, y and score of COCO's {_JOINTS} "
            "joints; use an estimator trained on COCO"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{where}: its keypoints are not all finite; leave such people out")
    joints: NDArray[np.float32] = values.reshape(_JOINTS, 3)
    joints[:, 2] = np.clip(joints[:, 2] / (_VISIBLE if labelled else 1), 0, 1)
    return joints


def _check_upright(people: People, path: Path) -> None:
    """Refuse a file in which most people's ankles are above their shoulders."""
    if not people.joints:
        return
    joints = np.stack(list(people.joints.values()))
    shown = joints[(joints[:, [5, 6, 15, 16], 2] > people.threshold).all(1)]
    shoulders, ankles = shown[:, 5:7, 1].mean(1), shown[:, 15:17, 1].mean(1)
    wrong = int((ankles < shoulders).sum())
    if 2 * wrong > len(shown):
        raise DataError(
            f"{path} seems to have another order of joints than COCO's: in {wrong} of "
            f"{len(shown)} images what should be ankles is above what should be shoulders"
        )


def merge_results(folder: Path, name: str) -> list[dict[str, Any]]:
    """Merge an estimator's results of many folders, each image named with its folder.

    AlphaPose names an image without its folder. Run once per folder of images, its results in
    folders of the same names, it tells images of one name apart all the same.

    Args:
        folder: with the results; a file in ``a/b`` is of images in ``a/b``.
        name: of every file of results.

    Returns:
        The best person of every image: ``image_id``, ``keypoints`` and ``score``.

    Raises:
        DataError: there are no results, one file cannot be used, or it holds annotations.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name the one that holds the folders of results")
    files = sorted(path for path in files_below(folder) if path.match(name))
    if not files:
        raise DataError(f"{folder} and its folders hold no '{name}'; name the files with --name")
    merged = []
    for path in files:
        people = read_people(path)
        if not people.detected:
            raise DataError(
                f"{path} holds annotations, which name folders themselves; use it as it is"
            )
        place = path.parent.relative_to(folder)
        for image, joints in people.joints.items():
            score = float(joints[:, 2].mean())
            values = [round(float(value), 4) for value in joints.flatten()]
            name_there = (place / image).as_posix()
            merged.append({"image_id": name_there, "keypoints": values, "score": round(score, 4)})
    return merged
