"""The recipes: the paper's settings, and that every one of them can be resolved and run."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import RunConfig
from reid_core.config import EvaluationSection
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import Recorder

FOLDER = Path(str(files("reid_baselines"))) / "recipes"
MODELS = ("globalpool", "pcb", "mgn", "osnet")
"""Those of Huang et al., which share their settings."""

ALL = sorted(f"{name}/{path.stem}" for name in MODELS for path in FOLDER.glob(f"{name}/*.toml"))
DATA = {"market1501": "market1501", "cuhk03": "cuhk03/detected", "msmt17": "msmt17/v1+val"}
SETS = tuple(DATA)
HUANG = ("globalpool", "mgn", "osnet", "pcb")
PAPER = [
    name
    for name in ALL
    if name.partition("/")[0] in HUANG and not name.endswith(("/quick", "_ain"))
]


def config(recipe: str, **flags: Any) -> RunConfig:
    return resolve(flags, recipe=recipe).config


def test_there_is_one_for_every_model_and_backbone_of_figures_6_and_7() -> None:
    wanted = {f"{model}/{name}" for model in ("globalpool", "pcb", "mgn", "osnet") for name in SETS}
    wanted |= {"globalpool/msmt17_mobilenetv2", "globalpool/msmt17_densenet121"}
    assert set(PAPER) == wanted


@pytest.mark.parametrize("name", PAPER)
def test_what_all_models_share(name: str) -> None:
    found = config(name)
    assert found.run.plugins == (name.partition("/")[0],)
    assert found.data.name == DATA[name.partition("/")[2].partition("_")[0]]
    assert found.model.pretrained is True
    assert found.model.last_stride == 1
    assert found.augment.flip == 0.5
    assert (found.augment.pad, found.augment.enlarge) == (0, 1.0)
    assert (found.optim.momentum, found.optim.weight_decay) == (0.9, 5e-4)


@pytest.mark.parametrize("name", [n for n in PAPER if n.startswith(("globalpool/", "pcb/"))])
def test_globalpool_and_pcb_are_trained_alike(name: str) -> None:
    found = config(name)
    assert (found.data.height, found.data.width) == (384 if "pcb" in name else 256, 128)
    assert (found.data.batch_size, found.data.sampler) == (32, "random")
    assert (found.optim.name, found.optim.lr, found.optim.new_layers_scale) == ("sgd", 0.01, 2.0)
    schedule = found.schedule
    assert (schedule.epochs, schedule.warmup_epochs, schedule.decay) == (60, 0, "step")
    assert (schedule.milestones, schedule.gamma) == ((25, 50), 0.1)
    assert found.augment.erasing == 0


@pytest.mark.parametrize("name", [n for n in PAPER if n.startswith("globalpool/")])
def test_globalpool_is_the_cores_embedding(name: str) -> None:
    found = config(name)
    model = found.model
    assert (model.pooling, model.neck, model.dim) == ("max", "fc_bn_relu", 512)
    assert found.identity.triplet_weight == 0


@pytest.mark.parametrize("name", [f"mgn/{data}" for data in SETS])
def test_mgn_samples_people_and_alternates(name: str) -> None:
    found = config(name)
    data = found.data
    assert (data.height, data.width, data.sampler, data.epoch_by) == (384, 128, "pk", "identities")
    assert (data.batch_size // data.instances, data.instances) == (16, 8)
    assert (found.optim.name, found.optim.lr) == ("sgd", 0.1)
    assert (found.schedule.epochs, found.schedule.warmup_epochs) == (200, 20)
    assert found.schedule.milestones == (140, 180)
    assert (found.augment.erasing, found.evaluation.flip) == (
        0.5,
        EvaluationSection(flip=True).flip,
    )
    chosen = found.plugins["mgn"]
    assert (chosen["optimisation"], chosen["margin"]) == ("alternate", 0.1)
    assert found.optim.lr * chosen["triplet_scale"] == pytest.approx(0.01)


@pytest.mark.parametrize("name", [f"osnet/{data}" for data in SETS])
def test_osnet_is_trained_as_by_its_authors(name: str) -> None:
    found = config(name)
    assert (found.model.backbone, found.data.height, found.data.width) == ("osnet_x1_0", 256, 128)
    assert (found.data.batch_size, found.data.sampler) == (64, "random")
    assert (found.optim.name, found.optim.lr) == ("amsgrad", 0.0015)
    assert (found.schedule.epochs, found.schedule.decay) == (250, "cosine")
    assert (found.identity.label_smoothing, found.augment.erasing) == (0.1, 0.5)
    assert found.plugins["osnet"] == {"fc": True, "frozen_epochs": 10}


def test_backbones_have_published_weights() -> None:
    from reid_core.model.torchvision_guard import guard_torchvision

    guard_torchvision()
    import timm

    names = {config(name).model.backbone for name in PAPER if not name.startswith("osnet/")}
    assert names == {"resnet50.tv_in1k", "mobilenetv2_100.ra_in1k", "densenet121.tv_in1k"}
    assert all(timm.is_model_pretrained(name) for name in names)


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_trains_when_it_is_made_small(name: str, reid_cache: Path) -> None:
    if name.startswith("metric/"):
        pytest.importorskip("pytorch_metric_learning", reason="the extra `metric` brings it")
    small: dict[str, Any] = {
        "data": {"name": "toy:tiny", "height": 96, "width": 32, "batch_size": 8, "instances": 2},
        "model": {"pretrained": False},
        "schedule": {"epochs": 1, "iterations_per_epoch": 2},
        "engine": {"device": "cpu", "tensorboard": False},
        "evaluation": {"ranked_list": 0, "untrained": False},
    }
    tiny = {"osnet": "osnet_x0_25", "ibn": "test_resnet_ibn_a"}
    small["model"]["backbone"] = tiny.get(name.partition("/")[0], "test_resnet")
    assembly = assemble(
        resolve(small, recipe=name), cache=reid_cache, say=lambda line: None, stages=Stages()
    )
    trainer = Recorder(assembly)
    trainer.fit()
    assert len(trainer.trace) == 2


@pytest.mark.parametrize("name", ["ibn", "ema", "meanteacher", "agw"])
def test_others_stand_on_the_bag_of_tricks(name: str) -> None:
    ours, theirs = config(f"{name}/market1501"), config("bot/market1501")
    assert name in ours.run.plugins
    assert (ours.data, ours.augment, ours.optim) == (theirs.data, theirs.augment, theirs.optim)
    assert ours.identity.label_smoothing == 0.1


@pytest.mark.parametrize("name", ["cal/ltcc", "cal/prcc"])
def test_cal_is_trained_and_tested_as_by_its_authors(name: str) -> None:
    found = config(name)
    assert (found.data.batch_size, found.data.instances) == (64, 8)
    assert (found.schedule.epochs, found.schedule.milestones) == (60, (20, 40))
    assert (found.optim.name, found.optim.lr, found.plugins["cal"]["begin"]) == ("adam", 3.5e-4, 25)
    assert found.evaluation.flip == "sum"


def test_osnet_ain_is_trained_as_by_its_authors() -> None:
    found = config("osnet/msmt17_ain")
    assert (found.model.backbone, found.optim.name, found.optim.lr) == (
        "osnet_ain_x1_0",
        "amsgrad",
        0.0015,
    )
    assert (found.augment.brightness, found.augment.contrast) == (0.2, 0.15)
    assert (found.schedule.epochs, found.schedule.decay) == (100, "cosine")


def test_every_recipe_says_what_it_is() -> None:
    for name in ALL:
        text = (FOLDER / f"{name}.toml").read_text("utf-8")
        assert text.startswith("# "), name
        assert set(tomllib.loads(text)) <= {"base", *RunConfig.model_fields}, name
