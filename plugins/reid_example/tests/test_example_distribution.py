from importlib.metadata import distribution

import reid_example


def test_the_version_is_the_metadata_s():
    assert reid_example.__version__ == distribution("reid-example").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-example").entry_points) == []
