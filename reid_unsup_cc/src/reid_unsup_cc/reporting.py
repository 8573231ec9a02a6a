"""What a run leaves beside its losses: clusters in numbers, and some people in other clothes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_CELL = (128, 64)
_GAP = 2
_ABREAST = 4


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Append one JSON object to a file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def draw_outfits(people: Sequence[Pixels], outfits: Iterable[Pixels], path: Path) -> Path:
    """Draw people, each with its synthetic images to the right.

    Args:
        people: uint8 ``3 H W`` each.
        outfits: the synthetic images of each, uint8 ``S 3 H W``.
        path: where to write.
    """
    strips = [
        np.concatenate([_cell(one) for one in (own, *made)], 1)
        for own, made in zip(people, outfits, strict=True)
    ]
    blank = np.full_like(strips[0], 255)
    strips += [blank] * (-len(strips) % _ABREAST)
    rows = [
        np.concatenate(strips[first : first + _ABREAST], 1)
        for first in range(0, len(strips), _ABREAST)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)
    return path


def _cell(image: Pixels) -> Pixels:
    height, width = _CELL
    picture = Image.fromarray(image.transpose(1, 2, 0)).resize((width, height))
    cell = np.full((height + _GAP, width + _GAP, 3), 255, np.uint8)
    cell[:height, :width] = np.asarray(picture)
    return cell
