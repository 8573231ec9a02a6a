"""A picture of a data set: people in rows, their images beside what the fields say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from reid_core.data.decoding import read_field, read_image
from reid_core.data.fields import FieldKind, FieldSpec
from reid_core.data.geometry import resize_image
from reid_core.data.samples import DataSet, Sample
from reid_core.errors import DataError

_CELL = (128, 64)
"""Height and width of one image."""

_GAP, _CAPTION = 4, 14

_ABREAST = 3
"""People side by side."""


def class_colours(count: int) -> NDArray[np.uint8]:
    """Return distinct RGB colours for ``count`` classes; class 0 is black."""
    hues = np.linspace(0, 1, count, endpoint=False)
    channels = np.stack([np.abs(((hues + shift) % 1) * 2 - 1) for shift in (0.5, 1 / 6, 5 / 6)], 1)
    colours = (55 + 200 * channels).astype(np.uint8)
    colours[0] = 0
    return colours


def contact_sheet(dataset: DataSet, path: Path, identities: int = 6, images: int = 6) -> Path:
    """Draw training images of some people and, below each row, the fields of its images.

    Args:
        dataset: what to show.
        path: the picture to write.
        identities: how many people, evenly spread over the set.
        images: how many images of each.

    Raises:
        DataError: there is nothing to show, or an image cannot be read.
    """
    by_pid: dict[int, list[Sample]] = {}
    for sample in dataset.train.samples:
        by_pid.setdefault(sample.pid, []).append(sample)
    if not by_pid:
        raise DataError(f"data set '{dataset.name}' has no training images to show")
    everybody = sorted(by_pid)
    spread = np.linspace(0, len(everybody) - 1, min(identities, len(everybody))).astype(int)
    specs = [s for s in dataset.train.fields.values() if s.kind is not FieldKind.SCALAR]
    rows: list[tuple[str, list[NDArray[np.uint8]]]] = []
    for pid in (everybody[place] for place in spread):
        own = by_pid[pid]
        chosen = [own[i] for i in np.linspace(0, len(own) - 1, min(images, len(own))).astype(int)]
        cameras = " ".join(f"c{s.camid}" for s in chosen)
        rows.append((f"person {pid}  {cameras}", [_image(s) for s in chosen]))
        rows += [(spec.name, [_drawn(s, spec) for s in chosen]) for spec in specs]
    return _sheet(rows, path, images, 1 + len(specs))


def _image(sample: Sample) -> NDArray[np.uint8]:
    return resize_image(read_image(sample.path), _CELL)


def _drawn(sample: Sample, spec: FieldSpec) -> NDArray[np.uint8]:
    value = read_field(sample.fields[spec.name], spec)
    if spec.kind is FieldKind.LABELS:
        colours = class_colours(max(len(spec.classes), int(value.max()) + 1))
        picture = Image.fromarray(colours[value])
        return np.asarray(picture.resize(_CELL[::-1], Image.Resampling.NEAREST))
    if spec.kind is FieldKind.POINTS:
        return _with_points(sample, value)
    array = value[0] if value.ndim == 4 else value
    if array.ndim == 3 and array.shape[0] == 3 and array.dtype == np.uint8:
        return resize_image(np.ascontiguousarray(array.transpose(1, 2, 0)), _CELL)
    return np.full((*_CELL, 3), 128, np.uint8)


def _with_points(sample: Sample, points: NDArray[np.float32]) -> NDArray[np.uint8]:
    pixels = read_image(sample.path)
    scale = np.array([_CELL[1] / pixels.shape[1], _CELL[0] / pixels.shape[0]])
    picture = Image.fromarray(resize_image(pixels, _CELL) // 2)
    draw = ImageDraw.Draw(picture)
    for x, y, visible in points:
        if visible > 0:
            left, top = (float(v) for v in np.array([x, y]) * scale)
            draw.ellipse((left - 1.5, top - 1.5, left + 1.5, top + 1.5), fill=(255, 220, 0))
    return np.asarray(picture)


def _sheet(
    rows: list[tuple[str, list[NDArray[np.uint8]]]], path: Path, columns: int, lines: int
) -> Path:
    """Draw blocks of ``lines`` rows, one block per person, `_ABREAST` of them side by side."""
    height, width = _CELL
    high, wide = height + _GAP + _CAPTION, columns * (width + _GAP) + 4 * _GAP
    blocks = -(-len(rows) // lines)
    size = (min(blocks, _ABREAST) * wide, -(-blocks // _ABREAST) * lines * high + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, cells) in enumerate(rows):
        block, line = divmod(number, lines)
        left = (block % _ABREAST) * wide + _GAP
        top = (block // _ABREAST * lines + line) * high + _GAP
        draw.text((left, top), caption, fill="black")
        for column, cell in enumerate(cells):
            place = (left + column * (width + _GAP), top + _CAPTION)
            sheet.paste(Image.fromarray(np.ascontiguousarray(cell)), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
