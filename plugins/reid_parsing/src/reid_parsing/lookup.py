"""Label sets of the field, and look-up tables from them to ``parts`` and ``garments``.

Every table is applied as a table, never class by class in place: where class 2 becomes 4 and then
class 4 becomes 7, hands turn into feet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LabelSet:
    """The classes of a label map.

    Args:
        name: how users and files name it.
        classes: class names in the order of their values.
        mirror_pairs: left and right classes, which trade places when an image is mirrored.
    """

    name: str
    classes: tuple[str, ...]
    mirror_pairs: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """The class that each class becomes in the mirror."""
        order = list(range(len(self)))
        for left, right in self.mirror_pairs:
            order[left], order[right] = right, left
        return tuple(order)


LABEL_SETS: dict[str, LabelSet] = {
    label_set.name: label_set
    for label_set in (
        LabelSet("parts", SHARED_FIELDS["parts"].classes),
        LabelSet("garments", SHARED_FIELDS["garments"].classes),
        LabelSet(
            "densepose",
            (
                *("background", "torso", "right hand", "left hand", "left foot", "right foot"),
                *("right upper leg", "left upper leg", "right lower leg", "left lower leg"),
                *("left upper arm", "right upper arm", "left lower arm", "right lower arm", "head"),
            ),
            mirror_pairs=((2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13)),
        ),
        LabelSet(
            "pascal",
            (
                *("background", "head", "torso", "upper arms", "lower arms"),
                *("upper legs", "lower legs"),
            ),
        ),
        LabelSet(
            "lip",
            (
                *("background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress"),
                *("coat", "socks", "pants", "jumpsuit", "scarf", "skirt", "face", "left arm"),
                *("right arm", "left leg", "right leg", "left shoe", "right shoe"),
            ),
            mirror_pairs=((14, 15), (16, 17), (18, 19)),
        ),
        LabelSet(
            "atr",
            (
                *("background", "hat", "hair", "sunglasses", "upper clothes", "skirt", "pants"),
                *("dress", "belt", "left shoe", "right shoe", "face", "left leg", "right leg"),
                *("left arm", "right arm", "bag", "scarf"),
            ),
            mirror_pairs=((9, 10), (12, 13), (14, 15)),
        ),
    )
}
"""All label sets by name: the two fields, and those of the public data sets."""

TABLES: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("parts", "parts"): tuple(range(8)),
    ("garments", "garments"): tuple(range(8)),
    # Hands belong to the lower arm.
    ("densepose", "parts"): (0, 2, 4, 4, 7, 7, 5, 5, 6, 6, 3, 3, 4, 4, 1),
    # No feet: they are part of the lower legs.
    ("pascal", "parts"): (0, 1, 2, 3, 4, 5, 6),
    # Sleeves stay with the torso, trousers and skirts with the upper leg: what these label sets
    # call an arm or a leg is bare skin.
    ("lip", "parts"): (0, 1, 1, 4, 1, 2, 2, 2, 7, 5, 2, 2, 5, 1, 4, 4, 6, 6, 7, 7),
    ("lip", "garments"): (0, 1, 2, 5, 6, 3, 3, 3, 7, 4, 3, 3, 4, 6, 5, 5, 5, 5, 7, 7),
    # A bag is no garment and no part of the body.
    ("atr", "parts"): (0, 1, 1, 1, 2, 5, 5, 2, 5, 7, 7, 1, 6, 6, 4, 4, 0, 2),
    ("atr", "garments"): (0, 1, 2, 6, 3, 4, 4, 3, 4, 7, 7, 6, 5, 5, 5, 5, 0, 3),
}
"""Class of the second label set for each class of the first."""

GRANULARITIES: Mapping[str, tuple[int, ...]] = {
    "foreground": (0, 1, 1, 1, 1, 1, 1, 1),
    "two": (0, 1, 1, 1, 1, 2, 2, 2),
    "four": (0, 1, 2, 2, 2, 3, 4, 4),
    "seven": (0, 1, 2, 3, 4, 5, 6, 7),
}
"""Class of each of the eight ``parts`` at coarser granularities: the body, its upper and lower
half, head, trunk with arms, upper legs and lower legs with feet, and all parts (Huang et al. 2020,
section IV-F)."""

GRANULARITY_CLASSES: Mapping[str, tuple[str, ...]] = {
    "foreground": ("background", "body"),
    "two": ("background", "upper body", "lower body"),
    "four": ("background", "head", "torso and arms", "upper leg", "lower leg and foot"),
    "seven": SHARED_FIELDS["parts"].classes,
}
"""Class names of each granularity."""


def label_set(name: str) -> LabelSet:
    """Return a label set by name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in LABEL_SETS:
        raise ConfigError(
            f"there is no label set '{name}'{did_you_mean(name, LABEL_SETS)} "
            f"(there are: {', '.join(LABEL_SETS)})"
        )
    return LABEL_SETS[name]


def lookup_table(source: str, target: str) -> tuple[int, ...]:
    """Return the class of ``target`` for every class of ``source``.

    Args:
        source: name of a label set.
        target: ``parts`` or ``garments``.

    Raises:
        ConfigError: there is no such label set, or it does not tell apart what the target does.
    """
    label_set(source)
    if (source, target) not in TABLES:
        possible = ", ".join(to for of, to in TABLES if of == source)
        raise ConfigError(
            f"labels of '{source}' say nothing about '{target}': they can become {possible}"
        )
    return TABLES[source, target]


def fields_of(source: str) -> tuple[str, ...]:
    """Return the fields that labels of a label set can become."""
    label_set(source)
    return tuple(target for of, target in TABLES if of == source)


def look_up(labels: NDArray[np.uint8], table: tuple[int, ...], where: object) -> NDArray[np.uint8]:
    """Replace every class of a label map by the table's, all at once.

    Args:
        labels: uint8 of any shape.
        table: the new class of each class.
        where: file or field, for the message.

    Raises:
        DataError: a label outside the table.
    """
    if labels.size and int(labels.max()) >= len(table):
        raise DataError(
            f"{where}: label {labels.max()} in a label set of {len(table)} classes "
            f"(0 to {len(table) - 1})"
        )
    found: NDArray[np.uint8] = np.asarray(table, np.uint8)[labels]
    return found


def coarser_parts(parts: Tensor, granularity: str) -> Tensor:
    """Return ``parts`` at a coarser granularity.

    Args:
        parts: integers of any shape, classes of the field ``parts``.
        granularity: a key of `GRANULARITIES`.

    Returns:
        int64 of the same shape.
    """
    coarse = torch.zeros_like(parts, dtype=torch.int64)
    # No table on the device: its copy from the host would wait for it in every step.
    for part, value in enumerate(GRANULARITIES[granularity]):
        coarse += value * (parts == part)
    return coarse


def mirrored_logits(logits: Tensor, labels: LabelSet) -> Tensor:
    """Return the logits of the mirror image: columns reversed, left and right classes swapped.

    Args:
        logits: ``B K H W`` over the classes of the label set.
        labels: the label set.
    """
    order = torch.tensor(labels.mirrored, device=logits.device)
    return logits.flip(3).index_select(1, order)
