from importlib.metadata import distribution

import reid_partaware


def test_the_version_is_the_metadata_s():
    assert reid_partaware.__version__ == distribution("reid-partaware").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-partaware").entry_points) == []
