"""Every distribution has the same shape, and what is said of it twice agrees."""

import json
import re
from collections import Counter
from importlib import metadata

import pytest
from house import DISTRIBUTIONS, ROOT, Distribution, read_toml

each_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)


def test_the_house_has_the_rooms_that_the_readme_promises():
    expected = {
        *("reid_retrieval", "plugins/reid_example"),
        *("reid_core", "reid_fsam", "reid_unsup_cc", "reid_dgnet", "reid_partaware", "reid_san"),
        *("plugins/reid_synthpeople", "plugins/reid_benchmarks", "plugins/reid_baselines"),
        *(
            "plugins/reid_parsing",
            "plugins/reid_search",
            "plugins/reid_track",
            "plugins/reid_weights",
        ),
    }
    found = {distribution.folder.relative_to(ROOT).as_posix() for distribution in DISTRIBUTIONS}
    assert expected <= found


@each_distribution
def test_a_distribution_is_complete(distribution: Distribution):
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "src", "tests"):
        assert (distribution.folder / name).exists(), f"{distribution}: {name} is missing"
    assert (distribution.source / "__init__.py").is_file()
    assert (distribution.source / "py.typed").is_file()
    assert list((distribution.folder / "tests").glob("test_*.py")), f"{distribution}: no test"


@each_distribution
def test_a_distribution_is_named_after_its_package(distribution: Distribution):
    project = distribution.project
    assert project["name"] == distribution.package.replace("_", "-")
    assert project["requires-python"] == ">=3.11"
    assert project["license"] == "MIT"


@each_distribution
def test_the_newest_entry_of_the_changelog_is_the_version(distribution: Distribution):
    changelog = (distribution.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert heading, f"{distribution}: the changelog has no '## VERSION' heading"
    assert heading[1] == distribution.project["version"]


@each_distribution
def test_the_installed_metadata_is_that_of_the_folder(distribution: Distribution):
    project = distribution.project
    installed = metadata.metadata(project["name"])
    assert installed["Version"] == project["version"]
    assert installed["Summary"] == project["description"]


@each_distribution
def test_a_distribution_carries_the_licence(distribution: Distribution):
    licence = (ROOT / "LICENSE").read_bytes()
    assert (distribution.folder / "LICENSE").read_bytes() == licence


def test_names_of_test_files_are_unique():
    folders = [ROOT / "tests", *(distribution.folder / "tests" for distribution in DISTRIBUTIONS)]
    names = Counter(path.name for folder in folders for path in folder.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_workspace_and_the_import_rules_know_every_distribution():
    tool = read_toml(ROOT / "pyproject.toml")["tool"]
    packages = {distribution.package for distribution in DISTRIBUTIONS}
    layers = tool["importlinter"]["contracts"][0]["layers"]
    assert set(tool["importlinter"]["root_packages"]) == packages
    assert {name for layer in layers for name in layer.split(" | ")} == packages
    assert set(tool["coverage"]["run"]["source_pkgs"]) == packages
    assert {name.replace("-", "_") for name in tool["uv"]["sources"]} == packages


def test_what_every_distribution_offers_is_known_where_it_is_not_installed():
    text = (ROOT / "reid_core/src/reid_core/plugins/catalogue.json").read_text("utf-8")
    known = json.loads(text)
    for distribution in DISTRIBUTIONS:
        offered = distribution.project.get("entry-points", {})
        for group, kind in (("reid.plugins", "plugins"), ("reid.commands", "commands")):
            found = known.get(distribution.project["name"], {}).get(kind, [])
            assert sorted(found) == sorted(offered.get(group, {})), distribution
