"""Ctrl-C ends after the current step; what is left of the epoch goes on bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reid_core.data.samples import DataSet
from reid_core.engine.state import read_checkpoint, trainable_state
from reid_core.engine.trainer import Interrupted
from reid_core.testing.probes import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

LONG = {"schedule": {"epochs": 2, "iterations_per_epoch": 4}}


@pytest.mark.parametrize("plugins", [(), ("head", "pairs"), ("adversarial",)])
def test_an_interrupted_epoch_goes_on_bit_by_bit(
    plugins: tuple[str, ...], toy_tiny: DataSet, reid_cache: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    whole = Recorder(tiny_assembly(plugins, LONG, cache=reid_cache, classes=PROBES))
    whole.fit()
    first = Recorder(tiny_assembly(plugins, LONG, cache=reid_cache, classes=PROBES), checkpoint)

    def interrupt_in_the_sixth_step(images: int) -> None:
        if first.assembly.ctx.progress.iteration == 6:
            first.interrupt()

    first.advance = interrupt_in_the_sixth_step
    with pytest.raises(Interrupted, match="after step 2 of epoch 2"):
        first.fit()
    assert read_checkpoint(checkpoint)["progress"] == {"epoch": 1, "iteration": 6, "step": 2}
    second = Recorder(tiny_assembly(plugins, LONG, cache=reid_cache, classes=PROBES), checkpoint)
    second.resume()
    second.fit()
    assert first.trace + second.trace == whole.trace
    for name, value in trainable_state(whole.assembly.model).items():
        assert torch.equal(value, trainable_state(second.assembly.model)[name]), name


def test_an_alternating_source_goes_on_at_its_own_place(
    toy_tiny: DataSet, reid_cache: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    def alternating() -> Recorder:
        assembly = tiny_assembly(("pairs",), LONG, cache=reid_cache, classes=PROBES)
        plan = assembly.parts.plan
        updates = tuple(
            replace(update, every=(2, 1)) if update.name == "pairs/reconstruct" else update
            for update in plan.updates
        )
        object.__setattr__(plan, "updates", updates)
        return Recorder(assembly, tmp_path / "checkpoint.pt")

    whole, first, second = alternating(), alternating(), alternating()
    whole.fit()
    first.advance = lambda images: (
        first.interrupt() if first.assembly.ctx.progress.iteration == 3 else None
    )
    with pytest.raises(Interrupted):
        first.fit()
    second.resume()
    second.fit()
    assert first.trace + second.trace == whole.trace
