from importlib.metadata import distribution

import reid_example


def test_the_version_is_the_metadata_s():
    assert reid_example.__version__ == distribution("reid-example").version


def test_the_plugin_is_registered():
    (entry,) = distribution("reid-example").entry_points.select(group="reid.plugins")
    assert (entry.name, entry.load()) == ("example", reid_example.Example)
