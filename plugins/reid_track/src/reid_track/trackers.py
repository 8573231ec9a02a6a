"""What a tracker must be able to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

Identity = Mapping[str, str]
"""By what a tracker finds a run again: stored in the run's folder, JSON."""


class Tracker(Protocol):
    """One run, as a tracker sees it. Any method may raise: the core then drops the observer."""

    def begin(
        self, title: str, config: Mapping[str, Any], facts: Mapping[str, Any], known: Identity
    ) -> Identity:
        """Open the run, or go on with it.

        Args:
            title: what to call it, where the settings do not say.
            config: the resolved configuration, nested, plain data.
            facts: what the run consists of, nested, plain data.
            known: what this method returned when the run began; empty for a new one.

        Returns:
            By what to find the run again.
        """

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        """Add points to curves.

        Args:
            numbers: by name, with ``/`` between groups.
            iteration: 0-based step of the run; it may lie before that of an earlier call.
        """

    def picture(self, name: str, path: Path, iteration: int) -> None:
        """Add a picture to those of the same name."""

    def note(self, values: Mapping[str, float | str]) -> None:
        """State what holds for the run as a whole."""

    def model(self, files: Mapping[str, Path]) -> None:
        """Upload the files of the trained embedder, by name."""

    def end(self, outcome: str) -> None:
        """Close the run, all of it sent: ``finished``, ``interrupted`` or ``failed``."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys; what is empty stays as it is."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
