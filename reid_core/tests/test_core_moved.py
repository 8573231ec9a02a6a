"""Old paths of modules: whatever stood there is still found there, with a warning."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import reid_core
from reid_core import moved

OLD_PATHS = Path(__file__).with_name("old_paths.txt")
"""Every module of the core before it was divided into rooms, with its public names."""


def _old() -> Iterator[tuple[str, list[str]]]:
    for line in OLD_PATHS.read_text("utf-8").splitlines():
        module, _, names = line.partition(":")
        yield module, names.split()


@pytest.mark.parametrize(("module", "names"), _old(), ids=lambda value: str(value)[:60])
def test_an_old_path_has_what_it_had(module: str, names: list[str]) -> None:
    for place in (*moved.MODULES.get(module, ()), *moved.NAMES.get(module, {}).values()):
        pytest.importorskip(place.partition(".")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = importlib.import_module(module)
        assert [name for name in names if not hasattr(found, name)] == []


def test_no_old_path_is_listed_whose_module_is_there() -> None:
    for module in moved.MODULES:
        assert importlib.util.find_spec(module).loader.__class__.__module__ == moved.__name__


@pytest.fixture
def _moved_module(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"reid_core.rooms": (), "reid_core.rooms.attic": ("reid_core.errors",)}
    monkeypatch.setattr(moved, "MODULES", {**moved.MODULES, **places})
    for name in places:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("_moved_module")
def test_an_old_name_is_the_same_object_and_says_where_it_is_now() -> None:
    with pytest.warns(DeprecationWarning, match="attic.own_errors is .* in reid_core.errors now"):
        from reid_core.rooms.attic import own_errors
    from reid_core.rooms import attic

    with pytest.warns(DeprecationWarning, match="from reid_core import DataError") as caught:
        assert attic.DataError is reid_core.DataError
    assert own_errors is reid_core.errors.own_errors
    assert caught[0].filename == __file__


@pytest.mark.usefixtures("_moved_module")
def test_what_never_stood_there_is_not_found() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Attic'"):
        from reid_core.rooms.attic import Attic  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("reid_core.rooms.cellar")


def test_what_left_for_a_distribution_that_is_not_there_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moved, "MODULES", {"reid_core.attic": ("reid_attic.boxes",)})
    monkeypatch.delitem(sys.modules, "reid_core.attic", raising=False)
    with pytest.raises(ImportError, match=r"attic is part of reid-attic now.*pip install"):
        from reid_core.attic import Box  # noqa: F401


def test_what_the_core_has_needs_no_other_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(name: str) -> ModuleType:
        package = name.partition(".")[0]
        if package in {"reid_benchmarks", "reid_search"}:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return importlib.import_module(name)

    monkeypatch.setattr(moved, "import_module", alone)
    with pytest.warns(DeprecationWarning, match=r"in reid_core\.data\.damage now"):
        from reid_core.data.file_check import without_damaged
    with pytest.warns(DeprecationWarning, match="from reid_core import run_once"):
        from reid_core.runs.sweeping import run_once
    assert without_damaged.__module__ == "reid_core.data.damage"
    assert run_once is reid_core.run_once
    with pytest.raises(ImportError, match="file_check is part of reid-benchmarks now"):
        from reid_core.data.file_check import check_files  # noqa: F401


@pytest.mark.parametrize("old", moved.MODULES)
def test_places_in_the_core_are_looked_at_first(old: str) -> None:
    packages = [place.partition(".")[0] for place in moved.MODULES[old]]
    there = ("reid_core", "reid_retrieval")
    assert packages == sorted(packages, key=lambda name: name not in there)


def test_a_renamed_thing_is_found_under_its_old_name() -> None:
    with pytest.warns(DeprecationWarning, match=r"\.fill is deprecated: .* fill_weights"):
        from reid_core.model.pretrained import fill
    with pytest.warns(DeprecationWarning, match=r"import WeightsFile") as caught:
        from reid_core.model.pretrained import Weights
    assert (fill, Weights) == (reid_core.fill_weights, reid_core.WeightsFile)
    assert caught[0].filename == __file__


def test_a_name_that_left_its_module_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"some.module": {"Plugin": "reid_core.errors", "did_you_mean": "reid_core.errors"}}
    monkeypatch.setattr(moved, "NAMES", names)
    with pytest.warns(DeprecationWarning, match=r"some\.module\.did_you_mean is deprecated"):
        found = moved.former_name("some.module", "did_you_mean")
    assert found is reid_core.errors.did_you_mean
    with pytest.raises(AttributeError, match=r"'some\.module' has no attribute"):
        moved.former_name("some.module", "other")


def test_the_core_itself_uses_no_old_path() -> None:
    code = """
import pkgutil, sys, warnings
warnings.simplefilter("error", DeprecationWarning)
import reid_core
for name in reid_core.__all__:
    getattr(reid_core, name)
print(*sorted(set(sys.modules) & set(reid_core.moved.MODULES)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
