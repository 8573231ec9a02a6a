"""The tested set is pinned exactly and completely, and the pins fit what distributions ask for."""

import re
from collections.abc import Iterator

import pytest
from house import DISTRIBUTIONS, ROOT, read_toml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TESTED, OLDEST = "constraints.txt", "constraints-lowest.txt"


def _lines(file: str) -> list[str]:
    lines = (ROOT / file).read_text(encoding="ascii").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _pins(file: str) -> dict[str, str]:
    return dict(line.split("==") for line in _lines(file))


def _needed_to_run() -> Iterator[tuple[str, Requirement]]:
    for distribution in DISTRIBUTIONS:
        lines = distribution.dependencies
        for extra in distribution.extras.values():
            lines += extra
        yield from ((str(distribution), Requirement(line)) for line in lines)


def _requirements() -> Iterator[tuple[str, Requirement]]:
    yield from _needed_to_run()
    for distribution in DISTRIBUTIONS:
        for line in read_toml(distribution.folder / "pyproject.toml")["build-system"]["requires"]:
            yield str(distribution), Requirement(line)
    for line in read_toml(ROOT / "pyproject.toml")["dependency-groups"]["dev"]:
        yield "pyproject.toml", Requirement(line)


@pytest.mark.parametrize("file", [TESTED, OLDEST])
def test_every_line_is_one_exact_version(file: str):
    pins = _lines(file)
    assert [line for line in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", line)] == []
    assert pins == sorted(set(pins), key=lambda line: line.split("=="))


def test_every_requirement_is_pinned_to_a_version_that_it_accepts():
    pins = _pins(TESTED)
    own = {distribution.project["name"]: distribution.project for distribution in DISTRIBUTIONS}
    wrong = []
    for owner, requirement in _requirements():
        name = canonicalize_name(requirement.name)
        version = own[name]["version"] if name in own else pins.get(name)
        if version is None or version not in requirement.specifier:
            wrong.append(f"{owner}: {requirement} (here: {version or 'not pinned'})")
    assert wrong == []


def test_every_range_begins_with_the_oldest_version_that_is_tested():
    oldest = _pins(OLDEST)
    own = {distribution.project["name"] for distribution in DISTRIBUTIONS}
    wrong, named = [], set()
    for owner, requirement in _needed_to_run():
        name = canonicalize_name(requirement.name)
        if name in own:
            continue
        named.add(name)
        first = [s.version for s in requirement.specifier if s.operator == ">="]
        if name not in oldest or [Version(v) for v in first] != [Version(oldest[name])]:
            wrong.append(f"{owner}: {requirement} (oldest: {oldest.get(name, 'not named')})")
    assert wrong == []
    assert set(oldest) == named


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_users_may_bring_a_newer_torch(name: str):
    for owner, requirement in _requirements():
        if requirement.name == name:
            operators = {specifier.operator for specifier in requirement.specifier}
            assert operators <= {">=", "!="}, f"{owner}: {requirement}"
