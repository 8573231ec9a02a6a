"""Every distribution is a wheel, and wheels are all that a clean environment needs."""

import json
import re
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from environments import Environment
from hatchling.builders.wheel import WheelBuilder
from house import DISTRIBUTIONS, ROOT, Distribution

from reid_core.plugins.discovery import catalogue
from reid_core.plugins.scaffold import Scaffold, write_distribution

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
    assert package == "reid_core" or "reid-core" in required


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
    assert there == {"san": "reid-san", "stranger": "reid-stranger"}
    (stranger,) = (row for row in rows if row["name"] == "stranger")
    assert (stranger["version"], stranger["summary"]) == ("0.1.0", "Somebody else's")
    known = {row["name"]: row.get("install") for row in rows if not row["installed"]}
    expected = {name: entry.install for name, entry in catalogue().items() if name != "san"}
    assert known == expected
    assert known["partaware"] == "pip install reid-partaware"


def test_a_stranger_s_wheel_is_checked_beside_the_core(visited: Environment, reid_cache: Path):
    done = visited.run("reid", "plugins", "check", "stranger", REID_CACHE=str(reid_cache))
    assert "    stranger/stripe x 0.1 on main, trains encoder, stranger/head" in done.stdout


def test_what_is_not_installed_is_one_line_with_its_remedy(visited: Environment):
    done = visited.run("reid", "plugins", "check", "stranger,partaware", code=2)
    (line,) = done.stderr.splitlines()
    assert "plugin 'partaware' is not installed: pip install reid-partaware" in line


def test_a_paper_is_tested_with_nothing_but_what_it_declares(lonely: Environment, tmp_path: Path):
    options = ["-q", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-p", "no:cacheprovider"]
    # All files are imported, the quick ones run.
    quick = ["-k", "test_san_losses or test_san_distribution"]
    done = lonely.run("pytest", *options, *quick, ROOT / "reid_san" / "tests", cwd=tmp_path)
    assert re.search(r"[1-9]\d* passed, [1-9]\d* deselected", done.stdout)
    code = "import reid_core, reid_san; print(reid_core.__file__, reid_san.__file__)"
    places = lonely.run("python", "-c", code).stdout.split()
    assert all(Path(place).is_relative_to(lonely.folder) for place in places)
