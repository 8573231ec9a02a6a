"""The plugins: one observer per tracker."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from reid_core import ConfigError, Plugin, RunBegan, Settings, hookimpl
from reid_track.following import FOLDER, Follower
from reid_track.mlflow_run import MlflowRun
from reid_track.trackio_run import TrackioRun
from reid_track.wandb_run import WandbRun

if TYPE_CHECKING:
    from reid_core import Event, RunConfig
    from reid_track.trackers import Tracker


class TrackSettings(Settings):
    """What all trackers share."""

    project: str = Field("reid", min_length=1)
    """Project to which the run belongs."""
    name: str = ""
    """Name of the run; empty takes the name of its folder."""
    pictures: bool = True
    """Whether pictures that are drawn into the run's folder are sent. They show people."""
    embedder: Literal["none", "path", "files"] = "none"
    """Whether to state where the final embedder lies, or to upload its files."""


class WandbSettings(TrackSettings):
    """Settings: the run's section ``[plugins.wandb]``."""

    entity: str = ""
    """Account or team; empty takes the account's default."""
    mode: Literal["", "online", "offline"] = ""
    """Empty does what ``WANDB_MODE`` says."""


class MlflowSettings(TrackSettings):
    """Settings: the run's section ``[plugins.mlflow]``."""

    tracking_uri: str = ""
    """Server, database or folder; empty does what ``MLFLOW_TRACKING_URI`` says."""


class TrackioSettings(TrackSettings):
    """Settings: the run's section ``[plugins.trackio]``."""

    space: str = ""
    """Space of the Hugging Face Hub, ``owner/name``; empty stays on this machine."""
    private: bool = True
    """Whether a Space that is made for it is private."""


class Followed(Plugin):
    """Follow a run with a tracker. Nothing of the run depends on it.

    Attributes:
        package: what the tracker is imported as, and the extra that installs it.
    """

    package: ClassVar[str]
    _follower: Follower | None = None

    def check(self, config: RunConfig) -> None:
        """Refuse a tracker that is not installed."""
        spec = find_spec(self.package)
        # A folder that a tracker left in the working directory is no package.
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"plugin '{self.name}' needs {self.package}, which is not installed: "
                f"pip install 'reid-track[{self.package}]'"
            )

    @hookimpl
    def reid_observe(self, event: Event) -> None:
        """Tell the tracker."""
        if isinstance(event, RunBegan):
            place = event.folder / FOLDER
            place.mkdir(parents=True, exist_ok=True)
            self._follower = Follower(
                self.tracker(place),
                self.name,
                pictures=self.settings.pictures,
                embedder=self.settings.embedder,
            )
        if self._follower is not None:
            self._follower(event)

    def tracker(self, folder: Path) -> Tracker:
        """Return the tracker, which may keep files in ``folder``."""
        raise NotImplementedError


class Wandb(Followed):
    """Follow a run with Weights & Biases."""

    Settings = WandbSettings
    package = "wandb"

    def tracker(self, folder: Path) -> Tracker:
        """Return a run in Weights & Biases."""
        own = self.settings
        return WandbRun(folder, own.project, own.name, own.entity, own.mode)


class Mlflow(Followed):
    """Follow a run with MLflow."""

    Settings = MlflowSettings
    package = "mlflow"

    def tracker(self, folder: Path) -> Tracker:
        """Return a run in MLflow."""
        own = self.settings
        return MlflowRun(own.project, own.name, own.tracking_uri)


class Trackio(Followed):
    """Follow a run with Trackio."""

    Settings = TrackioSettings
    package = "trackio"

    def tracker(self, folder: Path) -> Tracker:
        """Return a run in Trackio."""
        own = self.settings
        return TrackioRun(own.project, own.name, own.space, own.private)
