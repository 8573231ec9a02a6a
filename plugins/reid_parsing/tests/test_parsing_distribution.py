from importlib.metadata import distribution

import reid_parsing


def test_the_version_is_the_metadata_s():
    assert reid_parsing.__version__ == distribution("reid-parsing").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-parsing").entry_points) == []
