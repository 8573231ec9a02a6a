"""The recipes: every key of the paper's settings, and every row of its tables 2 to 5."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from reid_core import ConfigError, RunConfig
from reid_core.loop.rates import rate_factor
from reid_core.runs.resolve import resolve
from reid_fsam.settings import FsamSettings

FOLDER = Path(str(files("reid_fsam"))) / "recipes" / "fsam"
ALL = {path.stem for path in FOLDER.glob("*.toml")}
SETS = ("prcc", "ltcc", "vcclothes", "market1501")

PAPER: dict[str, dict[str, Any]] = {
    "data": {"height": 256, "width": 128, "batch_size": 64, "instances": 4, "sampler": "pk"},
    "augment": {"flip": 0.5, "erasing": 0.5},
    "model": {"backbone": "resnet50.tv_in1k", "pretrained": True},
    "optim": {"name": "adam", "lr": 3e-4},
    "schedule": {
        "epochs": 150,
        "warmup_epochs": 10,
        "warmup_start": 0.1,
        "decay": "step",
        "milestones": (40, 70),
        "gamma": 0.1,
    },
    "identity": {"margin": 0.3, "label_smoothing": 0.0, "ce_weight": 1.0, "triplet_weight": 1.0},
}
"""Section 5.2 and equations 2 and 3."""

UNSAID: dict[str, dict[str, Any]] = {
    "data": {"root": None, "validation": 0.0},
    "augment": {"pad": 0, "erasing_area": (0.02, 0.4), "erasing_aspect": (0.3, 3.33)},
    "model": {"last_stride": 1, "neck": "bn", "pooling": "avg", "dim": None, "start": "random"},
    "optim": {"weight_decay": 5e-4},
    "schedule": {"iterations_per_epoch": None, "per_iteration": False},
    "identity": {"soft_margin": False, "classifier_bias": False},
    "evaluation": {"embed": (), "protocols": (), "flip": "off", "reranking": "none"},
}
"""What the paper leaves open and README's table of readings states."""

METHOD: dict[str, Any] = {
    "stream": "fine",
    "branches": "pose",
    "clusters": 3,
    "mutual": "both",
    "kl_detach": False,
    "si_norm": "mean",
    "keep_weight": 10.0,
    "appearance": None,
    "blocks": (),
    "mask": "prob",
    "mask_size": None,
    "erased": "shared",
    "parser": "schp",
    "parser_weights": Path("schp.pth"),
    "parser_label_set": "pascal",
    "parser_data": None,
    "parser_epochs": 5,
    "parser_iterations": None,
    "parser_size": None,
    "parser_lr_scale": 1.0,
    "parser_bn": "train",
    "extractor": None,
    "poses": None,
    "pose_threshold": None,
    "pose_scale": "image",
}
"""All settings of the plugin but the two weights that differ between data sets."""

STATED = {
    "augment.flip": "probabilities of flipping and erasing",
    "augment.erasing": "probabilities of flipping and erasing",
    "augment.erasing_area": "areas of 2 to 40 %",
    "augment.erasing_aspect": "aspects of 0.3 to 3.33",
    "augment.pad": "no cropping",
    "data.validation": "`train`, not `val`",
    "evaluation.flip": "without the mirrored image",
    "evaluation.reranking": "not re-ranked",
    "fsam.blocks": "the four stages of a ResNet",
    "fsam.erased": "`fsam.erased=appearance`",
    "fsam.kl_detach": "`fsam.kl_detach`",
    "fsam.mask": "representation of a mask",
    "fsam.mask_size": "`fsam.mask_size`",
    "fsam.parser_bn": "`fsam.parser_bn=train`",
    "fsam.parser_label_set": "released PASCAL weights",
    "fsam.parser_lr_scale": "`fsam.parser_lr_scale`",
    "fsam.parser_size": "`fsam.parser_size`",
    "fsam.pose_scale": "`fsam.pose_scale=box`",
    "fsam.pose_threshold": "invisible at 0.4 or below",
    "fsam.si_norm": "norm of L_SI",
    "identity.classifier_bias": "a classifier without bias",
    "identity.label_smoothing": "no label smoothing",
    "model.backbone": "torchvision's first ones of ResNet-50, for both streams",
    "model.last_stride": "last stride 1",
    "model.neck": "BNNeck",
    "optim.weight_decay": "weight decay 5e-4",
    "schedule.iterations_per_epoch": "one pass over the images",
}
"""Keys on which the paper is silent, or against which it speaks, and what README's table says."""

SAID = {
    *("data.root", "evaluation.embed", "evaluation.protocols", "model.dim", "model.pooling"),
    *("model.start", "schedule.per_iteration", "identity.soft_margin"),
    *(f"fsam.{key}" for key in ("stream", "branches", "clusters", "mutual", "keep_weight")),
    *("fsam.appearance", "fsam.extractor", "fsam.parser", "fsam.parser_weights", "fsam.poses"),
    # Of a parser that is trained, which the paper's is not.
    *("fsam.parser_data", "fsam.parser_epochs", "fsam.parser_iterations"),
}
"""Keys that are the paper's, the user's own files, or idle."""

WEIGHTS = {
    "prcc": {"kl_weight": 5.0, "si_weight": 5.0},
    "ltcc": {"kl_weight": 1.0, "si_weight": 0.5},
    "vcclothes": {"kl_weight": 1.0, "si_weight": 1.0},
    "market1501": {"kl_weight": 1.0, "si_weight": 0.5},
}

ROWS: dict[str, dict[str, Any]] = {
    "s": {"mutual": "none"},
    "s_coarse": {"mutual": "none", "stream": "coarse"},
    "as": {"mutual": "none"},
    "s_mu": {},
    "as_mu": {},
    "kl": {"branches": "single", "si_weight": 0.0, "keep_weight": 0.0},
    "kl_si": {"branches": "single", "keep_weight": 0.0},
    "kl_si_lr": {"branches": "single"},
    "3b": {"branches": "sum"},
    "a_s_coarse": {"stream": "coarse"},
    "kl_aa": {"stream": "image", "si_weight": 0.0},
    "aa": {"stream": "image"},
    "one_way": {"mutual": "to_appearance"},
    "fro": {"si_norm": "fro"},
}
S, A_AND_S = ("fsam/shape",), ("core/global", "fsam/shape")
EMBED = {"s": S, "s_coarse": S, "s_mu": S, "as": A_AND_S, "as_mu": A_AND_S}
FILE = {"plugins": {"fsam": {"parser_weights": "schp.pth"}}}


def config(name: str) -> RunConfig:
    flags = {} if name in ("a", "quick") or name.endswith("_a") else FILE
    return resolve(flags, recipe=f"fsam/{name}").config


def settings(name: str) -> dict[str, Any]:
    return FsamSettings.model_validate(config(name).plugins["fsam"]).model_dump()


def test_there_is_one_for_every_row_and_data_set() -> None:
    baselines = {f"{data}_a" for data in SETS}
    assert {"a", "method", "quick", *SETS, *baselines, *ROWS} == ALL


@pytest.mark.parametrize("name", [*SETS, *(f"{data}_a" for data in SETS)])
def test_every_key_is_the_paper_s_or_stated(name: str) -> None:
    found = config(name)
    for expected in (PAPER, UNSAID):
        for section, values in expected.items():
            given = getattr(found, section).model_dump()
            assert {key: given[key] for key in values} == values
    # Nothing else that acts on training differs from the core's own defaults.
    plain = RunConfig()
    for section in ("data", "augment", "model", "optim", "schedule", "identity", "evaluation"):
        ours, theirs = (getattr(c, section).model_dump() for c in (found, plain))
        stated = {*PAPER.get(section, {}), *UNSAID.get(section, {}), "name"}
        assert {k for k in ours if ours[k] != theirs[k]} <= stated | {"name"}
    assert found.engine == plain.engine
    assert not found.loss_weights
    data = name.removesuffix("_a")
    assert found.data.name == data
    assert found.optim.name == "adam"
    assert found.run.plugins == (() if name.endswith("_a") else ("fsam",))
    if not name.endswith("_a"):
        assert settings(name) == {**METHOD, **WEIGHTS[data]}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 3e-5), (5, 1.65e-4), (9, 2.73e-4), (10, 3e-4), (39, 3e-4), (40, 3e-5), (70, 3e-6)],
)
def test_the_learning_rate_moves_as_printed(epoch: int, expected: float) -> None:
    found = config("prcc")
    factor = rate_factor(found.schedule, epoch)
    assert found.optim.lr * factor == pytest.approx(expected)


@pytest.mark.parametrize("data", ["prcc", "ltcc"])
@pytest.mark.parametrize("row", ROWS)
def test_a_row_changes_what_it_is_about(data: str, row: str) -> None:
    name = f"{data}+{row}"
    assert settings(name) == {**METHOD, **WEIGHTS[data], **ROWS[row]}
    whole, found = config(data), config(name)
    assert found.evaluation.embed == EMBED.get(row, ())
    for section in ("data", "augment", "model", "optim", "schedule", "identity"):
        assert getattr(found, section) == getattr(whole, section)
    assert found.run.plugins == ("fsam",)


def test_what_the_paper_leaves_open_is_in_the_readme_s_table() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    table = readme.partition("## Readings and deviations")[2].partition("\n## ")[0]
    assert [words for words in STATED.values() if words not in table] == []
    unsaid = {f"{section}.{key}" for section, values in UNSAID.items() for key in values}
    unsaid |= {f"fsam.{key}" for key in METHOD}
    assert unsaid <= {*STATED, *SAID}, "a key that nobody has compared with the paper"


def test_released_weights_are_the_user_s_to_bring() -> None:
    with pytest.raises(ConfigError, match=r"name their file with -s fsam.parser_weights=FILE"):
        resolve(recipe="fsam/prcc")


def test_the_quick_one_keeps_to_the_core_s_budget() -> None:
    found, plain = config("quick"), resolve().config
    steps = found.schedule.epochs * (found.schedule.iterations_per_epoch or 0)
    allowed = plain.schedule.epochs * (plain.schedule.iterations_per_epoch or 0)
    assert 2 * steps <= allowed, "two streams"
    assert found.data.size == plain.data.size
    assert found.model == plain.model
    ours, theirs = settings("quick"), FsamSettings().model_dump()
    assert {key: ours[key] for key in ours if ours[key] != theirs[key]} == {
        "mask_size": (64, 32),
        "parser_iterations": 40,
        "parser_lr_scale": 0.1,
    }
