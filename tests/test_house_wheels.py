"""Every distribution is a wheel, and wheels are all that a clean environment needs."""

import json
import re
import shlex
import zipfile
from email import message_from_bytes
from itertools import pairwise
from pathlib import Path

import pytest
from environments import OURS, Environment
from hatchling.builders.wheel import WheelBuilder
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from house import DISTRIBUTIONS, ROOT, Distribution
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reid_core.cli.scaffold import Scaffold, write_distribution
from reid_core.plugins.discovery import catalogue

PAPER = "reid-san"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_the_wheel_is_the_package(distribution: Distribution, wheels: Path):
    (built,) = wheels.glob(f"{distribution.package}-*.whl")
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))

    shipped = {
        path.relative_to(distribution.source.parent).as_posix()
        for path in distribution.source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package = distribution.package
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert {name for name in names if not name.startswith(f"{info}/")} == shipped
    assert f"{info}/licenses/LICENSE" in names

    assert metadata["Name"] == distribution.project["name"]
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    required = {re.split(r"[^\w.-]", line)[0] for line in metadata.get_all("Requires-Dist", [])}
    assert package in ("reid_core", "reid_retrieval") or "reid-core" in required
    assert package != "reid_retrieval" or required == {"numpy", "scipy", "pyarrow", "torch"}


@pytest.fixture(scope="module")
def lonely(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the core, one paper, what they declare, and what tests need."""
    folder = tmp_path_factory.mktemp("lonely") / "venv"
    environment = Environment(folder, wheels, PAPER, "reid-core[test]")
    environment.install(PAPER, "reid-core[test]")
    return environment


@pytest.fixture(scope="module")
def visited(
    wheels: Path, tmp_path_factory: pytest.TempPathFactory, reid_cache: Path
) -> Environment:
    """Return an environment with the core, a paper and the wheel of a stranger."""
    folder = tmp_path_factory.mktemp("visited")
    stranger = write_distribution(Scaffold("stranger", summary="Somebody else's"), folder)
    (wheel,) = WheelBuilder(str(stranger)).build(directory=str(folder))
    environment = Environment(folder / "venv", wheels, PAPER, "pydantic", "torch")
    environment.install(PAPER, wheel)
    return environment


def test_a_clean_environment_has_what_was_installed_and_nothing_else(visited: Environment):
    assert "plugins" in visited.run("reid", "--help").stdout
    rows = json.loads(visited.run("reid", "plugins", "list", "--json").stdout)
    there = {row["name"]: row["distribution"] for row in rows if row["installed"]}
    assert there == {
        **{name: f"reid-{name}" for name in ("san", "partaware", "parsing", "synthpeople")},
        **dict.fromkeys(("body", "joints"), "reid-parsing"),
        "stranger": "reid-stranger",
        "toy": "reid-core",
    }
    (stranger,) = (row for row in rows if row["name"] == "stranger")
    assert (stranger["version"], stranger["summary"]) == ("0.1.0", "Somebody else's")
    known = {row["name"]: row.get("install") for row in rows if not row["installed"]}
    expected = {name: entry.install for name, entry in catalogue().items() if name not in there}
    assert known == expected
    assert known["pcb"] == "pip install reid-baselines"


def test_a_stranger_s_wheel_is_checked_beside_the_core(visited: Environment, reid_cache: Path):
    done = visited.run("reid", "plugins", "check", "stranger", REID_CACHE=str(reid_cache))
    assert "    stranger/stripe x 0.1 on main, trains encoder, stranger/head" in done.stdout


def test_what_is_not_installed_is_one_line_with_its_remedy(visited: Environment):
    done = visited.run("reid", "plugins", "check", "stranger,pcb", code=2)
    (line,) = done.stderr.splitlines()
    assert "plugin 'pcb' is not installed: pip install reid-baselines" in line


def test_the_user_s_own_line_works_from_wheels(visited: Environment, reid_cache: Path):
    done = visited.run("reid", "plugins", "check", "san,partaware", REID_CACHE=str(reid_cache))
    assert "partaware/head" in done.stdout
    assert "san/decoder" in done.stdout


def test_the_user_s_own_line_works_from_a_checkout(wheels: Path, tmp_path: Path, reid_cache: Path):
    environment = Environment(tmp_path / "venv", wheels, "reid-core", PAPER, "hatchling")
    # No wheel of this house is at hand: siblings are found beside one another.
    places = [ROOT / "reid_core", ROOT / "reid_san"]
    environment.run("pip", "install", *places, PIP_FIND_LINKS="", REID_RELEASE="0")
    done = environment.run("reid", "plugins", "check", "san,partaware", REID_CACHE=str(reid_cache))
    assert "partaware/head" in done.stdout
    assert "san/decoder" in done.stdout


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_the_first_run_of_a_readme_needs_nothing_that_is_not_declared(distribution: Distribution):
    readme = (distribution.folder / "README.md").read_text("utf-8")
    line = re.search(r"^reid run( .*)?$", readme, re.MULTILINE)
    if line is None or re.search(r"NAME|DIR", line[0]):
        pytest.skip("no run on data that everybody has")
    owners = {name: entry.distribution for name, entry in catalogue().items()}
    words = line[0].partition("#")[0].split()
    named = {"synthpeople"} if "--data" not in words else set()
    for option, value in pairwise(words):
        if option == "--plugins":
            named |= set(value.split(","))
        elif option in ("--data", "--backbone", "--recipe"):
            named.add(value.partition("/")[0].partition("_")[0])
    installed = re.findall(r"^pip install ([^#\n]+)", readme, re.MULTILINE)
    words = shlex.split(installed[0]) if installed else []
    asked = {distribution.project["name"], *(re.sub(r"\[.*\]", "", word) for word in words)}
    there = asked | {Requirement(line).name for name in asked for line in _closure(name)}
    assert {owners[name] for name in named & set(owners)} <= there


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_siblings_are_named_by_place_in_a_checkout_and_by_version_in_a_release(
    distribution: Distribution, monkeypatch: pytest.MonkeyPatch
):
    plugin = distribution.folder / "hatch_build.py"
    if not plugin.exists():
        # A stranger's has none, and a library without siblings needs none.
        assert distribution.package in ("reid_example", "reid_retrieval")
        return
    assert plugin.read_bytes() == (ROOT / "reid_core" / "hatch_build.py").read_bytes()
    ours = [line for line in distribution.dependencies if line.startswith("reid-")]
    for released, expected in [
        ("1", set(ours)),
        ("0", {f"{name} @ {_place(name)}" for name in (Requirement(line).name for line in ours)}),
    ]:
        monkeypatch.setenv("REID_RELEASE", released)
        lines = ProjectMetadata(str(distribution.folder), PluginManager()).core.dependencies
        found = {line for line in lines if line.startswith("reid-")}
        assert found == {str(Requirement(line)) for line in expected}


def _place(name: str) -> str:
    (found,) = (d.folder for d in DISTRIBUTIONS if d.project["name"] == name)
    return found.as_uri()


def _closure(name: str) -> set[str]:
    lines = set(OURS[name].dependencies) if name in OURS else set()
    return lines.union(*(_closure(canonicalize_name(Requirement(line).name)) for line in lines))


def test_a_paper_is_tested_with_nothing_but_what_it_declares(lonely: Environment, tmp_path: Path):
    options = ["-q", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-p", "no:cacheprovider"]
    # All files are imported, the quick ones run.
    quick = ["-k", "test_san_losses or test_san_distribution"]
    done = lonely.run("pytest", *options, *quick, ROOT / "reid_san" / "tests", cwd=tmp_path)
    assert re.search(r"[1-9]\d* passed, [1-9]\d* deselected", done.stdout)
    code = "import reid_core, reid_san; print(reid_core.__file__, reid_san.__file__)"
    places = lonely.run("python", "-c", code).stdout.split()
    assert all(Path(place).is_relative_to(lonely.folder) for place in places)
