"""Who is where: every kind of use has people of its own, in all variants, sizes and sources.

A person is a number under a world's seed. What is trained on, searched for, stands in a gallery as
a distractor, or is kept for pre-training comes from ranges of numbers that never meet, so that
whoever learns from any set has seen nobody of any test set of the same seed. Outfits follow: the
templates that people of one range share are worn in no other.
"""

from __future__ import annotations

from enum import IntEnum

_SHIFT = 20
"""Every range has room for a million people."""


class Range(IntEnum):
    """What a range of numbers is for."""

    TRAINING = 0
    TEST = 1
    DISTRACTORS = 2
    BYSTANDERS = 3
    PRETRAINING = 4

    def number(self, index: int) -> int:
        """Return the number of the range's person `index`, from 0."""
        return (int(self) << _SHIFT) + index


def range_of(person: int) -> Range:
    """Return the range in which a person's number lies.

    Raises:
        ValueError: no range has it.
    """
    return Range(person >> _SHIFT)


def name_of(seed: int, person: int) -> str:
    """Name a person so that the name is the same in all sets: world seed and number."""
    return f"synthpeople/{seed}/{person}"
