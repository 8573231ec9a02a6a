"""One short run as its events, told to a plugin as the core tells it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from reid_core import EpochEnded, Evaluated, Event, Plugin, RunBegan, RunConfig, RunEnded, StepEnded

FACTS = {"parameters": 12, "sources": {"main": {"images": 8}}}


def results(value: float) -> dict[str, dict[str, object]]:
    return {"standard+rerank": {"metrics": {"mAP": value, "rank1": 0.5}}}


def draw(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8 + grey % 7, 8), (grey,) * 3).save(path)


def first_part(folder: Path) -> list[Event]:
    """Two reports of one epoch; then it is interrupted."""
    config = RunConfig.model_validate({"engine": {"log_every": 2}})
    return [
        RunBegan(config, folder, FACTS),
        Evaluated("untrained", -1, -1, results(0.125)),
        StepEnded(0, 1, {"loss/main": 4.0, "lr/main": 0.5}),
        StepEnded(0, 2, {"loss/main": 1.0, "lr/main": 0.25}),
        EpochEnded(0, 2),
        RunEnded(folder, "interrupted", {"seconds": 2.0}),
    ]


def second_part(folder: Path) -> list[Event]:
    """What a resumed run does: another epoch, and the selected first one as the final model."""
    return [
        first_part(folder)[0],
        StepEnded(1, 4, {"loss/main": 0.75}),
        EpochEnded(1, 4),
        Evaluated("final", 0, 2, results(0.375)),
        RunEnded(folder, "finished", {"seconds": 1.0}),
    ]


def told(plugin: Plugin, events: list[Event]) -> None:
    for event in events:
        plugin.reid_observe(event)  # type: ignore[attr-defined]


def leave_embedder(folder: Path) -> None:
    (folder / "embedder.safetensors").write_bytes(b"weights")
    (folder / "embedder.json").write_text("{}")
