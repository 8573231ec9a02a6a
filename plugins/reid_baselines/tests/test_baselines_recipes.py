"""The recipes: the paper's settings, and that every one of them can be resolved and run."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_baselines.mgn import MgnSettings
from reid_baselines.pcb import PcbSettings
from reid_core import RunConfig, Settings
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


RESNET = {"backbone": "resnet50.tv_in1k", "pretrained": True, "last_stride": 1}
FALLS = {"warmup_epochs": 0.0, "milestones": [25.0, 50.0]}
CHANGED: dict[str, dict[str, dict[str, Any]]] = {
    "globalpool": {
        "data": {"batch_size": 32, "sampler": "random"},
        "model": {**RESNET, "pooling": "max", "neck": "fc_bn_relu", "dim": 512},
        "identity": {"triplet_weight": 0.0, "classifier_bias": True},
        "optim": {"name": "sgd", "lr": 0.01, "new_layers_scale": 2.0},
        "schedule": FALLS,
        "globalpool": {},
    },
    "pcb": {
        "data": {"height": 384, "batch_size": 32, "sampler": "random"},
        "model": RESNET,
        "optim": {"name": "sgd", "lr": 0.01, "new_layers_scale": 2.0},
        "schedule": FALLS,
        "pcb": {
            "stripes": 6,
            "dim": 256,
            "pooling": "max",
            "stream": "encoder/map",
            "unit_stripes": True,
        },
    },
    "mgn": {
        "data": {"height": 384, "batch_size": 128, "instances": 8, "epoch_by": "identities"},
        "augment": {"erasing": 0.5},
        "model": RESNET,
        # The triplet loss's rate is 0.1 * 0.1.
        "optim": {"name": "sgd", "lr": 0.1},
        "schedule": {"epochs": 200, "warmup_epochs": 20.0, "milestones": [140.0, 180.0]},
        "evaluation": {"flip": "sum"},
        "mgn": {
            "dim": 256,
            "classified": "pooled",
            "margin": 0.1,
            "optimisation": "alternate",
            "triplet_scale": 0.1,
            "also": [],
            "unit_vectors": True,
        },
    },
    "osnet": {
        "data": {"batch_size": 64, "sampler": "random"},
        "augment": {"erasing": 0.5},
        "model": {"backbone": "osnet_x1_0", "pretrained": True, "last_stride": 1},
        "identity": {"label_smoothing": 0.1},
        "optim": {"name": "amsgrad", "lr": 0.0015},
        "schedule": {"epochs": 250, "warmup_epochs": 0.0, "decay": "cosine"},
        "osnet": {"fc": True, "frozen_epochs": 10},
    },
}
"""What the paper's models have in place of `COMMON` (section IV-C, table in the README)."""

COMMON: dict[str, dict[str, Any]] = {
    "data": {"height": 256, "width": 128},
    "augment": {"flip": 0.5, "pad": 0, "enlarge": 1.0, "erasing": 0.0},
    "optim": {"momentum": 0.9, "betas": [0.9, 0.999], "weight_decay": 5e-4},
    "schedule": {"epochs": 60, "warmup_start": 0.1, "decay": "step", "gamma": 0.1},
}
BACKBONES = {
    "_mobilenetv2": "mobilenetv2_100.ra_in1k",
    "_densenet121": "densenet121.tv_in1k",
}


@pytest.mark.parametrize("name", PAPER)
def test_every_key_of_every_recipe_is_the_papers_or_the_cores(name: str) -> None:
    model, _, row = name.partition("/")
    found = config(name).model_dump(mode="json")
    wanted = RunConfig().model_dump(mode="json")
    wanted["run"] |= {"plugins": [model], "recipe": name}
    wanted["plugins"] = {model: {}}
    for values in (COMMON, CHANGED[model], {"data": {"name": DATA[row.partition("_")[0]]}}):
        for section, own in values.items():
            (wanted["plugins"] if section == model else wanted)[section] |= own
    for ending, backbone in BACKBONES.items():
        if name.endswith(ending):
            wanted["model"]["backbone"] = backbone
    assert found == wanted


@pytest.mark.parametrize(("model", "settings"), [("mgn", MgnSettings), ("pcb", PcbSettings)])
def test_the_papers_settings_are_those_without_a_recipe(
    model: str, settings: type[Settings]
) -> None:
    assert settings().model_dump(mode="json") == CHANGED[model][model]


def test_backbones_have_published_weights() -> None:
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


BY_IDENTITIES = {"mgn", "tracklets/mars"}
"""Recipes whose published samplers draw every person once in an epoch; all others' go by images."""


@pytest.mark.parametrize(
    "name", sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.toml"))
)
def test_an_epoch_is_as_long_as_that_of_the_published_code(name: str) -> None:
    data, family = config(name).data, name.partition("/")[0]
    by = "identities" if {name, family} & BY_IDENTITIES and "quick" not in name else "images"
    assert data.epoch_by == by


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
