"""Pictures: grids of swapped codes (figures 1 and 6) and interpolations (figures 5 and 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reid_core import ConfigError, image_sheet, pixels_of
from reid_dgnet.generating import Composer
from reid_dgnet.people import different_people

GAP = 2
"""White pixels between two images."""


def draw_swaps(composer: Composer, side: int, path: Path) -> Path:
    """Draw a grid of swapped codes, with the real images around it.

    People are spread evenly over the composer's images. A row has one appearance, a column one
    structure; the real images stand on the left and on top, so that on the diagonal everybody is
    composed of his own codes.

    Args:
        composer: what composes.
        side: how many people.
        path: where to write; the suffix gives the format.
    """
    images = composer.read(different_people(composer.samples, side))
    appearance, structure = composer.codes(images)
    count = len(images)
    made = composer.compose(
        structure.repeat(count, 1, 1, 1), appearance.repeat_interleave(count, 0)
    )
    real, composed = pixels_of(images).numpy(), pixels_of(made).numpy()
    empty = np.full_like(real[0], 255)
    rows = [[empty, *real]]
    for number in range(count):
        rows.append([real[number], *composed[number * count : (number + 1) * count]])
    return image_sheet(rows, path, GAP)


def draw_interpolations(
    composer: Composer,
    codes: Literal["appearance", "structure"],
    rows: int,
    steps: int,
    path: Path,
) -> Path:
    """Draw images between two people: one code moves in a straight line, the other stays.

    A row begins with a real image and ends with another; between them stands the first one's
    structure while the appearance moves (figure 5), or its appearance while the structure does
    (figure 9).

    Args:
        composer: what composes.
        codes: which code moves.
        rows: pairs of people.
        steps: images between the two real ones, at least 2.
        path: where to write; the suffix gives the format.

    Raises:
        ConfigError: all images show one person.
    """
    people = different_people(composer.samples, 2 * rows)
    if len(people) < 2:
        raise ConfigError("all images show one person: there is nobody to change into")
    images = composer.read(people)
    appearance, structure = composer.codes(images)
    share = torch.linspace(0, 1, steps, device=images.device)
    drawn = []
    for first in range(0, len(images) - 1, 2):
        here, there = first, first + 1
        if codes == "appearance":
            moving = _between(appearance[here], appearance[there], share)
            made = composer.compose(structure[here].expand(steps, -1, -1, -1), moving)
        else:
            moving = _between(structure[here], structure[there], share)
            made = composer.compose(moving, appearance[here].expand(steps, -1))
        real = pixels_of(images[[here, there]]).numpy()
        drawn.append([real[0], *pixels_of(made).numpy(), real[1]])
    return image_sheet(drawn, path, GAP)


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    weights = share.view(-1, *[1] * first.dim())
    return (1 - weights) * first + weights * second
