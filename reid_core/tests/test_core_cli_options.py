"""The command line's options become nested configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

from reid_core.cli.options import run_options, to_flags
from reid_core.errors import ConfigError


def flags_of(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    @click.command()
    @run_options
    def command(**options: Any) -> None:
        found.update(to_flags(options))

    CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    return found


def test_every_option_has_its_key() -> None:
    assert flags_of(
        *("--plugins", "san, partaware", "--seed", "3", "--data", "toy:tiny"),
        *("--data-root", "images", "--backbone", "resnet50", "--epochs", "9", "--device", "cpu"),
        *("--embed", "a/x,b/y", "--label", "parts=parsing", "--field", "parts=masks"),
        *("--source", "san/pairs=toy-pairs", "--own", "labels:pid=unsup_cc"),
    ) == {
        "run": {"plugins": ["san", "partaware"], "seed": 3},
        "data": {"name": "toy:tiny", "root": Path("images")},
        "model": {"backbone": "resnet50"},
        "schedule": {"epochs": 9},
        "engine": {"device": "cpu"},
        "evaluation": {"embed": ["a/x", "b/y"]},
        "labels": {"parts": "parsing"},
        "fields": {"parts": "masks"},
        "sources": {"san/pairs": "toy-pairs"},
        "own": {"labels:pid": "unsup_cc"},
    }


def test_what_is_not_given_is_not_there() -> None:
    assert flags_of() == {}
    assert flags_of("--plugins", "") == {"run": {"plugins": []}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=1e-3", {"optim": {"lr": 1e-3}}),
        ("schedule.milestones=[20, 40]", {"schedule": {"milestones": [20, 40]}}),
        ("evaluation.flip=true", {"evaluation": {"flip": True}}),
        ("model.pretrained=false", {"model": {"pretrained": False}}),
        ("model.pretrained=weights/r50.pth", {"model": {"pretrained": "weights/r50.pth"}}),
        ('model.backbone="resnet50"', {"model": {"backbone": "resnet50"}}),
        ("model.backbone=resnet50.a1_in1k", {"model": {"backbone": "resnet50.a1_in1k"}}),
        ("san.weight=0.5", {"plugins": {"san": {"weight": 0.5}}}),
        ("plugins.san.weight=0.5", {"plugins": {"san": {"weight": 0.5}}}),
        ("dgnet.teacher=none", {"plugins": {"dgnet": {"teacher": "none"}}}),
        ("san.decoder.skips=true", {"plugins": {"san": {"decoder": {"skips": True}}}}),
        ("loss_weights.core/global/ce=0", {"loss_weights": {"core/global/ce": 0}}),
        ("loss_weights.a/b@c/d.e=2", {"loss_weights": {"a/b@c/d.e": 2}}),
        ("own.labels:pid=ant", {"own": {"labels:pid": "ant"}}),
        ("data.name=toy=3", {"data": {"name": "toy=3"}}),
        (" optim.lr = 2 ", {"optim": {"lr": 2}}),
        ("data.name=", {"data": {"name": ""}}),
    ],
)
def test_settings_are_read_as_toml_and_otherwise_as_text(
    text: str, expected: dict[str, Any]
) -> None:
    assert to_flags({"settings": (text,)}) == expected


def test_settings_of_one_section_add_up_and_the_last_one_rules() -> None:
    found = to_flags({"epochs": 3, "settings": ("schedule.gamma=0.5", "schedule.epochs=4")})
    assert found == {"schedule": {"epochs": 4, "gamma": 0.5}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": ("optim.lr",)}, r"--set optim\.lr: expected KEY=VALUE"),
        ({"settings": ("=3",)}, r"--set =3: expected KEY=VALUE"),
        ({"settings": ("lr=3",)}, r"--set lr: expected SECTION\.KEY=VALUE"),
        ({"settings": ("san=3",)}, r"--set san: expected SECTION\.KEY=VALUE"),
        ({"settings": ("optim.lr=1", "optim.lr.x=2")}, r"--set optim\.lr\.x"),
        ({"labels": ("parts",)}, r"--label parts: expected KEY=VALUE"),
        ({"own": ("backbone",)}, r"--own backbone: expected KEY=VALUE"),
    ],
)
def test_a_malformed_option_is_refused_in_its_own_words(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        to_flags(options)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=12))
def test_any_text_is_a_value(text: str) -> None:
    found = to_flags({"settings": (f"data.name={text}",)})
    assert set(found) == {"data"}
    assert set(found["data"]) == {"name"}
