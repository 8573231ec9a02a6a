"""A hash of parameters that is the same on every machine.

Numbers are rounded to a millionth, far above what libraries of mathematical functions differ by
between processors and far below what a picture shows.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

import numpy as np

_DIGITS = 1e6

LATER = {"later": True}
"""Metadata of a field that came after sets had been made: it counts where it is not its default, so
that their hashes stay."""


class Fingerprint:
    """Hash numbers, strings, arrays, and sequences and dataclasses of them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, value: object) -> None:
        """Take a value into the hash.

        Raises:
            TypeError: it is of a type that has no defined text.
        """
        self._hash.update(_text(value).encode() + b"\n")

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits."""
        return self._hash.hexdigest()[:16]


def _text(value: object) -> str:
    if value is None or isinstance(value, bool | int | str | np.integer):
        return str(value)
    if isinstance(value, float | np.floating):
        return f"{round(float(value) * _DIGITS)}e-6"
    if isinstance(value, np.ndarray):
        return _text(value.tolist())
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if is_dataclass(value) and not isinstance(value, type):
        known = [(field, getattr(value, field.name)) for field in fields(value)]
        return _text(
            [own for field, own in known if not (field.metadata == LATER and own == field.default)]
        )
    raise TypeError(f"no fingerprint of a {type(value).__name__}")
