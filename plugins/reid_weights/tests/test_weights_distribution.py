"""What is shipped: files, cards, recipes; and how a run becomes such a file."""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import reid_weights
from reid_core import ConfigError, load_embedder
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly
from reid_core.weights import description_of, sha256_of, shipped_weights
from reid_synthpeople.people import Range, range_of
from reid_weights import RECIPES, WEIGHTS
from reid_weights.commands import weights
from reid_weights.packing import pack, recipe_of

MOST = {
    "people/osnet_x0_25": 2,
    "people/osnet_ain_x0_25": 2,
    "people/mobilenetv2_100": 5,
    "people/body": 2,
}
"""Size on disk in MiB."""


def test_the_version_is_the_metadata_s() -> None:
    assert reid_weights.__version__ == distribution("reid-weights").version


def test_it_registers_its_weights_and_a_command() -> None:
    points = {(p.group, p.name) for p in distribution("reid-weights").entry_points}
    assert points == {
        ("reid.commands", "weights"),
        ("reid.layouts", "others"),
        ("reid.weights", "people"),
    }
    assert {**WEIGHTS}.items() <= shipped_weights().items()
    with pytest.raises(KeyError):
        WEIGHTS["people/nobody"]
    with pytest.raises(KeyError):
        WEIGHTS["crowds/body"]


def test_the_quick_start_is_the_first_embedder() -> None:
    model = resolve(recipe="core/quick").config.model
    assert (model.backbone, str(model.pretrained)) == ("osnet_x0_25", "people/osnet_x0_25")


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_what_is_shipped_is_what_its_card_says(name: str) -> None:
    path = WEIGHTS[name]
    assert path.stat().st_size <= MOST[name] * 2**20
    found = description_of(path)
    assert found["sha256"] == sha256_of(path)
    card = found["card"]
    recipe = recipe_of(name)
    assert card["recipe"] == recipe.name
    config = resolve(recipe=str(recipe)).config
    assert card["seed"] == config.run.seed
    assert card["steps"] == config.schedule.epochs * (config.schedule.iterations_per_epoch or 0)
    assert card["rows"] == config.data.batch_size
    assert card["scores"]
    assert all(scores.get("mAP", 100) > 0 for scores in card["scores"].values())
    for people in found["learnt_from"]["people"]:
        group, _, numbers = people.rpartition("/")
        assert group.startswith("synthpeople/")
        for number in numbers.split("-"):
            assert range_of(int(number)) is Range.PRETRAINING, "somebody whom other sets have"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_learn_from_people_kept_for_it(recipe: Path) -> None:
    config = resolve(recipe=str(recipe)).config
    assert config.plugins["synthpeople"]["people"] == "pretraining"
    assert config.data.name.startswith("synthpeople")
    assert config.model.pretrained is False
    assert config.model.start == "random"


def finished_run(folder: Path, reid_cache: Path) -> Path:
    assembly = tiny_assembly(cache=reid_cache)
    folder.mkdir()
    embedder = assembly.embedder()
    embedder.learnt_from = {"data": ["toy"], "people": []}
    embedder.save(folder / "embedder.safetensors")
    facts = {
        "environment": {"torch": "2.13.0", "machine": "x86_64"},
        "sources": {"main": {"images": 3}},
    }
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.toml").write_text(assembly.config.to_toml())
    return folder


def test_a_run_is_packed_in_half_precision(tmp_path: Path, reid_cache: Path) -> None:
    run = finished_run(tmp_path / "run", reid_cache)
    path = pack("people/osnet_x0_25", run, tmp_path / "out", {"toy": {"rank1": 0.5}})
    assert path.stat().st_size < 0.6 * (run / "embedder.safetensors").stat().st_size
    before, after = load_embedder(run), load_embedder(path)
    assert after.learnt_from["data"] == ["toy"]
    image = torch.rand(2, 3, *before.size)
    with torch.no_grad():
        cosine = torch.nn.functional.cosine_similarity(before(image), after(image))
    assert (cosine > 0.999).all()
    shown = json.loads(path.with_suffix(".json").read_text())
    assert shown["card"]["scores"] == {"toy": {"rank1": 0.5}}
    assert shown["card"]["images"] == 3
    assert shown["card"]["license"] == "MIT"
    # Weights of a recipe that was told to learn from photographs are not ours to give away.
    described = run / "embedder.json"
    told = json.loads(described.read_text())
    told["learnt_from"]["data"] = ["toy", "market1501"]
    described.write_text(json.dumps(told))
    card = json.loads(
        pack("people/osnet_x0_25", run, tmp_path / "other").with_suffix(".json").read_text()
    )["card"]
    assert (card["license"], card["people"]) == ("that of the data", "learnt from market1501")


def test_a_card_claims_no_licence_for_what_is_not_known(tmp_path: Path, reid_cache: Path) -> None:
    run = finished_run(tmp_path / "run", reid_cache)
    whole, described = (run / "config.toml").read_text(), run / "embedder.json"
    told = json.loads(described.read_text())

    def terms() -> tuple[str, str]:
        path = pack("people/osnet_x0_25", run, tmp_path / "out")
        card = json.loads(path.with_suffix(".json").read_text())["card"]
        return card["license"], card["people"]

    assert "pretrained = false" in whole
    assert "plugins = []" in whole
    for old, new, licence in (
        ("pretrained = false", 'pretrained = "people/osnet_x0_25"', "MIT"),
        ("plugins = []", 'plugins = ["joints"]', "MIT"),
        # Published weights, whoever's file, and plugins that the recipe does not have.
        ("pretrained = false", "pretrained = true", "that of the data"),
        ("pretrained = false", 'pretrained = "resnet18.pth"', "that of the data"),
        ("plugins = []", 'plugins = ["parsing"]', "that of the data"),
    ):
        (run / "config.toml").write_text(whole.replace(old, new))
        assert terms()[0] == licence, new
    assert terms()[1] == "learnt from what is not known"
    (run / "config.toml").write_text(whole)
    # No other set is drawn because its name begins so.
    told["learnt_from"]["data"] = ["toy:tiny", "synthpeople-crops:quick", "toyota:full"]
    described.write_text(json.dumps(told))
    assert terms() == ("that of the data", "learnt from toyota:full")
    told["learnt_from"]["data"] = []
    described.write_text(json.dumps(told))
    assert terms()[1] == "learnt from what is not known"


def test_unknown_names_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"weights 'people/osnet'; did you mean 'people/osnet_x0_25'"
    ):
        recipe_of("people/osnet")
    done = CliRunner().invoke(weights, ["make", "people/x", "--out", str(tmp_path / "o")])
    assert isinstance(done.exception, ConfigError)
    again = ["make", "people/body", "--out", str(tmp_path / "o"), "--resume", "-s", "run.seed=1"]
    done = CliRunner().invoke(weights, again)
    assert isinstance(done.exception, ConfigError)
    assert "--resume goes on as the run began" in str(done.exception)
    done = CliRunner().invoke(weights, ["show", "people/x"])
    assert isinstance(done.exception, ConfigError)
    assert CliRunner().invoke(weights, ["list"]).exit_code == 0
