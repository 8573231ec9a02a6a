"""W&B, offline: what lies in the file that `wandb sync` would send."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from track_events import draw, first_part, leave_embedder, second_part, told

from reid_track.plugin import Wandb, WandbSettings

pytestmark = [
    pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed"),
    pytest.mark.filterwarnings("ignore"),  # what it says of its own dependencies
]


def test_a_run_is_in_the_file_that_is_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    settings = WandbSettings(mode="offline", project="changing", embedder="files")
    folder = tmp_path / "demo"
    told(Wandb("wandb", settings), first_part(folder))
    wandb.teardown()  # the file is whole when W&B's own process has ended
    identity = json.loads((folder / "track" / "wandb.json").read_text())
    (first,) = (folder / "track" / "wandb").glob(f"offline-run-*-{identity['id']}")
    stored = (first / f"run-{identity['id']}.wandb").read_bytes()
    for expected in (b"changing", b"demo", b"log_every", b"loss/main", b"epoch_mean/loss/main"):
        assert expected in stored
    assert b"final/standard+rerank/mAP" not in stored

    leave_embedder(folder)
    plugin = Wandb("wandb", settings)
    began, *rest = second_part(folder)
    told(plugin, [began])
    draw(folder / "ranked_lists.png", 6)
    told(plugin, rest)
    wandb.teardown()
    assert json.loads((folder / "track" / "wandb.json").read_text()) == identity
    runs = sorted((folder / "track" / "wandb").glob(f"offline-run-*-{identity['id']}"))
    stored = (runs[-1] / f"run-{identity['id']}.wandb").read_bytes()
    for expected in (b"final/standard+rerank/mAP", b"embedder.safetensors", b"run/outcome"):
        assert expected in stored
    assert list(runs[-1].rglob("ranked_lists*.png"))
