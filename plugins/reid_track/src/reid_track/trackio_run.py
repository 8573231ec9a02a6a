"""A run in Trackio."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_track.trackers import Identity, flat


class TrackioRun:
    """A run in Trackio: on this machine, or in a Space of the Hugging Face Hub.

    Args:
        project, name: as Trackio calls them; an empty name is the run's title.
        space: the Space, ``owner/name``; empty for this machine, or what ``TRACKIO_SPACE_ID`` says.
        private: whether a Space that is made now is private.
    """

    def __init__(self, project: str, name: str, space: str, private: bool) -> None:
        self._project, self._name = project, name
        self._space, self._private = space or None, private
        self._run: Any = None
        self._iteration = 0

    def begin(
        self, title: str, config: Mapping[str, Any], facts: Mapping[str, Any], known: Identity
    ) -> Identity:
        """Open the run, or go on with it; Trackio finds it by its name, so that is a name of ours.

        What the user named may name several runs; a few letters keep them apart.
        """
        import trackio

        fresh = f"{self._name or title}-{uuid.uuid4().hex[:6]}"
        identity = dict(known) or {"name": fresh, "project": self._project}
        self._run = trackio.init(
            project=identity["project"],
            name=identity["name"],
            space_id=self._space,
            private=self._private,
            config=flat({**config, "facts": facts}),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        return identity

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        """Add points to curves."""
        self._iteration = max(self._iteration, iteration)
        self._run.log(dict(numbers), step=iteration)

    def picture(self, name: str, path: Path, iteration: int) -> None:
        """Add a picture to those of the same name."""
        import trackio

        self._run.log({name: trackio.Image(str(path))}, step=iteration)

    def note(self, values: Mapping[str, float | str]) -> None:
        """Log at the last iteration: Trackio has no values of a run as a whole."""
        self._run.log(dict(values), step=self._iteration)

    def model(self, files: Mapping[str, Path]) -> None:
        """Upload the embedder as an artifact of the type ``model``."""
        import trackio

        artifact = trackio.Artifact(name=f"embedder-{self._run.name}", type="model")
        for path in files.values():
            artifact.add_file(path)
        self._run.log_artifact(artifact)

    def end(self, outcome: str) -> None:
        """Send the rest; how the run ended is noted before."""
        import trackio

        trackio.finish()
