"""A picture of a data set: people in rows, their images above what the fields say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from reid_core.contract.fields import COCO_JOINTS, FieldKind, FieldSpec
from reid_core.contract.samples import DataSet, Sample
from reid_core.data.clips import frame_of
from reid_core.data.decoding import read_field
from reid_core.errors import DataError
from reid_core.images import read_image, resize_image
from reid_core.outputs import whole_file

_CELL = (160, 80)
"""Height and width of one image."""

_GAP, _CAPTION = 4, 14

_ABREAST = 3
"""People side by side."""

_LEGEND = 560
"""Least width where classes are written."""

_LIMBS = (
    ("shoulder", "elbow"),
    ("elbow", "wrist"),
    ("shoulder", "hip"),
    ("hip", "knee"),
    ("knee", "ankle"),
)

_BONES = tuple(
    (COCO_JOINTS.index(first), COCO_JOINTS.index(second))
    for first, second in (
        ("nose", "left eye"),
        ("nose", "right eye"),
        ("left eye", "left ear"),
        ("right eye", "right ear"),
        ("left shoulder", "right shoulder"),
        ("left hip", "right hip"),
        *((f"{side} {a}", f"{side} {b}") for side in ("left", "right") for a, b in _LIMBS),
    )
)
"""Joints that a line connects."""

_LEFT, _RIGHT, _HIDDEN = (255, 200, 0), (0, 200, 255), (150, 150, 150)
"""Colours of joints of the left side, of the right side, and behind something."""


def class_colours(count: int) -> NDArray[np.uint8]:
    """Return distinct RGB colours for ``count`` classes; class 0 is black."""
    hues = np.linspace(0, 1, count, endpoint=False)
    channels = np.stack([np.abs(((hues + shift) % 1) * 2 - 1) for shift in (0.5, 1 / 6, 5 / 6)], 1)
    colours = (55 + 200 * channels).astype(np.uint8)
    colours[0] = 0
    return colours


@dataclass(frozen=True)
class _Line:
    """A row of the sheet: what it shows, a picture per image, and what stands under each."""

    title: str
    cells: list[NDArray[np.uint8]]
    captions: list[str]


def contact_sheet(dataset: DataSet, path: Path, identities: int = 6, images: int = 6) -> Path:
    """Draw images of some people and, below each row, the fields of its images.

    They are training images, or those of the test where there are no others.

    Args:
        dataset: what to show.
        path: the picture to write.
        identities: how many people, evenly spread over the set.
        images: how many images of each, in as many outfits and from as many cameras as there are.

    Raises:
        DataError: there is nothing to show, or an image cannot be read.
    """
    by_pid: dict[int, list[Sample]] = {}
    fields = dataset.train.fields if dataset.train.samples else dataset.query_fields
    for sample in dataset.train.samples or (*dataset.query, *dataset.gallery):
        by_pid.setdefault(sample.pid, []).append(sample)
    if not by_pid:
        raise DataError(f"data set '{dataset.name}' has no images to show")
    everybody = sorted(by_pid)
    spread = np.linspace(0, len(everybody) - 1, min(identities, len(everybody))).astype(int)
    specs = [s for s in fields.values() if s.kind is not FieldKind.SCALAR]
    blocks = []
    for pid in (everybody[place] for place in spread):
        chosen = varied(by_pid[pid], images)
        outfits = sorted({sample.clothes for sample in chosen})
        captions = [f"cam {s.camid}{_outfit(outfits.index(s.clothes), s)}" for s in chosen]
        blocks.append(
            [
                _Line(f"person {pid}", [_fitted(read_image(s.path)) for s in chosen], captions),
                *(_Line(spec.name, [_drawn(s, spec) for s in chosen], []) for spec in specs),
            ]
        )
    sheet = _sheet(blocks, images, specs)
    with whole_file(path) as part:
        sheet.save(part)
    return path


def varied(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return up to ``count`` samples that differ in outfit and camera as much as they can.

    They come sorted by outfit, then camera; none comes twice.
    """
    groups: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.clothes, sample.camid), []).append(sample)
    keys = sorted(groups)
    turns = max(len(group) for group in groups.values())
    chosen: list[tuple[tuple[int, int], int]] = []
    for turn in range(turns):
        there = [key for key in keys if turn < len(groups[key])]
        room = min(count - len(chosen), len(there))
        if room <= 0:
            break
        places = np.linspace(0, len(there) - 1, room).astype(int)
        chosen += [(there[place], turn) for place in places]
    return [groups[key][turn] for key, turn in sorted(chosen)]


def _outfit(number: int, sample: Sample) -> str:
    return f"  outfit {number + 1}" if sample.clothes >= 0 else ""


def _fitted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize an image so that it just fits into a cell, its proportions kept."""
    height, width = pixels.shape[:2]
    scale = min(_CELL[0] / height, _CELL[1] / width)
    return resize_image(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def _drawn(sample: Sample, spec: FieldSpec) -> NDArray[np.uint8]:
    sample = frame_of(sample, 0, {spec.name: spec})
    value = read_field(sample.fields[spec.name], spec)
    if spec.kind is FieldKind.LABELS:
        colours = class_colours(max(len(spec.classes), int(value.max()) + 1))
        picture = Image.fromarray(colours[value])
        return np.asarray(picture.resize(_CELL[::-1], Image.Resampling.NEAREST))
    if spec.kind is FieldKind.POINTS:
        return _with_points(sample, value)
    array = value[0] if value.ndim == 4 else value
    if array.ndim == 3 and array.shape[0] == 3 and array.dtype == np.uint8:
        return _fitted(np.ascontiguousarray(array.transpose(1, 2, 0)))
    return np.full((*_CELL, 3), 128, np.uint8)


def _with_points(sample: Sample, points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw points over the darkened image; those of the shared field with the bones between."""
    pixels = read_image(sample.path)
    scale = np.array([_CELL[1] / pixels.shape[1], _CELL[0] / pixels.shape[0]])
    picture = Image.fromarray(resize_image(pixels, _CELL) // 3)
    draw = ImageDraw.Draw(picture)
    places = [(float(x), float(y)) for x, y in points[:, :2] * scale]
    seen = points[:, 2]
    if len(points) == len(COCO_JOINTS):
        for first, second in _BONES:
            if seen[first] > 0 and seen[second] > 0:
                draw.line((places[first], places[second]), fill=(230, 230, 230))
    for number, (x, y) in enumerate(places):
        if seen[number] > 0:
            colour = _LEFT if number % 2 else _RIGHT
            fill = colour if seen[number] == 1 else _HIDDEN
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=fill)
    return np.asarray(picture)


def _sheet(
    blocks: Sequence[Sequence[_Line]], columns: int, specs: Sequence[FieldSpec]
) -> Image.Image:
    """Draw one block per person, `_ABREAST` of them side by side, and the classes below."""
    wide = columns * (_CELL[1] + _GAP) + 4 * _GAP
    rows = [blocks[i : i + _ABREAST] for i in range(0, len(blocks), _ABREAST)]
    tops = np.cumsum([_GAP, *(max(map(_height, row)) + 2 * _GAP for row in rows)]).tolist()
    labelled = [spec for spec in specs if spec.classes]
    width = max(min(len(blocks), _ABREAST) * wide, _LEGEND if labelled else 0)
    sheet = Image.new("RGB", (width, tops[-1] + len(labelled) * _CAPTION + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, top in zip(rows, tops, strict=False):
        for number, lines in enumerate(row):
            _draw_block(sheet, draw, lines, (number * wide + _GAP, top))
    for number, spec in enumerate(labelled):
        _write_classes(draw, spec, tops[-1] + number * _CAPTION)
    return sheet


def _draw_block(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, lines: Sequence[_Line], corner: tuple[int, int]
) -> None:
    left, top = corner
    for line in lines:
        draw.text((left, top), line.title, fill="black")
        for column, cell in enumerate(line.cells):
            place = (left + column * (_CELL[1] + _GAP), top + _CAPTION)
            sheet.paste(Image.fromarray(np.ascontiguousarray(cell)), place)
            if line.captions:
                draw.text((place[0], place[1] + len(cell)), line.captions[column], fill="black")
        top += _height([line])


def _height(lines: Sequence[_Line]) -> int:
    return sum(
        max(map(len, line.cells)) + _CAPTION * (2 if line.captions else 1) + _GAP for line in lines
    )


def _write_classes(draw: ImageDraw.ImageDraw, spec: FieldSpec, top: int) -> None:
    """Write the classes of a label map in a line, each behind its colour."""
    draw.text((_GAP, top), f"{spec.name}:", fill="black")
    left = 70.0
    for colour, name in zip(class_colours(len(spec.classes)).tolist(), spec.classes, strict=True):
        draw.rectangle((left, top + 2, left + 9, top + 11), fill=tuple(colour))
        draw.text((left + 13, top), name, fill="black")
        left += 13 + draw.textlength(name) + 8
