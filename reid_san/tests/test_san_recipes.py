"""The recipes: one for every row of the tables, with the settings of the paper and its code."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import RunConfig
from reid_core.loop.rates import rate_factor
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder

FOLDER = Path(str(files("reid_san"))) / "recipes" / "san"
ALL = sorted(path.stem for path in FOLDER.glob("*.toml"))
SYNTHETIC = [name for name in ALL if name.startswith("synthpeople")]
PAPER = [name for name in ALL if name not in SYNTHETIC]
SETS = {
    "cuhk03-labeled": "cuhk03/labeled",
    "cuhk03-detected": "cuhk03/detected",
    "market1501": "market1501",
    "msmt17": "msmt17/v1+val",
}
ROWS = {
    "baseline": None,
    "basic": ("texture", 0.0, 0),
    "tr": ("texture", 1.0, 0),
    "synthetic": ("texture", 0.0, 1),
    "input": ("input", 0.0, 0),
    "pose": ("pose", 0.0, 0),
    "pngan": ("pose", 0.0, 0),
}


def config(name: str, **flags: Any) -> RunConfig:
    return resolve(flags, recipe=f"san/{name}").config


def test_there_is_one_for_every_row_of_the_tables() -> None:
    wanted = {"paper", "official-code", "partial", "partial-baseline"}
    wanted |= {*SETS, *(f"{name}-baseline" for name in SETS)}
    wanted |= {f"{name}-{row}" for name in ("cuhk03-labeled", "market1501") for row in ROWS}
    assert set(PAPER) == wanted


@pytest.mark.parametrize("name", PAPER)
def test_what_all_of_them_share(name: str) -> None:
    found = config(name)
    data, model, optim = found.data, found.model, found.optim
    assert (data.height, data.width, data.batch_size, data.instances) == (256, 128, 64, 4)
    assert data.sampler == "pk"
    assert (model.backbone, model.last_stride, model.pooling) == ("resnet50.tv_in1k", 1, "avg")
    assert (model.pretrained, model.neck) == (True, "none")
    assert (optim.name, optim.lr, optim.weight_decay) == ("amsgrad", 8e-4, 5e-4)
    assert (found.identity.label_smoothing, found.identity.margin) == (0.1, 0.3)
    assert (found.augment.flip, found.augment.enlarge, found.augment.enlarge_p) == (0.5, 1.125, 0.5)
    assert (found.augment.erasing, found.augment.erasing_area) == (0.5, (0.02, 0.4))
    assert (found.evaluation.distance, found.evaluation.flip) == ("euclidean", "off")
    weights = (1.0, 1.0) if name == "official-code" else (0.5, 1.5)
    assert (found.identity.ce_weight, found.identity.triplet_weight) == weights


def test_the_learning_rate_is_the_public_code_s() -> None:
    found = config("cuhk03-labeled")
    rates = [found.optim.lr * rate_factor(found.schedule, epoch) for epoch in range(320)]
    assert found.schedule.epochs == 320
    for epoch in range(20):
        assert rates[epoch] == pytest.approx(8e-6 * 1.259**epoch, rel=2e-3)
    assert rates[19] == pytest.approx(6.36e-4, rel=2e-3)
    main = rates[20:]
    assert (main[0], main[39], main[40]) == (8e-4, 8e-4, 4e-4)
    assert main[280] == pytest.approx(6.25e-6)
    assert main[240] == pytest.approx(1.25e-5)


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_data_set_has_its_name_and_the_whole_of_san(name: str) -> None:
    found = config(name)
    assert (found.data.name, found.run.plugins) == (SETS[name], ("san",))
    assert config(f"{name}-baseline").data.name == SETS[name]
    assert config(f"{name}-baseline").run.plugins == ()
    chosen = found.plugins["san"]
    assert (chosen["rec"], chosen["tr"], chosen["synthetic"]) == (1.0, 1.0, 1.0)
    assert (chosen["synthetic_every"], chosen["pairs_batch"], chosen["start"]) == (1, 64, "pg")
    assert (chosen["blocks"], chosen["margin"]) == ([1, 2, 3], 0.3)
    wanted = {"tr_norm": "hw", "tr_sampling": "random", "tr_reduce": "mean", "skips": "none"}
    wanted["centred"] = False
    assert wanted.items() <= chosen.items()
    assert (chosen["pg_epochs"], chosen["pg_lr"], chosen["pg_batch"]) == (100, 1e-4, 64)
    assert found.labels == {"texture": "san"}


@pytest.mark.parametrize("row", [row for row in ROWS if ROWS[row]])
@pytest.mark.parametrize("name", ["cuhk03-labeled", "market1501"])
def test_the_rows_of_tables_1_and_2(name: str, row: str) -> None:
    chosen = config(f"{name}-{row}").plugins["san"]
    assert (chosen["guide"], chosen["tr"], chosen["synthetic_every"]) == ROWS[row]


def test_the_public_code_differs_as_listed() -> None:
    found = config("official-code")
    chosen = found.plugins["san"]
    wanted = {
        "embed": "fc512",
        "skips": "unet",
        "gain": 0.02,
        "centred": False,
        "blocks": [1, 2, 3, 4],
        "tr_norm": "chw",
        "tr_sampling": "fixed",
        "tr_reduce": "sum",
        "scheme": "two_step",
        "texture_lr": 1e-5,
        "start": "none",
        "synthetic_every": 0,
        "texture_size": 256,
    }
    assert wanted.items() <= chosen.items()
    assert found.data.name == "cuhk03/labeled"
    assert found.evaluation.vector == "declared"


def test_partial_images_come_when_the_market_s_training_is_over() -> None:
    for name, base in (("partial", "market1501"), ("partial-baseline", "market1501-baseline")):
        found, whole = config(name), config(base)
        assert found.augment.partial_from == whole.schedule.epochs == 320
        assert found.schedule.epochs == 380
        assert (found.augment.partial, whole.augment.partial) == (0.5, 0.0)
        assert (found.augment.partial_height, found.augment.partial_width) == (
            (0.5, 1.0),
            (0.75, 1.0),
        )
        assert found.run.plugins == whole.run.plugins


@pytest.mark.parametrize("name", ["cuhk03-labeled", "market1501-synthetic", "partial"])
def test_a_recipe_trains_when_it_is_made_small(name: str, reid_cache: Path) -> None:
    small: dict[str, Any] = {
        "data": {"name": "toy:tiny", "height": 64, "width": 32, "batch_size": 8, "instances": 2},
        "model": {"pretrained": False, "backbone": "test_resnet"},
        "schedule": {"epochs": 1, "iterations_per_epoch": 2},
        "engine": {"device": "cpu", "tensorboard": False},
        "sources": {"san/pairs": "toy-pairs:tiny"},
        "plugins": {"san": {"pg_epochs": 1, "pg_iterations": 2, "pg_batch": 8, "pairs_batch": 8}},
        "evaluation": {"ranked_list": 0},
    }
    assembly = assemble(resolve(small, recipe=f"san/{name}"), cache=reid_cache, say=lambda _: None)
    trainer = Recorder(assembly)
    trainer.fit()
    assert len(trainer.trace) == 2


def test_every_recipe_says_what_it_is() -> None:
    for name in ALL:
        text = (FOLDER / f"{name}.toml").read_text("utf-8")
        assert text.startswith("# "), name
        assert set(tomllib.loads(text)) <= {*RunConfig.model_fields, "base"}, name
