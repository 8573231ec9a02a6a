"""Every recipe of every distribution, also those that stand on another distribution's."""

from __future__ import annotations

import importlib.resources
import re

import pytest
from house import ROOT

from reid_core.errors import ConfigError
from reid_core.plugins.providers import Providers, parse_data_name
from reid_core.runs.resolve import resolve

RECIPES = sorted(
    f"{path.parent.name}/{path.stem}"
    for package in ROOT.glob("**/src/*/recipes")
    if ".venv" not in package.parts
    for path in package.glob("*/*.toml")
)


def test_recipes_are_found() -> None:
    assert "core/quick" in RECIPES
    assert importlib.resources.files("reid_core").joinpath("recipes/core/quick.toml").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_resolved_and_its_data_set_is_known(name: str) -> None:
    try:
        resolved = resolve(recipe=name)
    except ConfigError as error:
        # Published weights and one's own images are the user's; the message says how to name them.
        key = re.search(r"name their (?:file|folder) with -s (\w+)\.(\w+)=", str(error))
        if key is None:
            raise
        plugins = {"plugins": {key[1]: {key[2]: "weights.pth"}}}
        resolved = resolve(plugins, recipe=name)
    assert resolved.config.run.recipe == name
    data, variant, size = parse_data_name(resolved.config.data.name)
    provider = Providers(resolved.calls).dataset(data)
    assert variant is None or variant in provider.variants
    assert size is None or size in provider.sizes
    assert not re.search("duke", resolved.config.data.name), "withdrawn by its owners"
