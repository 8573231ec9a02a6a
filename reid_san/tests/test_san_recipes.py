"""The recipes: every key of every one, against the specification and the paper's tables."""

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
from reid_core.runs.stages import Stages
from reid_core.testing.tiny import Recorder
from reid_san.settings import SanSettings

FOLDER = Path(str(files("reid_san"))) / "recipes" / "san"
ALL = sorted(path.stem for path in FOLDER.glob("*.toml"))
SYNTHETIC = [name for name in ALL if name.startswith("synthpeople")]
PAPER = [name for name in ALL if name not in SYNTHETIC]

# The specification, a.6 and a.7: the public code's training with the paper's weights and feature.
TRAINING: dict[str, dict[str, Any]] = {
    "data": {"height": 256, "width": 128, "batch_size": 64, "instances": 4, "sampler": "pk"},
    "augment": {
        "flip": 0.5,
        "enlarge": 1.125,  # 288 x 144
        "enlarge_p": 0.5,
        "erasing": 0.5,
        "erasing_area": (0.02, 0.4),
        "erasing_aspect": (0.3, 3.33),
    },
    "model": {
        "backbone": "resnet50.tv_in1k",
        "pretrained": True,
        "last_stride": 1,
        "pooling": "avg",
        "neck": "none",
    },
    "identity": {
        "ce_weight": 0.5,
        "triplet_weight": 1.5,
        "label_smoothing": 0.1,
        "margin": 0.3,
    },
    "optim": {"name": "amsgrad", "lr": 8e-4, "weight_decay": 5e-4},
    "schedule": {
        "epochs": 320,
        "warmup_epochs": 20,
        "warmup_start": 0.01,
        "warmup_shape": "exponential",
        "decay": "step",
        "milestones": (60, 100, 140, 180, 220, 260, 300),
        "gamma": 0.5,
    },
    "evaluation": {"distance": "euclidean", "vector": "raw"},
}
SETS = {
    "cuhk03-labeled": "cuhk03/labeled",
    "cuhk03-detected": "cuhk03/detected",
    "market1501": "market1501",
    "msmt17": "msmt17/v1+val",
}
# Every setting of the plugin, b.1 to b.19 of the specification; None: not to be set.
FULL: dict[str, Any] = {
    "guide": "texture",
    "skips": "none",
    "width": None,
    "gain": 0.3,
    "centred": False,
    "colour": False,
    "rec": 1.0,
    "tr": 1.0,
    "synthetic": 1.0,
    "synthetic_every": 1,
    "pairs_batch": 64,
    "pairs_root": None,
    "frontal_root": None,
    "texture_size": None,
    "blocks": [1, 2, 3],
    "margin": 0.3,
    "tr_norm": "hw",
    "tr_sampling": "random",
    "tr_reduce": "mean",
    "start": "pg",
    "scheme": "joint",
    "texture_lr": 1e-5,
    "decoder_lr_scale": 1.0,
    "embed": "core",
    "pg_backbone": None,
    "pg_epochs": 100,
    "pg_iterations": 0,
    "pg_batch": 64,
    "pg_lr": 1e-4,
    "pg_decay": "constant",
}
ROWS: dict[str, dict[str, Any]] = {
    "basic": {"synthetic_every": 0, "tr": 0.0},
    "tr": {"synthetic_every": 0},
    "synthetic": {"tr": 0.0},
    "input": {"synthetic_every": 0, "tr": 0.0, "guide": "input", "start": "none"},
    "pose": {"synthetic_every": 0, "tr": 0.0, "guide": "pose"},
    "pngan": {"synthetic_every": 0, "tr": 0.0, "guide": "pngan", "start": "none"},
    "pg-resnet101": {"synthetic_every": 0, "tr": 0.0, "pg_backbone": "resnet101.tv_in1k"},
    "pg-densenet121": {"synthetic_every": 0, "tr": 0.0, "pg_backbone": "densenet121.tv_in1k"},
}
PARTIAL: dict[str, Any] = {
    "augment": {
        "partial": 0.5,
        "partial_height": (0.5, 1.0),
        "partial_width": (0.75, 1.0),
        "partial_from": 320,
    },
    "schedule": {"epochs": 380},
}
# The public code: columns 'code' of the specification's table b, lengths of SAN-PG being idle.
OFFICIAL: dict[str, Any] = {
    **{key: field.default for key, field in SanSettings.model_fields.items() if key[:3] == "pg_"},
    "pairs_batch": SanSettings().pairs_batch,
    "decoder_lr_scale": SanSettings().decoder_lr_scale,
    "embed": "fc512",
    "skips": "unet",
    "gain": 0.02,
    "blocks": [1, 2, 3, 4],
    "tr_norm": "chw",
    "tr_sampling": "fixed",
    "tr_reduce": "sum",
    "scheme": "two_step",
    "start": "none",
    "synthetic_every": 0,
    "texture_size": 256,
}


BROUGHT = {"pngan": {"frontal_root": "frontal"}, "pose": {"pairs_root": "pairs"}}
"""What the user of a row has to name."""


def config(name: str, **flags: Any) -> RunConfig:
    for row, brought in BROUGHT.items():
        if name.endswith(row):
            flags = {**flags, "plugins": {"san": brought}}
    return resolve(flags, recipe=f"san/{name}").config


def expected(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what a recipe's sections and its plugin's settings have to be."""
    sections: dict[str, Any] = {key: dict(values) for key, values in TRAINING.items()}
    data = next((value for key, value in SETS.items() if name.startswith(key)), None)
    if name.startswith("partial"):
        data = "market1501"
        for section, values in PARTIAL.items():
            sections[section].update(values)
    if name == "official-code":
        data = "cuhk03/labeled"
        sections["identity"] |= {"ce_weight": 1.0, "triplet_weight": 1.0}
        sections["evaluation"]["vector"] = "declared"
        return _with_data(sections, data), FULL | OFFICIAL
    if name == "paper" or name.endswith("-baseline"):
        return _with_data(sections, data), None
    row = next((row for row in ROWS if name.endswith(f"-{row}")), "")
    settings = {**FULL, **ROWS.get(row, {})}
    settings |= BROUGHT.get(row, {})
    return _with_data(sections, data), settings


def _with_data(sections: dict[str, Any], data: str | None) -> dict[str, Any]:
    if data is not None:
        sections["data"]["name"] = data
    return sections


def test_there_is_one_for_every_row_of_the_tables() -> None:
    wanted = {"paper", "paper-full", "official-code", "partial", "partial-baseline"}
    wanted |= {*SETS, *(f"{name}-baseline" for name in SETS)}
    tables = ("baseline", "basic", "tr", "synthetic", "input", "pose", "pngan")
    wanted |= {f"{name}-{row}" for name in ("cuhk03-labeled", "market1501") for row in tables}
    wanted |= {"market1501-pg-resnet101", "market1501-pg-densenet121"}
    assert set(PAPER) == wanted


@pytest.mark.parametrize("name", PAPER)
def test_every_key_of_every_paper_recipe_is_the_specification_s(name: str) -> None:
    """Nothing is left to the quick recipe, and what is left to the core is the core's default."""
    found = config(name).model_dump()
    sections, settings = expected(name)
    wanted = RunConfig().model_dump()
    for section, values in sections.items():
        wanted[section].update(values)
        assert found[section] == wanted[section], section
    for section in ("own", "fields", "loss_weights", "engine"):
        assert found[section] == wanted[section], section
    plugins = {} if settings is None else {"san": settings}
    assert found["plugins"] == plugins
    assert found["run"]["plugins"] == tuple(plugins)
    field = {"texture": "texture", "pose": "san/frontal", "pngan": "san/frontal"}
    made = field.get(settings["guide"]) if settings else None
    assert found["labels"] == ({made: "san"} if made else {})
    full = settings is not None and name != "official-code"
    assert found["sources"] == ({"san/pairs": "san-pairs"} if full else {})


def test_the_settings_of_the_quick_recipe() -> None:
    quick = SanSettings()
    differing = {
        "centred": True,
        "colour": True,
        "tr_norm": "chw",
        "decoder_lr_scale": 0.2,
        "pairs_batch": 16,
        "pg_epochs": 3,
        "pg_iterations": 20,
        "pg_batch": 32,
        "pg_lr": 1e-3,
        "pg_decay": "cosine",
    }
    assert quick.model_dump(mode="json") == FULL | differing


@pytest.mark.parametrize("name", SYNTHETIC)
def test_rows_on_synthetic_people_differ_from_the_quick_recipe_in_what_their_row_says(
    name: str,
) -> None:
    found = config(name)
    random = {"backbone": "resnet18", "pretrained": False}
    quick = resolve({"data": {"name": "synthpeople:quick"}, "model": random}).config
    for section in ("data", "augment", "model", "optim", "schedule", "evaluation"):
        assert getattr(found, section) == getattr(quick, section), section
    assert (found.identity.ce_weight, found.identity.triplet_weight) == (0.5, 1.5)
    row = name.removeprefix("synthpeople").removeprefix("-")
    if row == "baseline":
        assert found.run.plugins == ()
        return
    start = {"rec": 0.0, "tr": 0.0, "synthetic_every": 0}
    changed = start if row == "start" else ROWS.get(row, {})
    wanted = SanSettings(**changed, **BROUGHT.get(row, {}))
    assert found.plugins["san"] == wanted.model_dump(mode="json")


def test_the_learning_rate_is_the_public_code_s() -> None:
    found = config("cuhk03-labeled")
    rates = [found.optim.lr * rate_factor(found.schedule, epoch) for epoch in range(320)]
    for epoch in range(20):
        assert rates[epoch] == pytest.approx(8e-6 * 1.259**epoch, rel=2e-3)
    assert rates[19] == pytest.approx(6.36e-4, rel=2e-3)
    main = rates[20:]
    assert (main[0], main[39], main[40]) == (8e-4, 8e-4, 4e-4)
    assert main[280] == pytest.approx(6.25e-6)
    assert main[240] == pytest.approx(1.25e-5)


@pytest.mark.parametrize("name", ["cuhk03-labeled", "partial"])
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
    resolved = resolve(small, recipe=f"san/{name}")
    assembly = assemble(resolved, cache=reid_cache, say=lambda _: None, stages=Stages())
    trainer = Recorder(assembly)
    trainer.fit()
    assert len(trainer.trace) == 2


def test_every_recipe_says_what_it_is() -> None:
    for name in ALL:
        text = (FOLDER / f"{name}.toml").read_text("utf-8")
        assert text.startswith("# "), name
        assert set(tomllib.loads(text)) <= {*RunConfig.model_fields, "base"}, name
