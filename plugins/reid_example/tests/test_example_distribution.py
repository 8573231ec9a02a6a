from importlib.metadata import distribution, version

from packaging.requirements import Requirement

import reid_example

CORE = ">=0.1"
"""The range of the core, on both ends of which `.github/workflows/tests.yml` runs these tests."""


def test_the_version_is_the_metadata_s():
    assert reid_example.__version__ == distribution("reid-example").version


def test_the_plugin_is_registered():
    (entry,) = distribution("reid-example").entry_points.select(group="reid.plugins")
    assert (entry.name, entry.load()) == ("example", reid_example.Example)


def test_the_range_of_the_core_is_stated_and_holds_the_one_that_is_installed():
    lines = map(Requirement, distribution("reid-example").requires or [])
    (core,) = (line for line in lines if line.name == "reid-core" and line.marker is None)
    assert str(core.specifier) == CORE
    assert core.specifier.contains(version("reid-core"), prereleases=True)
