"""Look at samples outside of training: at some of them, as a network sees them, in one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reid_core.contract.batches import Batch
from reid_core.contract.fields import FieldSpec
from reid_core.contract.samples import Sample, Source
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.draws import in_order
from reid_core.data.loading import BatchLoader
from reid_core.outputs import whole_file

_T = TypeVar("_T")


def evenly(items: Sequence[_T], count: int) -> list[_T]:
    """Return some of many things in their order, spread evenly from the first to the last.

    Args:
        items: such as samples.
        count: how many; fewer where there are not as many.
    """
    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[place] for place in places.tolist()]


def clean_batches(
    samples: Sequence[Sample],
    size: tuple[int, int],
    device: torch.device,
    *,
    fields: Mapping[str, FieldSpec] | None = None,
    batch_size: int = 64,
    threads: int = 1,
) -> Iterator[Batch]:
    """Yield samples in their order as evaluation sees them: resized, normalised, on the device.

    Args:
        samples: what to look at; nothing is yielded without any.
        size: height and width of the network's input.
        device: where the batches shall be.
        fields: of the samples, that the batches carry.
        batch_size: images of a batch; the last one may be smaller.
        threads: that read files.

    Raises:
        DataError: an image or a field cannot be read; names the file.
    """
    if not samples:
        return
    source = Source("samples", tuple(samples), dict(fields or {}))
    loader = BatchLoader(source, size, tuple(source.fields), threads=threads)
    prepare = DeviceAugmentation().prepare
    for host in loader.load(in_order(len(samples), batch_size), epoch=0):
        yield prepare(host, device)


def image_sheet(rows: Sequence[Sequence[NDArray[np.uint8]]], path: Path, gap: int = 2) -> Path:
    """Write one picture of many, in rows on white, each at the upper left of its place.

    Args:
        rows: pictures uint8 ``H W 3`` from left to right; rows may differ in length, and pictures
            in size: the largest one decides about its row's height and its column's width.
        path: where to write; the suffix gives the format.
        gap: white pixels between pictures.

    Returns:
        ``path``.
    """
    heights = [max(image.shape[0] for image in row) for row in rows]
    columns = range(max(map(len, rows)))
    widths = [max(row[c].shape[1] for row in rows if c < len(row)) for c in columns]
    tops, lefts = (np.cumsum([0, *(side + gap for side in sides)]) for sides in (heights, widths))
    sheet = Image.new("RGB", (int(lefts[-1]) - gap, int(tops[-1]) - gap), "white")
    for row, top in zip(rows, tops.tolist(), strict=False):
        for image, left in zip(row, lefts.tolist(), strict=False):
            sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (left, top))
    with whole_file(path) as part:
        sheet.save(part)
    return path
