"""COCO's run-length encoding of masks, and DensePose's part masks made of it.

A mask's pixels, column by column, are runs of zeros and ones in turn. Each run's length is written
in groups of five bits, lowest first, as characters from 48 on; the sixth bit says that more follow,
and the highest of the last group is the sign. From the third run on it is the difference to the
run before the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.data.geometry import Geometry, transform_labels
from reid_core.errors import DataError

MASK_SIZE = 256
"""Height and width of DensePose's part masks, which are stretched over the person's box."""

PARTS = 14
"""Number of part masks of a person."""


def run_lengths(counts: str | bytes | Sequence[int]) -> list[int]:
    """Return the lengths of the runs of a mask.

    Args:
        counts: compressed text, or the lengths themselves.

    Raises:
        ValueError: the text ends in the middle of a number.
    """
    if not isinstance(counts, str | bytes):
        return [int(count) for count in counts]
    codes = counts.encode("ascii") if isinstance(counts, str) else counts
    lengths: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the text ends in the middle of a number")
    return lengths


def decode_mask(mask: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return a mask ``H W`` of its run-length encoding.

    Args:
        mask: ``size`` (height, width) and ``counts``.

    Raises:
        ValueError: the runs do not fill the mask.
    """
    height, width = mask["size"]
    lengths = run_lengths(mask["counts"])
    if min(lengths, default=0) < 0 or sum(lengths) != height * width:
        raise ValueError(f"runs of {sum(lengths)} pixels in a mask of {height} x {width}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def part_map(
    masks: Sequence[Mapping[str, Any] | Sequence[Any]], size: tuple[int, int], where: object
) -> NDArray[np.uint8]:
    """Return DensePose's 14 part masks as one label map; later parts lie over earlier ones.

    Args:
        masks: one entry per part, empty where the part is not seen.
        size: height and width of the result, those of the person's box.
        where: annotation, for the message.

    Returns:
        uint8 ``H W``, 0 for background and 1 to 14.

    Raises:
        DataError: there are not 14 entries, or one cannot be read.
    """
    if len(masks) != PARTS:
        raise DataError(f"{where}: {len(masks)} part masks, not {PARTS}")
    labels = np.zeros((MASK_SIZE, MASK_SIZE), np.uint8)
    for number, mask in enumerate(masks, start=1):
        if not mask:
            continue
        try:
            if not isinstance(mask, Mapping):
                raise ValueError("no size and counts")
            labels[decode_mask(mask)] = number
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{where}: part mask {number} cannot be read ({error})") from error
    return transform_labels(labels, Geometry.plain(size))
