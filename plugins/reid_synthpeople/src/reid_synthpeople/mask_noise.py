"""Spoiling true masks as a parser would, so that they do not flatter methods that use shape.

True masks are exact to the pixel, those of a parser are not: they lie a little beside the person,
lose its border, and take patches of one class for another. The noise of a picture depends on its
key alone; two maps of one picture (parts and garments) with one key keep the same silhouette.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import ConfigError
from reid_synthpeople.randomness import generator

_STREAM = 17
"""Stream under a picture's key."""

_PATCH = (0.02, 0.08)
"""Radius of a patch of another class, in shares of the height."""


@dataclass(frozen=True)
class MaskNoise:
    """Say how masks are spoilt; 0 leaves one kind out.

    Args:
        shift: standard deviation of the displacement in each direction, in shares of the height.
        erosion: greatest depth to which the silhouette is eroded, in shares of the height.
        swaps: probability for each class of the picture that a patch of it gets another label.

    Raises:
        ConfigError: a number is out of range.
    """

    shift: float = 0.01
    erosion: float = 0.015
    swaps: float = 0.3

    def __post_init__(self) -> None:
        for name in ("shift", "erosion", "swaps"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"synthpeople: mask noise {name} is {value}; use 0 to 1")


def spoil_labels(labels: NDArray[np.uint8], noise: MaskNoise, *key: int) -> NDArray[np.uint8]:
    """Return a spoilt copy of a label map.

    Args:
        labels: ``H W``, 0 is the background.
        noise: how much.
        key: of the picture, non-negative integers such as seed, pid, camid and number.
    """
    rng = generator(*key, _STREAM)
    height = len(labels)
    down, across = np.rint(rng.normal(size=2) * noise.shift * height).astype(int)
    spoilt = _shift(labels, int(down), int(across))
    depth = round(rng.uniform(0, noise.erosion) * height)
    spoilt[~_erode(spoilt > 0, depth)] = 0
    return _swap_patches(spoilt, rng, noise.swaps)


def _shift(labels: NDArray[np.uint8], down: int, across: int) -> NDArray[np.uint8]:
    """Return labels moved by whole pixels; background moves in."""
    height, width = labels.shape
    moved = np.zeros_like(labels)
    if abs(down) < height and abs(across) < width:
        source = labels[
            max(0, -down) : height - max(0, down), max(0, -across) : width - max(0, across)
        ]
        top, left = max(0, down), max(0, across)
        moved[top : top + source.shape[0], left : left + source.shape[1]] = source
    return moved


def _erode(mask: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """Return a mask without its outer pixels; what the picture cuts off is no border."""
    for _ in range(depth):
        wide = np.pad(mask, 1, mode="edge")
        mask = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask


def _swap_patches(
    labels: NDArray[np.uint8], rng: np.random.Generator, probability: float
) -> NDArray[np.uint8]:
    """Return labels in which round patches of some classes are taken for another class present."""
    present = [int(label) for label in np.unique(labels) if label]
    swapped = labels.copy()
    if len(present) < 2:
        return swapped
    height, width = labels.shape
    y, x = np.ogrid[:height, :width]
    for label in present:
        hit, other = rng.random() < probability, rng.integers(len(present) - 1)
        place, radius = rng.random(), rng.uniform(*_PATCH) * height
        if not hit:
            continue
        pixels = np.flatnonzero(labels == label)
        row, column = divmod(int(pixels[int(place * len(pixels))]), width)
        patch = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        others = [candidate for candidate in present if candidate != label]
        swapped[patch & (labels == label)] = others[other]
    return swapped
