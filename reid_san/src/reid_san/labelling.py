"""Pseudo textures: what SAN-PG regresses on people, as the labeler of ``texture`` (section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reid_core import (
    DataError,
    FieldSpec,
    LabelContext,
    RunContext,
    Sample,
    side_car_files,
    write_json,
)
from reid_core.data.decoding import read_field
from reid_san.measuring import Distances
from reid_san.pictures import draw_regressed
from reid_san.regressing import Pixels, evenly, mean_of, regress, to_pixels

_SHEET, _ABREAST = 12, 4
"""People in a picture, and how many side by side."""


class PseudoFields:
    """What SAN-PG regresses on the rows that a labeler is asked for, made while it is gone through.

    Where the data set has the truth, it measures them: a line for the user, and
    ``san/pseudo.json`` and ``san/pseudo.png`` in the run's folder.

    Args:
        labels: what the labeler is asked for, with SAN-PG's stage.
        spec: the field.
    """

    def __init__(self, labels: LabelContext, spec: FieldSpec) -> None:
        self._labels, self._spec = labels, spec

    def __len__(self) -> int:
        return len(self._labels.rows)

    def __iter__(self) -> Iterator[Pixels]:
        labels = self._labels
        assert labels.stage is not None
        run, stage, samples = labels.run, labels.stage, labels.samples
        distances: Distances | None = None
        shown = {id(sample) for sample in evenly(samples, _SHEET)}
        sheet = []
        for sample, (image, found) in zip(samples, regress(run, stage.model, samples), strict=True):
            pixels = to_pixels(found)
            if distances is None:
                distances = self._distances(found)
            if self._known:
                distances.add(sample, found.clamp(-1, 1))
            if id(sample) in shown:
                sheet.append(column(image, pixels, sample, self._spec if self._known else None))
            yield pixels
        self._report(run, stage.name, distances, sheet)

    @property
    def _known(self) -> bool:
        """Whether the data set has a truth of the same layout."""
        return comparable(self._labels.source.fields, self._spec)

    def _distances(self, found: Tensor) -> Distances:
        assert self._labels.stage is not None
        pairs = self._labels.stage.source
        size = (found.shape[1], found.shape[2])
        return Distances(self._spec, mean_of(pairs, self._spec, size))

    def _report(
        self, run: RunContext, stage: str, distances: Distances | None, sheet: list[list[Pixels]]
    ) -> None:
        if distances is not None and self._known:
            run.say(f"[{stage}] {summary(self._spec.name, distances)}")
        if run.folder is None or not sheet:
            return
        draw_regressed(sheet, run.folder / "san" / "pseudo.png", _ABREAST)
        if distances is not None and self._known:
            path = run.folder / "san" / "pseudo.json"
            write_json(path, distances.to_json())


class GivenFields:
    """A user's own images as a field, one file per row that a labeler is asked for.

    Args:
        labels: what the labeler is asked for; that every image of its source has a file is seen
            at once.
        root: the folder, with a file for every image by the image's folders and name.
        spec: the field.

    Raises:
        DataError: images without a file, or files that could be of several images.
    """

    def __init__(self, labels: LabelContext, root: Path, spec: FieldSpec) -> None:
        where = f"san.frontal_root = {root}"
        files = side_car_files(where, root, spec, labels.source.samples)
        self._paths, self._spec = [files[row] for row in labels.rows], spec

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Pixels]:
        for path in self._paths:
            yield read_field(path, self._spec)


def given_key(root: Path) -> str:
    """Return what identifies a user's images: their names, sizes and times.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"san.frontal_root = {root}: there is no such folder")
    found = [path for path in sorted(root.rglob("*")) if path.is_file()]
    listed = [
        (path.relative_to(root).as_posix(), (s := path.stat()).st_size, s.st_mtime_ns)
        for path in found
    ]
    return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]


def comparable(fields: Any, spec: FieldSpec) -> bool:
    """Return whether fields hold the truth of one, in the same layout."""
    return spec.name in fields and fields[spec.name].layout == spec.layout


def column(
    image: np.ndarray[Any, Any], regressed: Pixels, sample: Sample, spec: FieldSpec | None
) -> list[Pixels]:
    """Return what a picture shows of a person: input, regressed image, and the truth if known."""
    images = [image, regressed]
    if spec is not None:
        images.append(read_field(sample.fields[spec.name], spec))
    return images


def summary(name: str, distances: Distances) -> str:
    """Return distances in one line."""
    found = distances.to_json()
    return (
        f"{name} of {found['images']} people against the truth: L1 {found['l1']:.3f} (the mean of "
        f"the pairs: {found['l1_of_mean']:.3f}); colour: R-G {found['red_green']:.2f}, B-G "
        f"{found['blue_green']:.2f}, spread {found['spread']:.2f}"
    )
