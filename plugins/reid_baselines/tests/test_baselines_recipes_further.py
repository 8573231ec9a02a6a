"""Recipes of transformers, CLIP and clusters: published settings, and that each of them trains."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import RunConfig
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import Recorder, tiny_assembly

METHODS = ("transreid", "clipreid", "cluster_contrast", "spcl")
FOLDER = Path(str(files("reid_baselines"))) / "recipes"
ALL = sorted(f"{name}/{path.stem}" for name in METHODS for path in FOLDER.glob(f"{name}/*.toml"))
FEW = {"k1": 6, "k2": 2, "min_samples": 2}
SMALL: dict[str, dict[str, Any]] = {
    "clipreid": {"prompt_epochs": 1, "text": "random", "text_pretrained": "none"},
    "cluster_contrast": FEW,
    "spcl": FEW,
}
"""What makes a plugin small, and do without what is downloaded."""


def config(recipe: str) -> RunConfig:
    return resolve({}, recipe=recipe).config


@pytest.mark.parametrize("method", METHODS)
def test_what_the_recipes_of_real_images_share(method: str) -> None:
    found = config(f"{method}/market1501")
    assert (found.run.plugins, found.data.name) == ((method,), "market1501")
    assert (found.data.height, found.data.width) == (256, 128)
    assert (found.augment.flip, found.augment.pad, found.augment.erasing) == (0.5, 10, 0.5)
    assert found.model.pretrained is True
    other = config(f"{method}/msmt17")
    assert other.data.name == "msmt17/v1+val"
    assert (other.optim, other.plugins, other.model) == (found.optim, found.plugins, found.model)


def test_transreid_is_trained_as_published() -> None:
    found = config("transreid/market1501")
    assert (found.data.batch_size, found.data.instances) == (64, 4)
    assert (found.optim.name, found.optim.lr, found.optim.weight_decay) == ("sgd", 0.008, 1e-4)
    schedule = found.schedule
    assert (schedule.epochs, schedule.warmup_epochs, schedule.warmup_start) == (120, 5, 0.01)
    assert (schedule.decay, schedule.floor) == ("cosine", 0.002)
    assert found.identity.soft_margin
    assert found.plugins["transreid"] == {
        "stride": 12,
        "camera": True,
        "view": None,
        "jigsaw": True,
        "side_scale": 3.0,
        "groups": 4,
        "shift": 4,
        "shuffle": 2,
        "drop_path": 0.1,
        "bias_lr_scale": 2.0,
    }
    baseline = config("transreid/market1501_baseline").plugins["transreid"]
    assert (baseline["stride"], baseline["camera"], baseline["jigsaw"]) == (None, False, False)


def test_clipreid_is_trained_as_published() -> None:
    found = config("clipreid/market1501")
    assert (found.optim.name, found.optim.lr, found.optim.weight_decay) == ("adam", 5e-6, 1e-4)
    schedule = found.schedule
    assert (schedule.epochs, schedule.warmup_epochs, schedule.warmup_start) == (60, 10, 0.1)
    assert (schedule.milestones, schedule.gamma) == ((30, 50), 0.1)
    identity = found.identity
    assert (identity.ce_weight, identity.triplet_weight, identity.margin) == (0.25, 1.0, 0.3)
    assert identity.label_smoothing == 0.1
    ours = found.plugins["clipreid"]
    assert (ours["text"], ours["text_pretrained"]) == ("ViT-B-16-quickgelu", "openai")
    assert (ours["words"], ours["prompt_epochs"], ours["prompt_lr"]) == (4, 120, 3.5e-4)
    both = config("clipreid/msmt17_sie_olp")
    assert both.own == {"embedding": "clipreid"}
    assert (both.plugins["transreid"]["stride"], both.plugins["transreid"]["side_scale"]) == (12, 1)


@pytest.mark.parametrize(
    ("method", "batch", "iterations", "momentum"),
    [("cluster_contrast", (256, 16), (200, 400), 0.1), ("spcl", (64, 4), (400, 800), 0.2)],
)
def test_clusters_are_learnt_from_as_published(
    method: str, batch: tuple[int, int], iterations: tuple[int, int], momentum: float
) -> None:
    found = config(f"{method}/market1501")
    assert (found.data.batch_size, found.data.instances) == batch
    assert (found.optim.name, found.optim.lr, found.optim.weight_decay) == ("adam", 3.5e-4, 5e-4)
    schedule = found.schedule
    assert (schedule.epochs, schedule.milestones, schedule.gamma) == (50, (20, 40), 0.1)
    assert schedule.iterations_per_epoch == iterations[0]
    assert config(f"{method}/msmt17").schedule.iterations_per_epoch == iterations[1]
    ours = found.plugins[method]
    assert (ours["k1"], ours["k2"], ours["eps"], ours["min_samples"]) == (30, 6, 0.6, 4)
    assert (ours["temperature"], ours["momentum"]) == (0.05, momentum)
    assert (found.model.pooling, found.model.neck) == (
        "gem" if method == "cluster_contrast" else "avg",
        "bn",
    )


@pytest.mark.parametrize("name", ALL)
def test_a_further_recipe_trains_when_it_is_made_small(name: str, reid_cache: Path) -> None:
    family = name.partition("/")[0]
    small: dict[str, Any] = {
        "data": {"name": "toy:tiny", "height": 64, "width": 32, "batch_size": 8, "instances": 2},
        "model": {"pretrained": False, "backbone": "test_resnet"},
        "schedule": {"epochs": 1, "iterations_per_epoch": 2},
        "engine": {"device": "cpu", "tensorboard": False},
        "evaluation": {"ranked_list": 0, "untrained": False},
        "plugins": {family: SMALL.get(family, {})},
    }
    if family in ("transreid", "clipreid"):
        small["model"]["backbone"] = "test_vit"
    trainer = Recorder(
        assemble(
            resolve(small, recipe=name), cache=reid_cache, say=lambda line: None, stages=Stages()
        )
    )
    trainer.fit()
    assert len(trainer.trace) == 2


def test_every_further_recipe_says_what_it_is() -> None:
    for name in ALL:
        text = (FOLDER / f"{name}.toml").read_text("utf-8")
        assert text.startswith("# "), name
        assert set(tomllib.loads(text)) <= {"base", *RunConfig.model_fields}, name


def test_clip_trains_in_the_encoder_of_transreid(reid_cache: Path) -> None:
    layers: tuple[dict[str, Any], ...] = (
        {"model": {"backbone": "test_vit"}, "own": {"embedding": "clipreid"}},
        {"plugins": {"clipreid": {"prompt_epochs": 1}}},
    )
    assembly = tiny_assembly(("clipreid", "transreid"), *layers, cache=reid_cache)
    assert list(assembly.embedder().heads) == ["clipreid/image", "clipreid/projected"]
    assert assembly.model.encoder.reads == ("camid",)
    assert not assembly.model.encoder.local
    trainer = Recorder(assembly)
    trainer.train_epoch()
    assert "main:clipreid/i2t" in trainer.trace[-1]
