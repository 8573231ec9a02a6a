"""Statistics of batch normalisation on real images: their values, and when they are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reid_core import Group, Plugin, RunContext, Schedule, hookimpl
from reid_core.data.clips import ClipPolicy
from reid_core.data.draws import in_order
from reid_core.data.loading import BatchLoader
from reid_core.evaluation import statistics
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.statistics import batches_of
from reid_core.loop.assembly import Assembly
from reid_core.loop.recalibration import recalibrate
from reid_core.runs.running import run
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags

REAL = {"evaluation": {"batch_norm": "real"}}


def neck_of(assembly: Assembly) -> Any:
    return assembly.model.heads["core/global"].neck


def pooled(assembly: Assembly) -> torch.Tensor:
    """What the neck sees of all images as they are, with the encoder's own statistics."""
    loader, made = assembly.loaders["main"], []
    with torch.no_grad():
        for host in loader.load(in_order(len(assembly.truth), 48), epoch=0):
            batch = assembly.prepare(host, assembly.ctx.device)
            known = assembly.model.encoder(batch.image)
            made.append(assembly.model.branches["core/pool"](known["encoder/map"]))
    return torch.cat(made)


def test_statistics_are_those_of_the_images_as_they_are(reid_cache: Path) -> None:
    plain = {"augment": {"pad": 0, "flip": 0.0, "erasing": 0.0}}
    assembly = tiny_assembly((), plain, cache=reid_cache)
    assembly.model.train()
    neck = neck_of(assembly)
    neck.running_mean.fill_(7.0)
    recalibrate(assembly)
    assert assembly.model.training
    assert neck.momentum == 0.1
    # All 48 images are one batch, so the encoder normalised by their statistics, too.
    seen = pooled(assembly)
    assert torch.allclose(neck.running_mean, seen.mean(0), atol=1e-5)
    assert torch.allclose(neck.running_var, seen.var(0), atol=1e-5)


def test_what_is_kept_in_evaluation_mode_stays(reid_cache: Path) -> None:
    assembly = tiny_assembly((), cache=reid_cache)
    assembly.model.train()
    assembly.model.encoder.eval()
    before = {name: value.clone() for name, value in assembly.model.encoder.named_buffers()}
    recalibrate(assembly)
    assert before
    assert all(torch.equal(v, before[n]) for n, v in assembly.model.encoder.named_buffers())
    assert not assembly.model.encoder.training
    assert neck_of(assembly).running_mean.abs().max() > 0


def test_batches_are_of_one_size_and_mixed() -> None:
    found = batches_of(100, 32, ranks=2)
    assert [len(rows) for rows in found] == [32, 32, 32]
    rows = np.concatenate(found)
    assert len(set(rows.tolist())) == 96
    assert rows.max() < 100
    assert np.abs(np.diff(rows)).mean() > 10, "neighbours are like each other"
    assert [len(rows) for rows in batches_of(7, 128, ranks=2)] == [6]
    assert sum(map(len, batches_of(100_000, 128))) == 4096


def test_the_size_of_evaluations_batches_does_not_count(reid_cache: Path) -> None:
    found = []
    for size in (8, 128):
        sections = {"evaluation": {"batch_norm": "real", "batch_size": size}}
        assembly = tiny_assembly((), sections, cache=reid_cache)
        assembly.model.train()
        recalibrate(assembly)
        found.append(neck_of(assembly).running_var)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("setting", "moves"), [("running", False), ("camera", False), ("real", True)]
)
def test_labels_and_evaluation_see_them(
    reid_cache: Path, setting: str, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {"evaluation": {"batch_norm": setting}}
    assembly = tiny_assembly(("clustering",), sections, cache=reid_cache, classes=PROBES)
    trainer, mean = Recorder(assembly), neck_of(assembly).running_mean
    seen, evaluate = [], Evaluator.evaluate

    def looked(*args: Any) -> Any:
        seen.append(mean.max().item())
        return evaluate(*args)

    monkeypatch.setattr(Evaluator, "evaluate", looked)
    assembly.model.train()
    mean.fill_(7.0)
    trainer.evaluate("final")
    assert (seen[0] < 7) == moves
    assert (mean == 7).all(), "training goes on as if nothing had been evaluated"
    trainer.begin_epoch()
    assert (mean.max() < 7).item() == moves


class Waiting(Plugin):
    """The encoder waits for the second epoch, and so normalises by its running statistics."""

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Any) -> Schedule:
        return Schedule(groups=(Group(self.own("encoder"), ("encoder",), frozen_until=1),))


def test_evaluating_does_not_change_the_training(reid_cache: Path, tmp_path: Path) -> None:
    traces = []
    for every in (0, 1):
        sections = {"evaluation": {"batch_norm": "real", "every": every}, "schedule": {"epochs": 2}}
        classes = {"waiting": Waiting}
        assembly = tiny_assembly(("waiting",), sections, cache=reid_cache, classes=classes)
        trainer = Recorder(assembly)
        if every:
            trainer.evaluate("untrained")
        trainer.fit()
        traces.append(trainer.trace)
    assert traces[0] == traces[1]


def test_what_is_exported_has_them(reid_cache: Path, tmp_path: Path) -> None:
    flags = tiny_flags((), REAL)
    run(flags, out=tmp_path, cache=reid_cache, say=lambda line: None)
    stored = load_file(tmp_path / "embedder.safetensors")
    again = Recorder(tiny_assembly((), REAL, cache=reid_cache), tmp_path / "checkpoint.pt")
    again.resume()
    again.assembly.model.train()
    recalibrate(again.assembly)
    found = again.assembly.embedder().state_dict()
    assert all(torch.equal(value, found[name]) for name, value in stored.items())


def test_the_last_checkpoint_holds_them(reid_cache: Path, tmp_path: Path) -> None:
    trainer = Recorder(tiny_assembly((), REAL, cache=reid_cache), tmp_path / "checkpoint.pt")
    trainer.fit()
    stored = {k: v.clone() for k, v in trainer.assembly.model.state_dict().items()}
    again = Recorder(tiny_assembly((), REAL, cache=reid_cache), tmp_path / "checkpoint.pt")
    again.resume()
    again.assembly.model.train()
    name = "heads.core/global.neck.running_mean"
    assert torch.equal(again.assembly.model.state_dict()[name], stored[name])
    recalibrate(again.assembly)
    assert torch.equal(again.assembly.model.state_dict()[name], stored[name])


def test_a_labeler_can_change_what_the_network_sees(reid_cache: Path) -> None:
    assembly = tiny_assembly((), cache=reid_cache)
    features, read = assembly.features(), []

    def uncovered(image: torch.Tensor, fields: Any) -> torch.Tensor:
        read.append(sorted(fields))
        return image * (fields["garments"] > 0)[:, None]

    plain = features.deployed()
    changed = features.deployed(uncovered, ("garments",))
    assert changed.shape == plain.shape
    assert np.abs(changed - plain).max() > 1e-3
    assert read[0] == ["garments"]
    same = features.deployed(lambda image, fields: image)
    assert same == pytest.approx(plain, abs=1e-6)
    assert features.of("core/global") == pytest.approx(plain, abs=1e-6)


def test_clips_are_drawn_as_in_training(reid_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {
        "name": "toy/tracklets:tiny",
        "frames": 2,
        "frame_sampling": "consecutive",
        "frame_stride": 2,
    }
    assembly = tiny_assembly((), {"data": data}, cache=reid_cache)
    assembly.model.train()
    drawn, sizes = [], []

    def loader(*args: Any, clips: ClipPolicy, **kwargs: Any) -> BatchLoader:
        drawn.append(clips)
        return BatchLoader(*args, clips=clips, **kwargs)

    def batches(images: int, batch_size: int, ranks: int) -> list[Any]:
        sizes.append(batch_size)
        return batches_of(images, batch_size, ranks)

    monkeypatch.setattr(statistics, "BatchLoader", loader)
    monkeypatch.setattr(statistics, "batches_of", batches)
    recalibrate(assembly)
    assert drawn == [ClipPolicy(2, "consecutive", 2)]
    assert sizes == [64], "of two frames each"
