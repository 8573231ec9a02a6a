"""Stages: made once, reused by content, without identities where they say so, started by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_core import CheckpointError, ConflictError, Plugin, PluginError, Stage, Start
from reid_core.config import OptimSection, RunConfig
from reid_core.contract.samples import DataSet
from reid_core.defaults.contrastive import contrastive_stage, nt_xent
from reid_core.runs.describing import describe, opening_line
from reid_core.runs.stages import prepare_stage, run_stage, stage_key
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.probes import Head
from reid_core.testing.tiny import Recorder, tiny_assembly

LENGTH = {"schedule": {"epochs": 1, "iterations_per_epoch": 2}}


def stage(**changes: Any) -> Stage:
    settings = {**LENGTH, **changes.pop("settings", {})}
    return Stage("probe/parser", {"head": Head}, settings, **changes)


def lines_of(assembly: Any) -> list[str]:
    lines: list[str] = []
    assembly.ctx.say = lines.append
    return lines


def test_a_stage_is_made_once_and_reused(own_cache: Path, toy_tiny: DataSet) -> None:
    assembly = tiny_assembly(cache=own_cache)
    lines = lines_of(assembly)
    first = run_stage(assembly.ctx, stage())
    second = run_stage(assembly.ctx, stage())
    assert sum("training on" in line for line in lines) == 1
    assert any("reused" in line for line in lines)
    assert first.folder == second.folder
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert (first.folder / "metrics.jsonl").is_file()


def test_another_setting_or_other_data_is_another_stage(own_cache: Path) -> None:
    ctx = tiny_assembly(cache=own_cache).ctx
    keys = {
        stage_key(ctx, stage()),
        stage_key(ctx, stage(settings={"optim": {"lr": 0.5}})),
        stage_key(ctx, stage(settings={"plugins": {"head": {"weight": 2.0}}})),
        stage_key(ctx, stage(identities=False)),
    }
    assert len(keys) == 4
    logs_more_often = stage(settings={"engine": {"log_every": 7}})
    assert stage_key(ctx, logs_more_often) == stage_key(ctx, stage())


def test_a_rehearsed_stage_is_one_step_that_no_run_takes_for_the_stage(own_cache: Path) -> None:
    ctx = tiny_assembly(cache=own_cache).ctx
    trained = stage_key(ctx, stage())
    ctx.rehearsal = True
    rehearsed = run_stage(ctx, stage())
    assert rehearsed.assembly.ctx.progress.iteration == 1
    assert rehearsed.assembly.ctx.rehearsal, "a stage's own stages are rehearsed, too"
    assert rehearsed.key != trained
    ctx.rehearsal = False
    assert stage_key(ctx, stage()) == trained


def test_a_stage_without_identities_sees_none(own_cache: Path) -> None:
    result = run_stage(tiny_assembly(cache=own_cache).ctx, stage(identities=False))
    source = result.assembly.ctx.main
    assert {sample.pid for sample in source.samples} == {-1}
    assert not result.model.criteria
    assert result.module("head/head") is result.model.branches["head/head"]


def test_a_stage_holds_nobody_out_a_second_time(own_cache: Path) -> None:
    ctx = tiny_assembly((), {"data": {"validation": 0.3}}, cache=own_cache).ctx
    trainer, _, _ = prepare_stage(ctx, stage())
    assert trainer.assembly.ctx.num_identities == ctx.num_identities == 6
    assert trainer.assembly.validator is None


def test_a_killed_stage_goes_on_where_it_was(tmp_path: Path, own_cache: Path) -> None:
    long = stage(settings={"schedule": {"epochs": 2, "iterations_per_epoch": 2}})
    whole = run_stage(tiny_assembly(cache=own_cache).ctx, long)
    ctx = tiny_assembly(cache=tmp_path / "killed").ctx
    trainer, folder, _ = prepare_stage(ctx, long)
    folder.mkdir(parents=True)
    trainer.assembly.model.train()
    trainer.train_epoch()
    trainer.assembly.ctx.progress.epoch, trainer.assembly.ctx.progress.step = 1, 0
    trainer.save()
    resumed = run_stage(ctx, long)
    assert resumed.folder == folder
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_result_that_is_gone_is_made_again(own_cache: Path) -> None:
    assembly = tiny_assembly(cache=own_cache)
    lines = lines_of(assembly)
    first = run_stage(assembly.ctx, stage())
    (first.folder / "checkpoint.pt").unlink()
    second = run_stage(assembly.ctx, stage())
    assert sum("training on" in line for line in lines) == 2
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_result_that_is_cut_short_is_refused(own_cache: Path) -> None:
    ctx = tiny_assembly(cache=own_cache).ctx
    checkpoint = run_stage(ctx, stage()).folder / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"probe/parser/.*checkpoint\.pt is truncated"):
        run_stage(ctx, stage())


class Starts(Plugin):
    """Starts the encoder from a stage."""

    entries = ("encoder.*",)

    def starts(self, config: RunConfig) -> tuple[Start, ...]:
        return (Start(stage(), self.entries),)


class StartsToo(Starts):
    """Wants the same entries."""


class StartsNothing(Starts):
    """Names entries that no model has."""

    entries = ("branches.nobody.*",)


def test_parameters_start_from_a_stage_by_name(own_cache: Path) -> None:
    assembly = tiny_assembly(("starts",), cache=own_cache, classes={"starts": Starts})
    plain = tiny_assembly(cache=own_cache)
    made = run_stage(plain.ctx, stage()).model.state_dict()
    for name, value in assembly.model.state_dict().items():
        expected = made if name.startswith("encoder.") else plain.model.state_dict()
        assert torch.equal(value, expected[name]), name
    moved = [n for n, v in plain.model.state_dict().items() if not torch.equal(v, made.get(n, v))]
    assert any(name.startswith("encoder.") for name in moved), "the stage trained nothing"


def test_two_plugins_that_start_one_entry_conflict(own_cache: Path) -> None:
    classes = {"starts": Starts, "startstoo": StartsToo}
    with pytest.raises(ConflictError, match="'starts' and 'startstoo' both start 'encoder"):
        tiny_assembly(("starts", "startstoo"), cache=own_cache, classes=classes)


def test_a_start_that_fits_nothing_is_an_error(own_cache: Path) -> None:
    with pytest.raises(PluginError, match=r"nothing in stage 'probe/parser' fits 'branches.nobody"):
        tiny_assembly(("starts",), cache=own_cache, classes={"starts": StartsNothing})


def test_an_unknown_source_or_branch_is_named(own_cache: Path) -> None:
    ctx = tiny_assembly(cache=own_cache).ctx
    with pytest.raises(PluginError, match="unknown source 'mian'; did you mean 'main'"):
        run_stage(ctx, stage(source="mian"))
    with pytest.raises(PluginError, match="no branch 'head/hed'; did you mean 'head/head'"):
        run_stage(ctx, stage()).module("head/hed")


def test_a_parser_stage_feeds_a_labeler(own_cache: Path) -> None:
    settings = {"labels": {"parts": "staged"}, "plugins": {"staged": {"teacher": False}}}
    names = ("head", "staged")
    assembly = tiny_assembly(names, settings, cache=own_cache, classes=PROBES)
    plain = tiny_assembly(("head",), cache=own_cache, classes=PROBES)
    made, truth = assembly.ctx.main.samples[0].fields, plain.ctx.main.samples[0].fields
    assert made["parts"] != truth["parts"]
    assert own_cache in Path(str(made["parts"])).parents
    trainer = Recorder(assembly)
    trainer.fit()
    assert np.isfinite(trainer.trace[-1]["main:head/parts"])


def test_a_teacher_stage_feeds_a_frozen_branch(own_cache: Path) -> None:
    assembly = tiny_assembly(("staged",), cache=own_cache, classes=PROBES)
    teacher = assembly.model.branches["staged/teacher"]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    Recorder(assembly).fit()
    assert not teacher.training
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_contrastive_pre_training_starts_the_encoder(own_cache: Path) -> None:
    start = {"model": {"start": "contrastive", "start_epochs": 1}}
    assembly = tiny_assembly((), start, cache=own_cache)
    random = tiny_assembly((), cache=own_cache)
    result = run_stage(random.ctx, contrastive_stage(1))
    assert result.assembly.config.data.sampler == "twice"
    for name, value in result.model.encoder.state_dict().items():
        assert torch.equal(value, assembly.model.encoder.state_dict()[name]), name
    said = [
        opening_line(describe(one), one.ctx.config, one.ctx.device) for one in (assembly, random)
    ]
    assert ["from random weights" in line for line in said] == [False, True]


def test_an_encoder_that_starts_from_a_stage_sees_images_as_the_stage_did(own_cache: Path) -> None:
    start = {"model": {"start": "contrastive", "start_epochs": 1}}
    assembly = tiny_assembly((), start, cache=own_cache)
    [one] = assembly.plugins["core"].starts(assembly.config)
    checkpoint = run_stage(assembly.ctx, one.stage).folder / "checkpoint.pt"
    content = torch.load(checkpoint, weights_only=True)
    half = {"final_norm": True, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    torch.save({**content, "conventions": half}, checkpoint)
    assert tiny_assembly((), start, cache=own_cache).model.encoder.conventions == half


def test_the_neck_starts_with_the_encoder(own_cache: Path) -> None:
    start = {"start": "contrastive", "start_epochs": 1}
    assembly = tiny_assembly((), {"model": start}, cache=own_cache)
    [one] = assembly.plugins["core"].starts(assembly.config)
    stages = run_stage(assembly.ctx, one.stage).model.heads["core/global"].neck
    neck: Any = assembly.model.heads["core/global"].neck
    assert torch.equal(neck.running_mean, stages.running_mean)
    assert torch.equal(neck.running_var, stages.running_var)
    assert neck.running_mean.abs().max() > 0
    # A neck that the stage has not is a new one.
    plain = {"model": {**start, "neck": "none"}}
    assert not tiny_assembly((), plain, cache=own_cache).model.heads["core/global"].state_dict()


def test_contrastive_pre_training_may_have_larger_batches(own_cache: Path) -> None:
    for rows, expected in ((None, 8), (32, 32)):
        start = {"model": {"start": "contrastive", "start_epochs": 1, "start_batch_size": rows}}
        assembly = tiny_assembly((), start, cache=own_cache)
        [one] = assembly.plugins["core"].starts(assembly.config)
        assert one.stage.settings["data"]["batch_size"] == expected
        assert assembly.config.data.batch_size == 8


def test_contrastive_pre_training_has_an_optimiser_of_its_own(own_cache: Path) -> None:
    optim = {"name": "rmsprop", "options": {"alpha": 0.5}, "betas": [0.5, 0.6], "momentum": 0.3}
    layer = {"optim": {**optim, "new_layers_scale": 3.0, "clip_norm": 1.0}}
    result = run_stage(tiny_assembly((), layer, cache=own_cache).ctx, contrastive_stage(1))
    assert result.config.optim == OptimSection(name="adam", lr=1e-3, weight_decay=1e-5)


def test_nt_xent_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    images = torch.tensor([7, 7, 9, 9])
    # Each row: its positive at cosine 1, two negatives at 0.
    expected = -np.log(np.e / (np.e + 2))
    assert float(nt_xent(vectors, images, 1.0)) == pytest.approx(expected, abs=1e-6)


def test_nt_xent_is_found_in_float32_under_mixed_precision() -> None:
    vectors = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    images = torch.arange(4).repeat(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nt_xent(vectors, images, 0.1)
    assert torch.equal(found, nt_xent(vectors, images, 0.1))


def test_nt_xent_prefers_agreeing_views() -> None:
    images = torch.tensor([0, 0, 1, 1])
    agreeing = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mixed = agreeing[[0, 2, 1, 3]]
    assert nt_xent(agreeing, images, 0.2) < nt_xent(mixed, images, 0.2)
