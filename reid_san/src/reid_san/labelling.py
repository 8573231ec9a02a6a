"""Pseudo textures: what SAN-PG regresses on people, as the labeler of ``texture`` (section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from reid_core import DataError, FieldSpec, LabelContext, side_car_files, write_json
from reid_core.data.decoding import read_field
from reid_core.data.sidecars import files_below
from reid_san.measuring import Comparison
from reid_san.pictures import draw_regressed
from reid_san.regressing import Pixels, regress, to_pixels

_SHEET = 12
"""People in a picture."""


def pseudo_fields(labels: LabelContext, spec: FieldSpec) -> Iterator[Pixels]:
    """Yield what SAN-PG regresses on the rows that a labeler is asked for.

    Where the data set has the truth, it measures them: a line for the user, and
    ``san/pseudo.json`` and ``san/pseudo.png`` in the run's folder.

    Args:
        labels: what the labeler is asked for, with SAN-PG's stage.
        spec: the field.
    """
    run, samples, stage = labels.run, labels.samples, labels.stage
    assert stage is not None
    compared = Comparison(spec, labels.source.fields, stage.source, samples, _SHEET)
    for sample, (image, found) in zip(samples, regress(run, stage.model, samples), strict=True):
        compared.add(sample, image, found)
        yield to_pixels(found)
    distances = compared.distances
    if distances is not None:
        run.say(f"[{stage.name}] {distances.line()}")
    if run.folder is None or not compared.columns:
        return
    draw_regressed(compared.columns, run.folder / "san" / "pseudo.png")
    if distances is not None:
        write_json(run.folder / "san" / "pseudo.json", distances.to_json())


def given_fields(labels: LabelContext, root: Path, spec: FieldSpec) -> Iterator[Pixels]:
    """Yield a user's own images, one file per row that a labeler is asked for.

    Args:
        labels: what the labeler is asked for; that every image of its source has a file is seen
            first.
        root: the folder, with a file for every image by the image's folders and name.
        spec: the field.

    Raises:
        DataError: images without a file, or files that could be of several images.
    """
    files = side_car_files(f"san.frontal_root = {root}", root, spec, labels.source.samples)
    for row in labels.rows:
        yield read_field(files[row], spec)


def given_key(root: Path) -> str:
    """Return what identifies a user's images: their names, sizes and times.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"san.frontal_root = {root}: there is no such folder")
    found = sorted(path for path in files_below(root) if path.is_file())
    listed = [
        (path.relative_to(root).as_posix(), (s := path.stat()).st_size, s.st_mtime_ns)
        for path in found
    ]
    return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]
