from importlib.metadata import distribution

import reid_synthpeople


def test_the_version_is_the_metadata_s():
    assert reid_synthpeople.__version__ == distribution("reid-synthpeople").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-synthpeople").entry_points) == []
