"""What ``shipped`` stands for: an encoder and its weights, of what is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid_core.errors import ConfigError
from reid_core.runs.resolve import resolve, with_shipped


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ship a parser and two embedders."""
    files = {}
    for name, content in (
        ("a_body", {}),
        ("test_resnet", {"encoder": {}}),
        ("zebra", {"encoder": {}}),
    ):
        files[f"people/{name}"] = path = tmp_path / f"{name}.safetensors"
        path.write_bytes(b"x")
        path.with_suffix(".json").write_text(json.dumps(content))
    monkeypatch.setattr("reid_core.runs.resolve.shipped_weights", lambda: files)


@pytest.mark.usefixtures("installed")
def test_the_quick_recipe_takes_the_first_embedder_that_is_shipped() -> None:
    model = resolve().config.model
    assert (model.backbone, model.pretrained) == ("test_resnet", Path("people/test_resnet"))
    other = resolve({"model": {"backbone": "zebra"}}).config.model
    assert other.pretrained == Path("people/zebra")
    unshipped = resolve({"model": {"backbone": "resnet18"}}).config.model
    assert unshipped.pretrained is False
    chosen = resolve({"model": {"pretrained": False}}).config.model
    assert (chosen.backbone, chosen.pretrained) == ("test_resnet", False)


def test_where_nothing_is_shipped_it_is_a_random_resnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_core.runs.resolve.shipped_weights", dict)
    model = resolve().config.model
    assert (model.backbone, model.pretrained) == ("resnet18", False)


def test_other_values_are_left_as_they_are() -> None:
    section = {"backbone": "resnet50", "pretrained": "people/x", "neck": "bn"}
    assert with_shipped(section) == section
    assert with_shipped({}) == {}


def test_shipped_weights_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    from reid_core.model.encoder import TimmEncoder

    with pytest.raises(ConfigError, match="nor shipped ones of that name") as caught:
        TimmEncoder("test_resnet", (64, 32), pretrained=tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
