"""Errors that a user can act on: one line that says what happened, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RetrievalError(Exception):
    """Base of all errors that a user can act on."""


class ConfigError(RetrievalError, ValueError):
    """A setting is unknown or out of range, or settings clash."""


class DataError(RetrievalError, ValueError):
    """Features, labels or distances are missing, do not fit each other, or are unusable."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
