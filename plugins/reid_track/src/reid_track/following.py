"""Tell a tracker what the loop's events say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from reid_core import (
    PICTURE_SUFFIXES,
    EpochEnded,
    Evaluated,
    Event,
    RunBegan,
    RunEnded,
    StepEnded,
    whole_file,
    write_json,
)
from reid_core.weights import EMBEDDER
from reid_track.trackers import Identity, Tracker

FOLDER = "track"
"""Folder within the run's in which trackers keep what is theirs."""

PICTURES = "pictures"
"""What pictures are filed under."""

LOSSES = ("loss/", "total/")
"""Of what the mean over an epoch tells something."""


class Follower:
    """Translate the events of one run for one tracker.

    Args:
        tracker: what is told.
        plugin: the tracker's plugin, after which the file of its identity is named.
        pictures: whether pictures in the run's folder are sent as they are drawn.
        embedder: whether the final embedder's place is noted (``path``) or its files are sent
            (``files``).
    """

    def __init__(
        self,
        tracker: Tracker,
        plugin: str,
        *,
        pictures: bool = True,
        embedder: Literal["none", "path", "files"] = "none",
    ) -> None:
        self._tracker = tracker
        self._plugin = plugin
        self._pictures = pictures
        self._embedder = embedder
        self._folder = Path()
        self._drawn: dict[str, tuple[int, int]] = {}
        self._told: dict[str, int] = {}
        self._reported: int | None = None
        self._reports_every = 1
        self._epoch = _Mean()

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        match event:
            case RunBegan():
                self._begin(event)
            case StepEnded(epoch, iteration, scalars):
                losses = {n: v for n, v in scalars.items() if n.startswith(LOSSES)}
                self._epoch.add(losses, self._steps_until(iteration))
                self._log("step", {**scalars, "epoch": epoch}, iteration)
            case EpochEnded(_, iteration):
                self._log("epoch", _grouped("epoch_mean", self._epoch.take()), iteration)
                self._send_pictures()
            case Evaluated():
                self._evaluated(event)
                self._send_pictures()
            case RunEnded():
                self._end(event)

    def _begin(self, event: RunBegan) -> None:
        self._folder = event.folder
        place = event.folder / FOLDER / f"{self._plugin}.json"
        known: Identity = json.loads(place.read_text("utf-8")) if place.is_file() else {}
        told = self._told_file
        content = json.loads(told.read_text("utf-8")) if told.is_file() else {}
        # What an earlier part of the run sent already, and no other: what labelers have drawn
        # before a run begins is there as well.
        sent: Mapping[str, Sequence[int]] = content.pop(PICTURES, {})
        self._drawn = {name: (state[0], state[1]) for name, state in sent.items()}
        self._told = content
        self._reports_every = event.config.engine.log_every
        self._reported = None if known else -1
        found = self._tracker.begin(
            event.folder.resolve().name, event.config.model_dump(mode="json"), event.facts, known
        )
        write_json(place, dict(found))

    def _evaluated(self, event: Evaluated) -> None:
        numbers = {
            f"{protocol}/{name}": float(value)
            for protocol, result in event.results.items()
            for name, value in result["metrics"].items()
        }
        # Held-out people and the test are never one curve, though a protocol may be one.
        group = "validation" if event.when == "validation" else "evaluation"
        self._log(event.when, _grouped(group, numbers), event.iteration)
        if event.when in ("untrained", "final"):
            self._tracker.note(_grouped(event.when, numbers))

    def _end(self, event: RunEnded) -> None:
        self._send_pictures()
        self._tracker.note({"run/outcome": event.outcome} | _grouped("run", dict(event.facts)))
        weights = event.folder.resolve() / EMBEDDER
        if event.outcome == "finished" and weights.is_file():
            if self._embedder == "path":
                self._tracker.note({"run/embedder": str(weights)})
            elif self._embedder == "files":
                files = (weights, weights.with_suffix(".json"))
                self._tracker.model({file.name: file for file in files})
        self._tracker.end(event.outcome)

    def _steps_until(self, iteration: int) -> int:
        """Return for how many steps a report stands; where the one before is unknown, the usual."""
        before, self._reported = self._reported, iteration
        return self._reports_every if before is None else iteration - before

    def _log(self, kind: str, numbers: Mapping[str, float], iteration: int) -> None:
        """Tell numbers; not those that an earlier part of the run told, which does them again."""
        if not numbers or iteration <= self._told.get(kind, -2):
            return
        self._tracker.log(numbers, max(iteration, 0))
        self._told[kind] = iteration
        self._keep_told()

    def _keep_told(self) -> None:
        with whole_file(self._told_file, durable=False) as part:
            part.write_text(json.dumps({**self._told, PICTURES: self._drawn}), "utf-8")

    @property
    def _told_file(self) -> Path:
        """What says up to which step each kind of numbers was told, and which pictures."""
        return self._folder / FOLDER / f"{self._plugin}.told.json"

    def _send_pictures(self) -> None:
        if not self._pictures:
            return
        for path, state in self._found_pictures():
            name = path.relative_to(self._folder)
            if self._drawn.get(name.as_posix()) != state:
                title = f"{PICTURES}/{name.with_suffix('').as_posix()}"
                self._tracker.picture(title, path, max(self._reported or 0, 0))
                self._drawn[name.as_posix()] = state
                self._keep_told()

    def _found_pictures(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Return the pictures in the run's folder with what shows that one was drawn anew."""
        own = self._folder / FOLDER
        for path in sorted(self._folder.rglob("*")):
            if path.suffix.lower() in PICTURE_SUFFIXES and own not in path.parents:
                state = path.stat()
                yield path, (state.st_mtime_ns, state.st_size)


class _Mean:
    """Means over an epoch, of values that are means over some of its steps."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, scalars: Mapping[str, float], steps: int) -> None:
        """Add means over ``steps`` steps."""
        for name, value in scalars.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value * steps, count + steps)

    def take(self) -> dict[str, float]:
        """Return the means and begin anew."""
        found = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return found


def _grouped(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{group}/{name}": value for name, value in values.items()}
