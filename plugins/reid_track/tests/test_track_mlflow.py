"""MLflow, with a folder as its store."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from track_events import draw, first_part, leave_embedder, second_part, told

from reid_track.plugin import Mlflow, MlflowSettings

pytestmark = [
    pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed"),
    pytest.mark.filterwarnings("ignore"),  # what it says of its own dependencies
]


def test_a_run_is_read_back_as_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path / 'store'}"
    settings = MlflowSettings(tracking_uri=uri, project="cloth changing", embedder="files")
    folder = tmp_path / "demo"
    told(Mlflow("mlflow", settings), first_part(folder))
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = (e for e in client.search_experiments() if e.name == "cloth changing")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("demo", "KILLED")
    assert run.data.params["engine.log_every"] == "2"
    assert run.data.tags["facts/sources.main.images"] == "8"

    draw(folder / "ranked_lists.png", 5)
    leave_embedder(folder)
    plugin = Mlflow("mlflow", settings)
    began, *rest = second_part(folder)
    told(plugin, [began])
    draw(folder / "ranked_lists.png", 6)
    told(plugin, rest)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["run/outcome"] == "finished"
    assert run.data.metrics["final/standard_rerank/mAP"] == 0.375
    assert run.data.metrics["run/seconds"] == 1.0
    losses = client.get_metric_history(run.info.run_id, "loss/main")
    assert [(point.step, point.value) for point in losses] == [(1, 4.0), (2, 1.0), (4, 0.75)]
    means = client.get_metric_history(run.info.run_id, "epoch_mean/loss/main")
    assert [(point.step, point.value) for point in means] == [(2, 3.0), (4, 0.75)]
    files = {file.path for file in client.list_artifacts(run.info.run_id, "embedder")}
    assert files == {"embedder/embedder.json", "embedder/embedder.safetensors"}
    assert len(client.list_artifacts(run.info.run_id, "images")) >= 1
