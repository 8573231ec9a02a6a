"""Dependencies point one way, and each distribution imports only what it declares."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from house import DISTRIBUTIONS, ROOT, Distribution, read_toml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_the_import_contracts_hold(capsys: pytest.CaptureFixture[str]):
    from importlinter.cli import lint_imports

    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_every_import_is_declared(distribution: Distribution):
    lines = distribution.dependencies
    for extra in distribution.extras.values():
        lines += extra
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    own = {distribution.package, *sys.stdlib_module_names, *FOUND}
    undeclared = [
        f"{where}: import {module}"
        for where, module in _imports(distribution.source)
        if (top := module.partition(".")[0]) not in own and not _providers(top) & declared
    ]
    assert undeclared == []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_tests_are_collected_without_other_distributions_of_this_house(distribution: Distribution):
    """What one test needs beside them it imports itself, after `pytest.importorskip`."""
    allowed, waiting = set[str](), [distribution.package]
    by_package = {one.package: one for one in DISTRIBUTIONS}
    while waiting:
        name = waiting.pop()
        allowed.add(name)
        lines = [*by_package[name].dependencies, *chain(*by_package[name].extras.values())]
        required = {Requirement(line).name.replace("-", "_") for line in lines}
        waiting += (required & by_package.keys()) - allowed
    others = tuple(by_package.keys() - allowed)
    foreign = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in sorted((distribution.folder / "tests").glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if (words := line.split()) and line.startswith(("from ", "import "))
        if words[1].partition(".")[0] in others
    ]
    assert foreign == []


def test_tests_of_the_root_import_what_is_declared():
    every = [*read_toml(ROOT / "pyproject.toml")["dependency-groups"]["dev"]]
    for one in DISTRIBUTIONS:
        every += [one.project["name"], *one.dependencies, *chain(*one.extras.values())]
    declared = {canonicalize_name(Requirement(line).name) for line in every}
    folders = (ROOT / "tests", ROOT / "docs", ROOT / "benchmarks")
    own = {path.stem for folder in folders for path in folder.iterdir()} | sys.stdlib_module_names
    undeclared = [
        f"{where}: import {module}"
        for where, module in _imports(ROOT / "tests")
        if not where.startswith("tests/thirdparty/")
        if (top := module.partition(".")[0]) not in own and not _providers(top) & declared
    ]
    assert undeclared == []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_private_names_stay_private(distribution: Distribution):
    private = [
        f"{where}: import {module}"
        for where, module in _imports(distribution.source)
        if re.match(r"reid_\w+\.(.*\.)?_(?!_)", module)
        and not module.startswith(f"{distribution.package}.")
    ]
    assert private == []


def _imports(source: Path) -> Iterator[tuple[str, str]]:
    """Yield where a name is imported and its full path, lazy and typing-only imports included."""
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from ((where, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((where, f"{node.module}.{alias.name}") for alias in node.names)


ABSENT = {"mlflow": "mlflow-skinny", "open_clip": "open-clip-torch"}
"""Distributions of extras that the tests do without, by their modules."""

FOUND = {"umap"}
"""Modules that are made use of where somebody has them, and that no extra brings."""


@cache
def _providers(top: str) -> frozenset[str]:
    """Return the installed distributions that bring a top-level module."""
    # Editable distributions list no modules; those of this house are named after their package.
    found = {*_packages().get(top, ()), ABSENT.get(top, top)}
    return frozenset(canonicalize_name(name) for name in found)


@cache
def _packages() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())
