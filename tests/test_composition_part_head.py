"""The part head on the paper's three kinds of model: it learns, and nothing of it is deployed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from reid_core.loop.assembly import Assembly
from reid_core.testing.tiny import Recorder, first_forward, tiny_assembly

SHORT = {
    # Six stripes at stride 16 need 96 rows.
    "data": {"height": 96},
    "optim": {"lr": 1e-2},
    "schedule": {"epochs": 1, "iterations_per_epoch": 2, "warmup_epochs": 0},
}
ONE, THREE = ("encoder/map",), tuple(f"encoder/map_{number}" for number in (1, 2, 3))


def parts_loss(assembly: Assembly) -> float:
    return float(first_forward(assembly)[1].terms["partaware/parts"])


@pytest.mark.parametrize(("model", "maps"), [("globalpool", ONE), ("pcb", ONE), ("mgn", THREE)])
def test_a_part_head_learns_on_a_model_and_is_gone_at_inference(
    model: str, maps: tuple[str, ...], reid_cache: Path, tmp_path: Path
) -> None:
    headed = tiny_assembly([model, "partaware"], SHORT, cache=reid_cache)
    plain = tiny_assembly([model], SHORT, cache=reid_cache)
    assert headed.model.declarations["partaware/head"].reads == maps
    images = torch.rand(2, 3, 96, 32)
    with torch.inference_mode():
        found, expected = (a.embedder().eval()(images) for a in (headed, plain))
    assert torch.equal(found, expected)

    before = parts_loss(headed)
    assert before == pytest.approx(math.log(8), abs=0.01)
    trainer = Recorder(headed)
    trainer.fit()
    assert len(trainer.trace) == 2
    assert parts_loss(headed) < before - 0.02

    entries = []
    for assembly, name in ((headed, "headed"), (plain, "plain")):
        path = tmp_path / f"{name}.safetensors"
        assembly.embedder().save(path)
        with safe_open(path, "pt") as file:
            entries.append(sorted(file.keys()))
    assert entries[0] == entries[1]
