"""The teacher: its modes, its stage, and one that is kept for another run."""

import pytest
import torch
from test_dgnet_conformance import SMALL
from torch import nn

from reid_core import CheckpointError, ConfigError
from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_dgnet.offline import label_order
from reid_dgnet.settings import DgnetSettings
from reid_dgnet.teacher import teacher_stage

STAGED = {"plugins": {"dgnet": {**SMALL["plugins"]["dgnet"], "picture": 0}}}


@pytest.fixture(scope="module")
def run(reid_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return tiny_assembly(("dgnet",), STAGED, cache=reid_cache, folder=folder)


def with_teacher(value, cache, **more):
    settings = {**STAGED["plugins"]["dgnet"], "teacher": str(value), **more}
    return tiny_assembly(("dgnet",), {"plugins": {"dgnet": settings}}, cache=cache)


def images():
    return torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def test_it_gives_distributions_that_do_not_mind_mirroring(run):
    teacher = run.ctx.module("dgnet/teacher")
    found = teacher(images())
    assert found.shape == (4, run.ctx.num_identities)
    assert torch.allclose(found.sum(1), torch.ones(4))
    assert torch.allclose(teacher(images().flip(3)), found, atol=1e-6)
    assert torch.equal(teacher(images()), found)


def test_it_normalises_by_the_images_before_it(run):
    teacher = run.ctx.module("dgnet/teacher")
    assert not torch.allclose(teacher(images()[:2]), teacher(images())[:2], atol=1e-6)


def test_it_is_frozen_and_its_weights_are_not_the_run_s(run):
    assert not any(p.requires_grad for p in run.ctx.module("dgnet/teacher").parameters())
    grouped = {n for group in run.parts.plan.groups.values() for n in group.parameters}
    assert not any("teacher" in name for name in grouped)
    before = run.ctx.module("dgnet/teacher").classifier.weight.clone()
    run.model.train()
    assert not run.ctx.module("dgnet/teacher").training
    assert torch.equal(before, run.ctx.module("dgnet/teacher").classifier.weight)


def test_a_run_keeps_its_teacher_for_others(run, reid_cache):
    kept = run.ctx.folder / "teacher"
    again = with_teacher(kept, reid_cache)
    found = again.ctx.module("dgnet/teacher")(images())
    assert torch.allclose(found, run.ctx.module("dgnet/teacher")(images()), atol=1e-6)


def test_running_statistics_treat_every_image_alone(run, reid_cache):
    teacher = with_teacher(run.ctx.folder / "teacher", reid_cache, teacher_mode="eval").ctx.module(
        "dgnet/teacher"
    )
    assert torch.allclose(teacher(images()[:2]), teacher(images())[:2], atol=1e-6)


def test_dropout_is_on_where_the_authors_left_it_on(run, reid_cache):
    kept = run.ctx.folder / "teacher"
    teacher = with_teacher(kept, reid_cache, teacher_mode="official_accident").ctx.module(
        "dgnet/teacher"
    )
    assert not teacher.training
    assert not torch.equal(teacher(images()), teacher(images()))


def test_a_teacher_of_other_people_is_refused(run, reid_cache, tmp_path):
    from reid_dgnet.teacher import save_teacher

    teacher = run.ctx.module("dgnet/teacher")
    trained = with_teacher(run.ctx.folder / "teacher", reid_cache, teacher_mode="eval")
    embedder = trained.ctx.module("dgnet/teacher").embedder
    samples = run.ctx.main.samples
    save_teacher(tmp_path / "more", embedder, nn.Linear(16, 9), samples)
    with pytest.raises(ConfigError, match=r"trained on other identities \(9, not 8\).*=stage"):
        with_teacher(tmp_path / "more", reid_cache)
    from dataclasses import replace

    mixed = [replace(sample, pid=(sample.pid + 1) % 8) for sample in samples]
    save_teacher(tmp_path / "mixed", embedder, teacher.classifier, mixed)
    with pytest.raises(ConfigError, match=r"other identities \(in number or order\)"):
        with_teacher(tmp_path / "mixed", reid_cache)


def test_a_teacher_of_another_image_size_is_refused(run, reid_cache):
    settings = {**STAGED["plugins"]["dgnet"], "teacher": str(run.ctx.folder / "teacher")}
    sections = {"plugins": {"dgnet": settings}, "data": {"height": 96, "width": 48}}
    with pytest.raises(ConfigError, match="images of 64 x 32, the run has 96 x 48"):
        tiny_assembly(("dgnet",), sections, cache=reid_cache)


def test_a_teacher_that_is_not_there_is_refused(reid_cache, tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no .*classifier.safetensors; name the"):
        with_teacher(tmp_path, reid_cache)


def test_label_order_ignores_folders_and_sees_labels(run):
    from dataclasses import replace
    from pathlib import Path

    samples = list(run.ctx.main.samples[:3])
    moved = [replace(s, path=Path("elsewhere") / s.path.name) for s in samples]
    assert label_order(moved[::-1]) == label_order(samples)
    assert label_order([replace(samples[0], pid=5), *samples[1:]]) != label_order(samples)


@pytest.mark.parametrize("style", ["appearance", "uniform"])
def test_styles_that_ask_nobody_need_no_teacher(style, reid_cache):
    assembly = with_teacher("stage", reid_cache, labels=style)
    assert "dgnet/teacher" not in assembly.model.branches
    trainer = Recorder(assembly)
    trainer.train_epoch()
    assert "dgnet/primary" in trainer.metrics.seen


def test_without_a_teacher_its_term_is_left_out(reid_cache):
    trainer = Recorder(with_teacher("none", reid_cache))
    trainer.train_epoch()
    assert "dgnet/primary" not in trainer.metrics.seen
    assert "dgnet/fine_grained" in trainer.metrics.seen


@pytest.mark.parametrize("style", ["hard", "masked"])
def test_the_teacher_s_other_styles_train(style, run, reid_cache):
    trainer = Recorder(with_teacher(run.ctx.folder / "teacher", reid_cache, labels=style))
    trainer.train_epoch()
    assert trainer.trace[0]["main:dgnet/primary"] > 0


@pytest.mark.parametrize(("backbone", "stride"), [("test_resnet", 2), ("osnet_x0_25", "auto")])
def test_its_encoder_has_a_last_stride_of_2_where_there_is_one_to_set(backbone, stride, reid_cache):
    settings = {**STAGED["plugins"]["dgnet"], "teacher": "none"}
    layers = {"plugins": {"dgnet": settings}, "model": {"backbone": backbone}}
    ctx = tiny_assembly(("dgnet",), layers, cache=reid_cache).ctx
    assert teacher_stage(ctx, DgnetSettings()).settings["model"] == {"last_stride": stride}
    chosen = DgnetSettings(teacher_stride=1)
    assert teacher_stage(ctx, chosen).settings["model"] == {"last_stride": 1}
