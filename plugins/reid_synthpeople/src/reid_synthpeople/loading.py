"""Reading a written folder: one index file tells everything but the pixels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reid_core import SHARED_FIELDS, DataError, DataSet, FieldKind, FieldSpec, Sample, Source
from reid_synthpeople.cards import INDEX, SYNTHETIC
from reid_synthpeople.layouts import SIDE_CARS, TEMPLATES, side_car, texture_file
from reid_synthpeople.names import (
    DRESSED,
    DRESSED_GARMENTS,
    GARMENTS,
    TEMPLATE,
    TEMPLATE_GARMENTS,
)
from reid_synthpeople.people import name_of
from reid_synthpeople.plans import Plan
from reid_synthpeople.protocols import PROTOCOLS

_HEAD = ("file", "split", "pid", "camid", "clothes", "person", "outfit", "number", "shown")

_LABELS = SHARED_FIELDS["garments"]

_OWN_FIELDS = {
    **{n: replace(_LABELS, name=n) for n in (GARMENTS, TEMPLATE_GARMENTS, DRESSED_GARMENTS)},
    **{name: FieldSpec(name, FieldKind.IMAGE) for name in (TEMPLATE, DRESSED)},
}

_DISTRACTOR = -2
"""Identity of people whom nobody searches for."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the index.

    Args:
        file: path of the image, relative to the folder.
        split: ``train``, ``val``, ``query`` or ``gallery``.
        pid: as the file's name says it.
        camid: 0-based.
        clothes: unique over all identities, or -1.
        person, outfit, number: with `camid` the [Shot][reid_synthpeople.world.Shot] it shows; of a
            tracklet's frames the walk, which its file counts.
        shown: whether the person is in the picture.
    """

    file: str
    split: str
    pid: int
    camid: int
    clothes: int
    person: int
    outfit: int
    number: int
    shown: bool


def index_text(plan: Plan) -> str:
    """Return the index of a plan, sorted by file."""
    lines = [",".join(_HEAD)]
    for entry in sorted(plan.entries, key=lambda entry: entry.file):
        shot = entry.shot
        scene = (shot.pid, shot.outfit, shot.number, int(entry.person))
        labels = (entry.split, entry.pid, shot.camid, entry.clothes)
        lines.append(",".join(map(str, (entry.file, *labels, *scene))))
    return "\n".join(lines) + "\n"


def read_index(folder: Path) -> list[Row]:
    """Read a folder's index.

    Raises:
        DataError: it is missing or is no index.
    """
    path = folder / INDEX
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *lines = csv.reader(file)
        if tuple(head) != _HEAD:
            raise ValueError(f"its columns are {', '.join(head)}")
        return [_row(*line) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read as an index ({error}); make the set again"
        ) from error


def _row(file: str, split: str, *numbers: str) -> Row:
    pid, camid, clothes, person, outfit, number, shown = map(int, numbers)
    return Row(file, split, pid, camid, clothes, person, outfit, number, bool(shown))


def lacking(folder: Path, card: Mapping[str, Any], rows: Iterable[Row]) -> list[str]:
    """Return the files that the index promises and the folder does not have."""
    fields = card["fields"]
    wanted: dict[str, None] = {}
    for row in rows:
        wanted[row.file] = None
        wanted |= dict.fromkeys(side_car(row.file, name) for name in fields if name in SIDE_CARS)
        if "texture" in fields and row.shown:
            wanted[texture_file(row.person, row.outfit)] = None
    there: dict[str, set[str]] = {}
    missing = []
    for file in wanted:
        parent, _, name = file.rpartition("/")
        if parent not in there:
            there[parent] = _names(folder / parent)
        if name not in there[parent]:
            missing.append(file)
    return missing


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def dataset_of(
    folder: Path, card: Mapping[str, Any], rows: Sequence[Row], remark: str = ""
) -> DataSet:
    """Return the data set that a folder holds.

    Args:
        folder: where it is.
        card: its card.
        rows: its index.
        remark: what the run's notice says beside that the people are synthetic.

    Returns:
        Samples sorted by file; training identities are numbered ``0 .. N-1``, test identities are
        those of the file names, and distractors are -2, so that they count as nobody. Junk, which
        counts for nobody, and images that are set aside (``val``) are in no split.
    """
    specs = _specs(card)
    seed = card["world"]["seed"]
    if card["order"]["variant"] == "tracklets":
        walks = _by_walk(rows)
        rows = [frames[0] for frames in walks]
        shown = {frames[0].file: [frame.file for frame in frames] for frames in walks}
    else:
        shown = {}
    people = sorted({row.pid for row in rows if row.split == "train"})
    numbers = {pid: number for number, pid in enumerate(people)}
    splits: dict[str, list[Sample]] = {"train": [], "query": [], "gallery": []}
    for row in rows:
        if row.split == "train":
            files = shown.get(row.file, ())
            splits["train"].append(_sample(folder, row, numbers[row.pid], specs, seed, files))
        elif row.split in splits and row.pid != -1:
            pid = row.pid if row.clothes >= 0 else _DISTRACTOR
            files = shown.get(row.file, ())
            splits[row.split].append(_sample(folder, row, pid, specs, seed, files))
    tested = [*splits["query"], *splits["gallery"]]
    return DataSet(
        card["data"],
        Source("main", tuple(splits["train"]), specs),
        tuple(splits["query"]),
        tuple(splits["gallery"]),
        protocols=PROTOCOLS[card["order"]["variant"]],
        query_fields={n: s for n, s in specs.items() if all(n in t.fields for t in tested)},
        notice=SYNTHETIC + remark,
    )


def source_of(folder: Path, card: Mapping[str, Any], rows: Sequence[Row], name: str) -> Source:
    """Return the training source that a folder holds; it has no identities.

    Args:
        folder: where it is.
        card: its card.
        rows: its index.
        name: the source's name.
    """
    specs = _specs(card)
    seed = card["world"]["seed"]
    samples = tuple(_sample(folder, row, -1, specs, seed) for row in rows)
    if DRESSED in specs:
        templates = _read_templates(folder)
        samples = tuple(_with_template(sample, folder, templates) for sample in samples)
        specs |= {name: _OWN_FIELDS[name] for name in (TEMPLATE, TEMPLATE_GARMENTS)}
    return Source(name, samples, specs, identities=False)


def _specs(card: Mapping[str, Any]) -> dict[str, FieldSpec]:
    known = {**SHARED_FIELDS, **_OWN_FIELDS}
    specs = {name: known[name] for name in card["fields"]}
    if "texture" in specs:
        specs["texture"] = replace(specs["texture"], layout=card["texture_layout"])
    return specs


def _by_walk(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the frames of every walk, which lie in one folder, in the order of time."""
    walks: dict[str, list[Row]] = {}
    for row in rows:
        walks.setdefault(row.file.rpartition("/")[0], []).append(row)
    return [sorted(frames, key=lambda row: row.file) for frames in walks.values()]


def _sample(
    folder: Path,
    row: Row,
    pid: int,
    specs: Mapping[str, FieldSpec],
    seed: int,
    frames: Sequence[str] = (),
) -> Sample:
    beside = [name for name in specs if name in SIDE_CARS]
    fields: dict[str, Any] = {name: folder / side_car(row.file, name) for name in beside}
    if frames:
        fields = {name: tuple(folder / side_car(file, name) for file in frames) for name in beside}
    if "texture" in specs and row.shown:
        fields["texture"] = folder / texture_file(row.person, row.outfit)
    return Sample(
        folder / row.file,
        pid,
        row.camid,
        row.clothes,
        row.split,
        fields,
        extra={
            # Of a source without identities nobody is tested: the figure tells its people apart.
            "person": row.pid if row.pid != -1 else row.person,
            "who": name_of(seed, row.person),
            "figure": row.person,
            "outfit": row.outfit,
            "number": row.number,
        },
        frames=tuple(folder / file for file in frames),
    )


def _read_templates(folder: Path) -> dict[str, str]:
    path = folder / TEMPLATES
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["file"]: row["template"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); make the set again") from error


def _with_template(sample: Sample, folder: Path, templates: Mapping[str, str]) -> Sample:
    """Add the template's image and garment map to a sample."""
    file = templates[sample.path.relative_to(folder).as_posix()]
    more = {TEMPLATE: folder / file, TEMPLATE_GARMENTS: folder / side_car(file, GARMENTS)}
    return replace(sample, fields={**sample.fields, **more})
