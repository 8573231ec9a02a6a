"""The recipes: the authors' settings, and that every one of them resolves."""

from importlib.resources import files
from pathlib import Path

import pytest

from reid_core.resolve import resolve
from reid_dgnet.settings import DgnetSettings

FOLDER = Path(str(files("reid_dgnet"))) / "recipes" / "dgnet"
ALL = sorted(path.stem for path in FOLDER.glob("*.toml"))
FULL = [name for name in ALL if name != "quick"]
DATA = {"market1501": "market1501", "msmt17": "msmt17/v1+val", "cuhk03": "cuhk03/detected"}


def resolved(name):
    config = resolve({}, recipe=f"dgnet/{name}").config
    return config, DgnetSettings(**config.plugins["dgnet"])


@pytest.mark.parametrize("name", FULL)
def test_what_all_full_recipes_share(name):
    config, settings = resolved(name)
    assert config.data.name == DATA[name.partition("_")[0]]
    assert (config.data.size, config.data.batch_size) == ((256, 128), 32)
    assert config.data.sampler == "pairs"
    assert (config.augment.pad_mode, config.augment.erasing) == ("edge", 0.5)
    assert (config.model.last_stride, config.model.pretrained) == (1, True)
    optim = config.optim
    assert (optim.name, optim.lr, optim.momentum, optim.nesterov) == ("sgd", 0.002, 0.9, True)
    assert (optim.weight_decay, optim.new_layers_scale) == (5e-4, 10)
    assert (settings.width, settings.blocks, settings.dim, settings.anchors) == (16, 4, 512, 16)
    assert (settings.generator_lr, settings.discriminator_lr) == (1e-4, 1e-4)
    assert (settings.warmup_begin, settings.warmup_rate) == (30_000, 0.0005)
    assert (settings.image1, settings.image2, settings.adversarial) == (5, 5, 1)
    assert (settings.r1, settings.primary) == (0.01, 2)


@pytest.mark.parametrize(
    ("name", "iterations"), [("market1501", 100_000), ("msmt17", 150_000), ("cuhk03", 100_000)]
)
def test_lengths(name, iterations):
    schedule = resolved(name)[0].schedule
    assert schedule.epochs * schedule.iterations_per_epoch == iterations
    assert [m * schedule.iterations_per_epoch for m in schedule.milestones] == [60_000, 90_000]
    assert (schedule.per_iteration, schedule.warmup_epochs, schedule.gamma) == (True, 0, 0.1)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no_feeding", {"feed": False}),
        ("no_identity", {"identity_generated": 0.0}),
        ("primary_alone", {"alpha": 0.0, "beta": 0.0}),
        ("uniform_labels", {"labels": "uniform"}),
        ("hard_labels", {"labels": "hard"}),
        ("teacher_with_dropout", {"teacher_mode": "official_accident"}),
        ("appearance_grad", {"appearance_grad": "all", "code1_grad": "through_generator"}),
        ("equation10", {"cycle": 0.0, "fine_on_real": False}),
    ],
)
def test_an_ablation_changes_what_it_says_and_nothing_else(name, changed):
    whole, part = (resolved(n)[1].model_dump() for n in ("market1501", f"market1501_{name}"))
    assert {key: value for key, value in part.items() if value != whole[key]} == changed


def test_the_quick_recipe_stays_within_the_quick_budget():
    config, settings = resolved("quick")
    schedule, batch = config.schedule, config.data.batch_size
    passes = schedule.epochs * schedule.iterations_per_epoch * batch
    passes += settings.teacher_epochs * settings.teacher_iterations * batch
    assert passes <= 9_000
    assert settings.warmup_begin < schedule.epochs * schedule.iterations_per_epoch / 2
