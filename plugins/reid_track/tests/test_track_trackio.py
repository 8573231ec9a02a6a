"""Trackio, on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from track_events import draw, first_part, leave_embedder, second_part, told

from reid_track.plugin import Trackio, TrackioSettings

pytestmark = [
    pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed"),
    pytest.mark.filterwarnings("ignore"),  # what it says of its own dependencies
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return Trackio's folder, which it asks for once, when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trackio")
        patch.setenv("TRACKIO_DIR", str(folder))
        yield folder


def test_a_run_is_read_back_as_it_was_told(store: Path, tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    settings = TrackioSettings(project="changing", embedder="files")
    folder = tmp_path / "demo"
    told(Trackio("trackio", settings), first_part(folder))
    identity = json.loads((folder / "track" / "trackio.json").read_text())
    assert identity["name"].startswith("demo-")

    leave_embedder(folder)
    plugin = Trackio("trackio", settings)
    began, *rest = second_part(folder)
    told(plugin, [began])
    draw(folder / "ranked_lists.png", 6)
    told(plugin, rest)
    assert SQLiteStorage.get_runs("changing") == [identity["name"]]
    logs = SQLiteStorage.get_logs("changing", identity["name"])
    losses = [(log["step"], log["loss/main"]) for log in logs if "loss/main" in log]
    assert losses == [(1, 4.0), (2, 1.0), (4, 0.75)]
    noted = {name: log[name] for log in logs for name in log if name.startswith(("run/", "final/"))}
    assert noted["final/standard+rerank/mAP"] == 0.375
    assert noted["run/outcome"] == "finished"
    assert SQLiteStorage.get_run_config("changing", identity["name"])["engine.log_every"] == 2
    (artifact,) = SQLiteStorage.get_artifacts("changing")
    assert artifact["name"] == f"embedder-{identity['name']}"
    assert list(store.rglob("*.png"))
