"""Errors that a user can act on: one line that says what happened, where, and what to do next.

Every error that reaches a user on purpose derives from [ReidError][reid_core.errors.ReidError]; the
command line prints its text as one line and exits with 2. Anything else is a defect and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReidError(Exception):
    """Base of all errors that a user can act on.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code = 2


class ConfigError(ReidError):
    """The configuration is wrong: an unknown key, a value out of range, settings that clash."""


class PluginError(ReidError):
    """A plugin is missing, broken, or breaks the contract."""


class ConflictError(PluginError):
    """Two plugins want what only one can have; the message names both and a remedy."""


class DataError(ReidError):
    """A data set, a sample, a label or an image is missing, corrupt or unusable."""


class CheckpointError(ReidError):
    """A checkpoint or an exported embedder cannot be used here."""


class DeviceError(ReidError):
    """The device that was asked for is not available."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
