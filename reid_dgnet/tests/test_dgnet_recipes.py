"""The recipes: every key of the paper's, and that every one of them resolves."""

from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reid_core.config import RunConfig
from reid_core.data.sampling import make_sampler
from reid_core.runs.resolve import resolve
from reid_dgnet.settings import DgnetSettings
from reid_dgnet.teacher import teacher_stage

FOLDER = Path(str(files("reid_dgnet"))) / "recipes" / "dgnet"
ALL = sorted(path.stem for path in FOLDER.glob("*.toml"))

# What the paper and the authors' code say, key by key.
PAPER = {
    "data": {
        "name": "market1501",
        "height": 256,
        "width": 128,
        "batch_size": 32,  # two batches of 8 anchors, and another image of each person
        "sampler": "pairs",
        "epoch_by": "images",
        "validation": 0.0,
    },
    "augment": {
        "flip": 0.5,
        "pad": 10,
        "pad_mode": "edge",
        "erasing": 0.5,
        "erasing_area": [0.02, 0.4],
        "erasing_aspect": [0.3, 3.33],
        "erasing_log_aspect": False,
        "enlarge": 1.0,
        "partial": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
        "grayscale": 0.0,
        "blur": 0.0,
    },
    "model": {
        "backbone": "resnet50.tv_in1k",
        "pretrained": True,
        "last_stride": 1,
        "start": "random",  # beside the weights of ImageNet
    },
    "optim": {
        "name": "sgd",
        "lr": 0.002,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "new_layers_scale": 10,
        "clip_norm": None,
    },
    "schedule": {
        "epochs": 100,
        "iterations_per_epoch": 1000,
        "warmup_epochs": 0,
        "decay": "step",
        "milestones": [60, 90],  # the third, 105,000, is never reached
        "gamma": 0.1,
        "per_iteration": True,
    },
    "engine": {"precision": "fp32"},
    "evaluation": {
        "distance": "cosine",
        "vector": "declared",
        "flip": "sum",
        "reranking": "none",
        "select": "last",
        "protocols": [],
        "embed": [],
    },
    "identity": {"label_smoothing": 0.0},
    "dgnet": {
        # tables 6 to 8, section 4.1
        "width": 16,
        "blocks": 4,
        "aspp": True,
        "non_local": False,
        "code_layout": "channel_group",
        "head_pool": "max",
        "dim": 512,
        "anchors": 16,
        # figure 8
        "alpha": 0.2,
        "beta": 0.5,
        # section 3.2
        "teacher": "stage",
        "teacher_mode": "eval_bn_batch",
        "teacher_epochs": 60,
        "teacher_iterations": None,
        "teacher_lr": 0.005,
        "teacher_stride": None,
        "labels": "soft",
        "feed": True,
        "offline": None,
        # equation 10
        "image1": 5,
        "image2": 5,
        "code1": 1,
        "code1_grad": "log_only",
        "code2": 1,
        "cycle": 2,
        "again": 0.5,
        "identity": 1,
        "identity_generated": 0.5,
        "adversarial": 1,
        "gan": "lsgan",
        "r1": 0.01,
        "primary": 2,
        "fine_on_real": True,
        "appearance_grad": "none",
        "warmup_begin": 30_000,
        "warmup_rate": 0.0005,
        # section 4.1
        "generator_lr": 1e-4,
        "discriminator_lr": 1e-4,
        "clean_statistics": "update",
    },
}
PICTURES = {"picture": 6, "picture_every": 10}
MSMT = {
    "data": {"name": "msmt17/v1+val"},
    "schedule": {"epochs": 150, "milestones": [60, 90, 105]},
}
CHANGED = {
    "market1501": {},
    "msmt17": MSMT,
    "cuhk03": {"data": {"name": "cuhk03/detected"}},
    "market1501_no_feeding": {"dgnet": {"feed": False}},
    "market1501_no_identity": {"dgnet": {"feed": False, "identity_generated": 0}},
    "market1501_primary_alone": {"dgnet": {"alpha": 0, "beta": 0}},
    "market1501_uniform_labels": {"dgnet": {"labels": "uniform"}},
    "market1501_hard_labels": {"dgnet": {"labels": "hard"}},
    "market1501_teacher_with_dropout": {"dgnet": {"teacher_mode": "official_accident"}},
    "market1501_appearance_grad": {
        "dgnet": {"appearance_grad": "all", "code1_grad": "through_generator"}
    },
    "market1501_equation10": {"dgnet": {"cycle": 0, "fine_on_real": False}},
}


def resolved(name):
    return resolve({}, recipe=f"dgnet/{name}").config


def sections(name):
    content = resolved(name).model_dump(mode="json")
    empty = [content.pop(key) for key in ("own", "labels", "fields", "sources", "loss_weights")]
    assert not any(empty)
    assert content.pop("run")["plugins"] == ["dgnet"]
    return {**{k: v for k, v in content.items() if k != "plugins"}, **content["plugins"]}


def test_every_recipe_is_here():
    assert {*CHANGED, "quick"} == set(ALL)


@pytest.mark.parametrize("name", CHANGED)
def test_every_key_is_the_paper_s_or_the_row_s(name):
    found, plain = sections(name), RunConfig().model_dump(mode="json")
    assert {**found["dgnet"], **PICTURES} == found["dgnet"]
    plain["dgnet"] = PICTURES
    assert set(found) == set(PAPER)
    for section, values in found.items():
        # What the paper is silent about stays as the core has it: no quick recipe's value slips in.
        assert values == {**plain[section], **PAPER[section], **CHANGED[name].get(section, {})}


@pytest.mark.parametrize(
    ("name", "images", "steps"),
    [("market1501", 12_936, 24_240), ("msmt17", 32_621, 61_140), ("cuhk03", 7_365, 13_800)],
)
def test_a_teacher_sees_all_images_60_times(name, images, steps):
    config = resolved(name)
    providers = SimpleNamespace(backbone=lambda name: None)
    ctx = SimpleNamespace(config=config, providers=providers)
    stage = teacher_stage(ctx, DgnetSettings(**config.plugins["dgnet"])).settings
    schedule = stage["schedule"]
    assert schedule["iterations_per_epoch"] is None
    none = np.zeros(images, dtype=np.int64)
    sampler = make_sampler(stage["data"]["sampler"], none, none, config.data.batch_size)
    assert schedule["epochs"] * len(sampler) == steps
    assert schedule["milestones"] == [40]
    assert stage["optim"] == {"lr": 0.005}
    assert stage["augment"] == {"erasing": 0.0}
    assert stage["model"] == {"last_stride": 2}


def test_a_teacher_s_epochs_are_whole_passes_unless_somebody_says_otherwise():
    assert DgnetSettings().teacher_iterations is None
    assert DgnetSettings(**resolved("quick").plugins["dgnet"]).teacher_iterations == 20
    flags = {"plugins": {"dgnet": {"teacher_iterations": "none"}}}
    config = resolve(flags, recipe="dgnet/quick").config
    assert config.plugins["dgnet"]["teacher_iterations"] is None


def test_the_quick_recipe_stays_within_the_quick_budget():
    config = resolved("quick")
    settings = DgnetSettings(**config.plugins["dgnet"])
    schedule, batch = config.schedule, config.data.batch_size
    passes = schedule.epochs * schedule.iterations_per_epoch * batch
    passes += settings.teacher_epochs * settings.teacher_iterations * batch
    assert passes <= 9_000
    assert config.model == resolve().config.model
    assert settings.warmup_begin < schedule.epochs * schedule.iterations_per_epoch / 2
