"""Ctrl-C ends after the current step; what is left of the epoch goes on bit by bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from reid_core.contract.samples import DataSet
from reid_core.loop.state import read_checkpoint, trainable_state
from reid_core.loop.trainer import Interrupted
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags

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


def test_the_first_ctrl_c_ends_after_the_step_and_says_how_to_go_on(
    toy_tiny: DataSet, reid_cache: Path, tmp_path: Path
) -> None:
    @contextmanager
    def press_ctrl_c(label: str, total: int) -> Iterator[Callable[[int], None]]:
        steps = iter(range(100))
        yield lambda images: signal.raise_signal(signal.SIGINT) if next(steps) == 1 else None

    before = signal.getsignal(signal.SIGINT)
    out = tmp_path / "run"
    resolved = resolve(tiny_flags((), LONG))
    with pytest.raises(Interrupted) as stop:
        run(resolved=resolved, out=out, cache=reid_cache, say=print, progress=press_ctrl_c)
    assert str(stop.value).endswith(f"go on with: reid run --resume --out {out}")
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint(out / "checkpoint.pt")["progress"]["iteration"] == 2
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert events[-1]["outcome"] == "interrupted"
    summary = run(out=out, resume=True, cache=reid_cache, say=lambda line: None)
    assert (summary.folder / "results.json").is_file()


def test_a_run_tells_what_it_cost(toy_tiny: DataSet, reid_cache: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    resolved = resolve(tiny_flags((), LONG))
    run(resolved=resolved, out=tmp_path / "run", cache=reid_cache, say=lines.append)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["images"] == 64
    assert last["images_per_second"] > 0
    assert 0 <= last["share_of_waiting_for_data"] <= 1
    assert last["peak_memory_mib"] > 100
    assert any("images/s" in line and "MiB" in line for line in lines)
