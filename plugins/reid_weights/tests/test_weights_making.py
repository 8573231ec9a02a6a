"""Every recipe from its first step to what is shipped, on drawn figures and in few steps."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from reid_core import load_embedder
from reid_core.weights import description_of, sha256_of
from reid_parsing.body import is_body, load_body
from reid_weights import OWNER, RECIPES
from reid_weights.commands import weights

SMALL = {
    "data.name": '"toy:tiny"',
    "data.batch_size": "8",
    "data.height": "64",
    "data.width": "32",
    "schedule.epochs": "1",
    "schedule.iterations_per_epoch": "2",
    "schedule.warmup_epochs": "0",
    "engine.device": '"cpu"',
}


def make(name: str, out: Path, *more: str) -> Result:
    return CliRunner().invoke(weights, ["make", name, "--out", str(out), *more])


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_is_run_to_its_end_and_packed(
    recipe: Path, tmp_path: Path, reid_cache: Path
) -> None:
    name, out = f"{OWNER}/{recipe.stem}", tmp_path / "made"
    small = [f"-s{key}={value}" for key, value in SMALL.items()]
    done = make(name, out, *small)
    assert done.exit_code == 0, done.output + repr(done.exception)
    path = out / f"{recipe.stem}.safetensors"
    assert f"{name}: {path}" in done.output
    found = description_of(path)
    assert found["sha256"] == sha256_of(path)
    assert found["learnt_from"]["data"] == ["toy:tiny"]
    card, asked = found["card"], tomllib.loads(recipe.read_text("utf-8"))
    assert (card["name"], card["recipe"], card["license"]) == (name, recipe.name, "MIT")
    assert card["seed"] == asked["run"].get("seed", 0)
    assert (card["images"], card["steps"], card["rows"]) == (48, 2, 8)
    assert card["changed"]["data.name"] == "toy:tiny"
    assert card["changed"].keys() == SMALL.keys() - {"engine.device"}
    image = torch.rand(1, 3, 64, 32)
    if is_body(path):
        body = load_body(path)
        assert body.size == (64, 32)
        assert body.network(image).shape[1] == 33
    else:
        embedder = load_embedder(path)
        assert embedder(image).shape == (1, embedder.dim)
    # What was interrupted behind the training is packed from the run as it stands.
    content = path.read_bytes()
    path.unlink()
    done = make(name, out, "--resume")
    assert done.exit_code == 0, done.output
    assert path.read_bytes() == content
    assert json.loads(path.with_suffix(".json").read_text("utf-8")) == found
