"""What a tracker is told of which event."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from track_events import FACTS, draw, first_part, leave_embedder, second_part

from reid_core import ConfigError, Evaluated, Event, RunBegan, RunConfig
from reid_core.loop.trainer import Trainer
from reid_core.plugins.calls import HookCalls
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly
from reid_track.following import Follower
from reid_track.plugin import Mlflow, Trackio, Wandb
from reid_track.trackers import flat


class Observer(Wandb):
    """A plugin of these whose tracker needs no package."""

    package = "json"


class MlflowObserver(Mlflow):
    """Likewise; a class of its own name, for other processes look it up by that."""

    package = "json"


class TrackioObserver(Trackio):
    """Likewise."""

    package = "json"


# No check of the suite opens a tracker, whose package need not be there.
test_conforms = conformance_suite("wandb", classes={"wandb": Observer})
test_mlflow_conforms = conformance_suite("mlflow", classes={"mlflow": MlflowObserver})
test_trackio_conforms = conformance_suite("trackio", classes={"trackio": TrackioObserver})


class Notebook:
    """A tracker that writes everything down."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def begin(self, title: str, config: Mapping[str, Any], facts: Any, known: Any) -> Any:
        self.lines.append(("begin", title, config["engine"]["log_every"], facts, dict(known)))
        return dict(known) or {"id": "seven"}

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        self.lines.append(("log", iteration, dict(numbers)))

    def picture(self, name: str, path: Path, iteration: int) -> None:
        self.lines.append(("picture", iteration, name, path.name))

    def note(self, values: Mapping[str, Any]) -> None:
        self.lines.append(("note", dict(values)))

    def model(self, files: Mapping[str, Path]) -> None:
        self.lines.append(("model", sorted(files)))

    def end(self, outcome: str) -> None:
        self.lines.append(("end", outcome))


def follow(events: list[Event], **choices: Any) -> list[tuple[Any, ...]]:
    notebook = Notebook()
    follower = Follower(notebook, "notebook", **choices)
    for event in events:
        follower(event)
    return notebook.lines


def test_every_event_is_told_with_its_iteration(tmp_path: Path) -> None:
    before = {"standard+rerank/mAP": 0.125, "standard+rerank/rank1": 0.5}
    assert follow(first_part(tmp_path)) == [
        ("begin", tmp_path.name, 2, FACTS, {}),
        ("log", 0, {f"evaluation/{name}": value for name, value in before.items()}),
        ("note", {f"untrained/{name}": value for name, value in before.items()}),
        ("log", 1, {"loss/main": 4.0, "lr/main": 0.5, "epoch": 0}),
        ("log", 2, {"loss/main": 1.0, "lr/main": 0.25, "epoch": 0}),
        ("log", 2, {"epoch_mean/loss/main": 3.0}),  # two steps of 4 and one of 1
        ("note", {"run/outcome": "interrupted", "run/seconds": 2.0}),
        ("end", "interrupted"),
    ]


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    follow(first_part(tmp_path))
    lines = follow(second_part(tmp_path))
    assert lines[0] == ("begin", tmp_path.name, 2, FACTS, {"id": "seven"})
    assert ("log", 4, {"epoch_mean/loss/main": 0.75}) in lines
    after = {"standard+rerank/mAP": 0.375, "standard+rerank/rank1": 0.5}
    assert ("log", 2, {f"evaluation/{name}": value for name, value in after.items()}) in lines
    assert ("note", {f"final/{name}": value for name, value in after.items()}) in lines


def test_what_a_killed_run_does_again_is_told_once(tmp_path: Path) -> None:
    first = [line for line in follow(first_part(tmp_path)[:-1]) if line[0] == "log"]
    assert [line[1] for line in first] == [0, 1, 2, 2]
    # Resumed from the checkpoint before its third step, the last one of the epoch.
    again = [line for line in follow(first_part(tmp_path)) if line[0] == "log"]
    assert again == []


def test_held_out_people_are_a_group_of_their_own(tmp_path: Path) -> None:
    events = [
        first_part(tmp_path)[0],
        Evaluated("validation", 0, 2, {"s": {"metrics": {"mAP": 1}}}),
    ]
    assert follow(events)[1:] == [("log", 2, {"validation/s/mAP": 1.0})]


def test_a_picture_is_sent_once_and_again_when_it_is_drawn_anew(tmp_path: Path) -> None:
    began, _, step, _, epoch, end = first_part(tmp_path)
    draw(tmp_path / "parsing" / "parts.png", 1)  # by a labeler, before the run begins
    draw(tmp_path / "track" / "wandb" / "own.png", 1)
    notebook = Notebook()
    follower = Follower(notebook, "notebook")
    follower(began)
    draw(tmp_path / "ranked_lists.png", 1)
    follower(step)
    follower(epoch)
    follower(epoch)
    draw(tmp_path / "ranked_lists.png", 2)
    draw(tmp_path / "san" / "textures.jpg", 2)
    follower(end)
    assert [line for line in notebook.lines if line[0] == "picture"] == [
        ("picture", 1, "pictures/parsing/parts", "parts.png"),
        ("picture", 1, "pictures/ranked_lists", "ranked_lists.png"),
        ("picture", 1, "pictures/ranked_lists", "ranked_lists.png"),
        ("picture", 1, "pictures/san/textures", "textures.jpg"),
    ]
    # Resumed, it sends what was drawn since, whoever drew it, and nothing twice.
    draw(tmp_path / "dgnet" / "swaps.png", 1)
    again = [line for line in follow(first_part(tmp_path)) if line[0] == "picture"]
    assert again == [("picture", 0, "pictures/dgnet/swaps", "swaps.png")]
    (tmp_path / "ranked_lists.png").unlink()
    draw(tmp_path / "ranked_lists.png", 3)
    assert "picture" not in {line[0] for line in follow(first_part(tmp_path), pictures=False)}


@pytest.mark.parametrize("choice", ["none", "path", "files"])
def test_the_embedder_goes_where_it_was_asked_to(choice: str, tmp_path: Path) -> None:
    leave_embedder(tmp_path)
    assert {line[0] for line in follow(first_part(tmp_path), embedder=choice)} == {
        *("begin", "log", "note", "end")  # an interrupted run has no final embedder
    }
    lines = follow(second_part(tmp_path), embedder=choice)[-2:]
    assert lines[-1] == ("end", "finished")
    expected = {
        "none": ("note", {"run/outcome": "finished", "run/seconds": 1.0}),
        "path": ("note", {"run/embedder": str(tmp_path / "embedder.safetensors")}),
        "files": ("model", ["embedder.json", "embedder.safetensors"]),
    }
    assert lines[0] == expected[choice]


@pytest.mark.parametrize("plugin", [Wandb, Mlflow, Trackio])
def test_a_missing_package_is_one_line(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_track.plugin.find_spec", lambda name: None)
    name = plugin.package
    with pytest.raises(ConfigError) as error:
        plugin(name).check(RunConfig())
    assert str(error.value) == (
        f"plugin '{name}' needs {name}, which is not installed: pip install 'reid-track[{name}]'"
    )


def test_a_folder_that_a_tracker_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left_by_a_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Wandb, "package", "left_by_a_tracker")
    with pytest.raises(ConfigError, match="is not installed"):
        Wandb("wandb").check(RunConfig())


def test_a_tracker_that_fails_is_dropped_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Notebook):
        def log(self, numbers: Mapping[str, float], iteration: int) -> None:
            raise ConnectionError("no route to host")

    monkeypatch.setattr(Wandb, "tracker", lambda self, folder: Broken())
    calls, lines = HookCalls({"wandb": Wandb("wandb")}), []
    for event in first_part(tmp_path):
        calls.observe(event, lines.append)
    assert lines == [
        "observer 'wandb' failed at Evaluated and is dropped: ConnectionError: no route to host"
    ]


def test_other_ranks_tell_nothing(
    reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook()

    monkeypatch.setattr(Observer, "tracker", lambda self, folder: notebook)
    assembly = tiny_assembly(["wandb"], cache=reid_cache, classes={"wandb": Observer})
    for rank in (1, 0):
        assembly.ctx.rank = rank
        Trainer(assembly).emit(RunBegan(assembly.config, tmp_path / str(rank), {}))
    assert [line[:2] for line in notebook.lines] == [("begin", "0")]
    assert not (tmp_path / "1").exists()


def test_nested_settings_get_dotted_names() -> None:
    nested = {"data": {"size": [2, 1], "more": {}}, "seed": 1}
    assert flat(nested) == {"data.size": [2, 1], "data.more": {}, "seed": 1}
