"""A run in Weights & Biases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_track.trackers import Identity

AXIS = "iteration"
"""What curves are drawn over. W&B's own step only grows, and a resumed run may step back."""


class WandbRun:
    """A run in Weights & Biases.

    Args:
        folder: where W&B keeps its files until they are sent.
        project, name, entity: as W&B calls them; an empty name is the run's title, an empty entity
            the account's default.
        mode: ``online``, ``offline``, or empty for what ``WANDB_MODE`` says.
    """

    def __init__(self, folder: Path, project: str, name: str, entity: str, mode: str) -> None:
        self._folder, self._project, self._name = folder, project, name
        self._entity = entity or None
        self._mode: Any = mode or None
        self._run: Any = None

    def begin(
        self, title: str, config: Mapping[str, Any], facts: Mapping[str, Any], known: Identity
    ) -> Identity:
        """Open the run under an identity of ours, or go on with it."""
        import wandb

        identity = dict(known) or {"id": uuid.uuid4().hex[:12], "project": self._project}
        self._run = wandb.init(
            project=identity["project"],
            id=identity["id"],
            entity=self._entity,
            name=self._name or title,
            dir=self._folder,
            config={**config, "facts": dict(facts)},
            allow_val_change=True,  # a resumed run may run on another machine
            resume="allow",
            mode=self._mode,
            reinit="create_new",  # a sweep, or a notebook, has several runs in one process
            settings=wandb.Settings(console="off"),  # bars rewrite their line
        )
        self._run.define_metric("*", step_metric=AXIS)
        return identity

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        """Add points to curves."""
        self._run.log({**numbers, AXIS: iteration})

    def picture(self, name: str, path: Path, iteration: int) -> None:
        """Add a picture to those of the same name."""
        import wandb

        self._run.log({name: wandb.Image(str(path)), AXIS: iteration})

    def note(self, values: Mapping[str, float | str]) -> None:
        """Write to the run's summary."""
        self._run.summary.update(dict(values))

    def model(self, files: Mapping[str, Path]) -> None:
        """Upload the embedder as an artifact of the type ``model``."""
        import wandb

        artifact = wandb.Artifact(f"embedder-{self._run.id}", type="model")
        for name, path in files.items():
            artifact.add_file(str(path), name=name)
        self._run.log_artifact(artifact)

    def end(self, outcome: str) -> None:
        """Send the rest; W&B shows anything but ``finished`` as failed."""
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
