import json
from importlib import metadata

import pytest

from reid_core import CheckpointError, ConfigError
from reid_search import models


class Entry:
    """An entry point whose target is at hand."""

    def __init__(self, name, target):
        self.name, self.value, self._target = name, "somewhere:SOMETHING", target

    def load(self):
        if isinstance(self._target, Exception):
            raise self._target
        return self._target


@pytest.fixture
def entries(monkeypatch):
    """Entry points by group, in place of the installed ones."""
    groups = {}
    monkeypatch.setattr(metadata, "entry_points", lambda group: groups.get(group, []))
    return groups


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    file = folder / "embedder.safetensors"
    file.write_bytes(b"weights")
    file.with_suffix(".json").write_text('{"format": 1}')
    return file


def test_a_folder_a_file_an_address_and_a_name_are_models(entries, weights):
    entries["reid.weights"] = [Entry("shipped", {"people/small": weights})]
    entries["reid.addresses"] = [Entry("hf", lambda address: weights.parent / address[5:])]
    assert models.resolve_model(weights.parent) == weights
    assert models.resolve_model(str(weights)) == weights
    assert models.resolve_model("people/small") == weights
    assert models.resolve_model("hf://a/b@1") == weights.parent / "a/b@1"
    for text in (str(weights.parent), str(weights), "people/small", "hf://a/b"):
        assert models.is_model(text)
    assert not models.is_model(str(weights.parent.parent))
    assert not models.is_model("people/large")


@pytest.mark.parametrize("file", ["checkpoint.pt", "run.json"])
def test_an_unfinished_run_is_no_folder_of_pictures(entries, tmp_path, file):
    (tmp_path / file).touch()
    assert models.is_model(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"embedder\.safetensors is missing"):
        models.resolve_model(str(tmp_path))


def test_without_a_text_the_shipped_embedder_is_meant(entries, weights):
    entries["reid.weights"] = [Entry("shipped", {models.DEFAULT_MODEL: str(weights)})]
    assert models.resolve_model() == weights


def test_what_is_no_model_is_refused_in_one_line(entries, weights, tmp_path):
    with pytest.raises(CheckpointError, match=r"people/x is missing.*pip install reid-weights"):
        models.resolve_model("people/x")
    entries["reid.weights"] = [Entry("shipped", {"people/small": weights})]
    with pytest.raises(
        CheckpointError, match=r"did you mean 'people/small'.*shipped: people/small\)"
    ):
        models.resolve_model("people/smal")
    with pytest.raises(
        CheckpointError, match=r"embedder\.safetensors is missing, name the folder of"
    ):
        models.resolve_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors is missing"):
        models.resolve_model("gone.safetensors")
    (tmp_path / "model.pth").touch()
    with pytest.raises(CheckpointError, match=r"model\.pth is no \.safetensors"):
        models.resolve_model(tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=r"ftp://x.*\(known: none\)"):
        models.resolve_model("ftp://x")
    entries["reid.weights"] = [Entry("broken", ImportError("no module"))]
    with pytest.raises(CheckpointError, match=r"'broken'.*cannot be looked up: ImportError"):
        models.resolve_model("people/small")


def test_a_calibration_is_kept_in_the_description(weights):
    assert models.read_calibration(weights) is None
    path = models.write_calibration(weights, {"threshold": 0.5, "data": "toy"})
    assert json.loads(path.read_text()) == {
        "format": 1,
        "calibration": {"threshold": 0.5, "data": "toy"},
    }
    assert models.read_calibration(weights) == {"threshold": 0.5, "data": "toy"}
    assert {p.name for p in weights.parent.iterdir()} == {weights.name, path.name}
    path.write_text('{"calibration": {"data": "toy"}}')
    with pytest.raises(CheckpointError, match="'calibration' has no threshold"):
        models.read_calibration(weights)
    for damaged in ("{", "[]"):
        path.write_text(damaged)
        with pytest.raises(CheckpointError, match=r"embedder\.json cannot be read"):
            models.read_calibration(weights)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"embedder\.json cannot be read"):
        models.read_calibration(weights)
