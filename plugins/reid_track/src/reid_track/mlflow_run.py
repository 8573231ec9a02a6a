"""A run in MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from reid_track.trackers import Identity, flat

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
AT_ONCE = 100
"""Parameters that MLflow takes in one call."""

LONGEST = 6000
"""Characters of a parameter's value that MLflow takes."""


class MlflowRun:
    """A run in MLflow, through its client alone: whatever run is active stays as it is.

    Args:
        experiment, name: as MLflow calls them; an empty name is the run's title.
        tracking_uri: a server, a database or a folder; empty for what MLflow itself takes, which
            is ``MLFLOW_TRACKING_URI`` where that is set.
    """

    def __init__(self, experiment: str, name: str, tracking_uri: str) -> None:
        self._experiment, self._name = experiment, name
        self._uri = tracking_uri or None
        self._client: Any = None
        self._id = ""

    def begin(
        self, title: str, config: Mapping[str, Any], facts: Mapping[str, Any], known: Identity
    ) -> Identity:
        """Open the run with its settings as parameters, or set it running again."""
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        self._client = MlflowClient(tracking_uri=self._uri)
        if known:
            self._id = known["id"]
            self._client.update_run(self._id, status="RUNNING")
            return known
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = (
            found.experiment_id if found else self._client.create_experiment(self._experiment)
        )
        self._id = self._client.create_run(experiment, run_name=self._name or title).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in flat(config).items()]
        for first in range(0, len(params), AT_ONCE):
            self._client.log_batch(self._id, params=params[first : first + AT_ONCE])
        tags = [RunTag(_allowed(f"facts/{key}"), str(v)) for key, v in flat(facts).items()]
        for first in range(0, len(tags), AT_ONCE):
            self._client.log_batch(self._id, tags=tags[first : first + AT_ONCE])
        return {"id": self._id}

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        """Add points to curves."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_allowed(key), value, now, iteration) for key, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def picture(self, name: str, path: Path, iteration: int) -> None:
        """Add a picture to those of the same name."""
        with Image.open(path) as image:
            self._client.log_image(
                self._id, image.convert("RGB"), key=_allowed(name), step=iteration, synchronous=True
            )

    def note(self, values: Mapping[str, float | str]) -> None:
        """Write texts as tags, numbers as metrics of a single point."""
        self.log({key: v for key, v in values.items() if not isinstance(v, str)}, 0)
        for key, value in values.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, _allowed(key), value)

    def model(self, files: Mapping[str, Path]) -> None:
        """Upload the embedder as artifacts in the folder ``embedder``."""
        for path in files.values():
            self._client.log_artifact(self._id, str(path), "embedder")

    def end(self, outcome: str) -> None:
        """Set the run's status: ``FINISHED``, ``KILLED`` or ``FAILED``."""
        self._client.set_terminated(self._id, STATUS[outcome])


def _allowed(name: str) -> str:
    """Return a name of letters that MLflow takes in names."""
    return re.sub(r"[^\w\-./ :]", "_", name)
