"""The configuration: frozen, closed, in range, and the same after a trip through TOML."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ValidationError

from reid_core.cli.options import to_flags
from reid_core.config import RunConfig, cache_folder, differences, known_keys
from reid_core.errors import ConfigError
from reid_core.plugins.discovery import installed, load_class
from reid_core.runs.resolve import resolve, validated

SECTIONS = {
    "run",
    "data",
    "augment",
    "model",
    "identity",
    "optim",
    "schedule",
    "engine",
    "evaluation",
    "loss_weights",
    "own",
    "labels",
    "fields",
    "sources",
    "plugins",
}

positive = st.floats(1e-6, 1e3)
share = st.floats(0, 1)
names = st.text("abcdefgh_", min_size=1, max_size=6)


@st.composite
def configurations(draw: st.DrawFn) -> RunConfig:
    instances = draw(st.integers(1, 8))
    neck = draw(st.sampled_from(["none", "bn", "fc", "fc_bn", "fc_bn_relu"]))
    values: dict[str, dict[str, Any]] = {
        "run": {"plugins": draw(st.lists(names, max_size=3)), "seed": draw(st.integers(0, 99))},
        "data": {
            "root": draw(st.none() | st.just(Path("some/where"))),
            "batch_size": instances * draw(st.integers(1, 9)),
            "instances": instances,
        },
        "augment": {"flip": draw(share), "erasing_area": (0.1, 0.5)},
        "model": {
            "pretrained": draw(st.booleans() | st.just(Path("weights.pth"))),
            "neck": neck,
            "dim": draw(st.none() | st.integers(1, 512)) if neck.startswith("fc") else None,
        },
        "optim": {
            "lr": draw(positive),
            "betas": (draw(share), draw(share)),
            "clip_norm": draw(st.none() | positive),
        },
        "schedule": {
            "milestones": draw(st.lists(positive, max_size=4)),
            "iterations_per_epoch": draw(st.none() | st.integers(1, 9)),
        },
        "engine": {"channels_last": draw(st.sampled_from([True, False, "auto"]))},
        "loss_weights": draw(
            st.dictionaries(st.just("core/global/ce") | names, st.floats(0, 5), max_size=3)
        ),
        "fields": {"parts": Path("masks")},
        "plugins": {"zebra": {"weights": [1.0, 2.5], "inner": {"deep": True}}},
    }
    return RunConfig.model_validate(values)


@settings(max_examples=60, deadline=None)
@given(configurations())
def test_a_configuration_survives_toml(config: RunConfig) -> None:
    text = config.to_toml()
    again = RunConfig.model_validate(tomllib.loads(text))
    assert again == config
    assert again.to_toml() == text


def test_sections_and_keys_are_these() -> None:
    assert set(RunConfig.model_fields) == SECTIONS
    keys = known_keys()
    assert len(keys) == len(set(keys))
    assert {"optim.lr", "data.batch_size", "model.last_stride", "loss_weights"} <= set(keys)


def test_defaults_are_valid_and_everything_is_frozen() -> None:
    config = RunConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.optim.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.optim = config.optim  # type: ignore[misc]


def test_none_undoes_a_recipe_s_value_where_there_may_be_none() -> None:
    recipe = {"schedule": {"iterations_per_epoch": 20}, "optim": {"clip_norm": 1.0}}
    flags = {"schedule": {"iterations_per_epoch": "none"}, "optim": {"clip_norm": "none"}}
    config = resolve(flags, recipe=recipe).config
    assert (config.schedule.iterations_per_epoch, config.optim.clip_norm) == (None, None)
    assert resolve({"model": {"neck": "none"}}).config.model.neck == "none"
    with pytest.raises(ConfigError, match=r"schedule.epochs: .*integer.*given: 'none'"):
        resolve({"schedule": {"epochs": "none"}})


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_section_is_closed(name: str) -> None:
    kind = RunConfig.model_fields[name].annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        with pytest.raises(ConfigError, match=rf"unknown key '{name}\.no_such_key'"):
            validated(RunConfig, {name: {"no_such_key": 1}})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("run", "seed", -1),
        ("run", "seed", 2**31),
        ("data", "batch_size", 0),
        ("data", "batch_size", "many"),
        ("data", "batch_size", 8.5),
        ("data", "sampler", "pq"),
        ("augment", "flip", 1.5),
        ("augment", "erasing_area", (0.1,)),
        ("augment", "hue", 0.6),
        ("model", "last_stride", 3),
        ("model", "neck", "relu"),
        ("identity", "label_smoothing", 1.0),
        ("identity", "margin", -0.1),
        ("optim", "lr", 0),
        ("optim", "lr", "fast"),
        ("optim", "momentum", 1.0),
        ("optim", "betas", (0.9, 1.1)),
        ("schedule", "epochs", 0),
        ("schedule", "warmup_start", 0),
        ("engine", "precision", "fp16"),
        ("evaluation", "every", -1),
        ("loss_weights", "core/global/ce", "much"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_given(
    section: str, key: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(RunConfig, {section: {key: value}})
    message = str(caught.value)
    assert message.startswith(f"{section}.{key}")
    assert "\n" not in message
    culprit = max(value) if isinstance(value, tuple) else value
    assert str(culprit) in message.partition("given: ")[2]


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize(
    ("section", "key"), [("optim", "lr"), ("identity", "margin"), ("loss_weights", "core/x")]
)
def test_a_value_that_is_not_finite_is_refused(section: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
        validated(RunConfig, {section: {key: value}})


def test_a_batch_must_hold_whole_groups() -> None:
    with pytest.raises(ConfigError, match=r"batch_size = 10 is not a multiple.*instances = 4"):
        validated(RunConfig, {"data": {"batch_size": 10, "instances": 4}})
    for name in ("pairs", "twice"):
        with pytest.raises(ConfigError, match=rf"batch_size = 5 is odd; .*'{name}' needs an even"):
            validated(RunConfig, {"data": {"batch_size": 5, "sampler": name}})
    validated(RunConfig, {"data": {"batch_size": 5, "sampler": "random"}})


def test_padding_is_less_than_the_image() -> None:
    size = {"height": 64, "width": 32}
    with pytest.raises(ConfigError, match=r"augment.pad = 32 would show .*\(64 x 32\)"):
        validated(RunConfig, {"data": size, "augment": {"pad": 32}})
    assert validated(RunConfig, {"data": size, "augment": {"pad": 31}}).augment.pad == 31


def test_a_length_needs_a_neck_that_changes_it() -> None:
    with pytest.raises(ConfigError, match=r"dim = 256 needs a neck"):
        validated(RunConfig, {"model": {"dim": 256}})
    assert validated(RunConfig, {"model": {"dim": 256, "neck": "fc"}}).model.dim == 256


def test_several_errors_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"^optim\.(lr|momentum): .*\(and 1 more\)$"):
        validated(RunConfig, {"optim": {"lr": -1, "momentum": 1.0}})


def test_the_cache_of_earlier_versions_is_moved_and_what_is_others_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REID_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, **_: tmp_path / name)
    assert cache_folder() == tmp_path / "reid-core"
    assert not (tmp_path / "reid-core").exists()
    for name in ("stages/core", "labels", "toy-tiny", "theirs"):
        (tmp_path / "reid" / name).mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"the cache has moved from .*reid to .*reid-core"):
        cache_folder()
    moved = {path.name for path in (tmp_path / "reid-core").iterdir()}
    assert moved == {"stages", "labels", "toy-tiny"}
    assert (tmp_path / "reid-core" / "stages" / "core").is_dir()
    assert [path.name for path in (tmp_path / "reid").iterdir()] == ["theirs"]
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def optional_settings() -> list[str]:
    """Return every setting of the core and of the plugins here that may have no value."""
    models: dict[str, type[BaseModel]] = dict.fromkeys([""], RunConfig)
    models |= {f"{name}.": load_class(name).Settings for name in installed()}
    found = []
    for prefix, model in models.items():
        for key in known_keys(model):
            kind: Any = model
            *sections, leaf = key.split(".")
            for section in sections:
                kind = kind.model_fields[section].annotation
            if type(None) in get_args(kind.model_fields[leaf].annotation):
                found.append(prefix + key)
    return found


@pytest.mark.parametrize("key", optional_settings())
def test_whatever_may_be_missing_is_set_to_none_by_the_command_line(key: str) -> None:
    first = key.partition(".")[0]
    core = first in RunConfig.model_fields
    flags = to_flags({"settings": [f"{key}=none"], "plugins": None if core else first})
    config: Any = resolve(flags).config
    value = config if core else config.plugins
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    assert value is None


def test_on_one_s_own_files_an_epoch_of_quick_is_the_data_set() -> None:
    own = {"data": {"name": "folder", "root": "photos"}}
    assert resolve().config.schedule.iterations_per_epoch == 20
    assert resolve(own).config.schedule.iterations_per_epoch is None
    chosen = {**own, "schedule": {"iterations_per_epoch": 3}}
    assert resolve(chosen).config.schedule.iterations_per_epoch == 3
    named = resolve(own, recipe="core/quick").config
    assert named.schedule.iterations_per_epoch == 20


def test_differences_are_told_by_setting_however_deep() -> None:
    before = {"run": {"seed": 0}, "plugins": {"head": {"weight": 1.0, "deep": {"on": True}}}}
    now = {"run": {"seed": 1}, "plugins": {"head": {"weight": 0.5, "deep": {"on": False}}}}
    assert differences(before, now, ("plugins.head.deep",)) == [
        "plugins.head.weight was 1.0, is 0.5",
        "run.seed was 0, is 1",
    ]
    assert differences(before, now, ("run",))[0] == "plugins.head.deep.on was True, is False"
    assert differences({"own": {}}, {"own": None}) == []
    assert differences({}, {"fields": {"parts": "a"}}) == ["fields.parts was None, is 'a'"]
