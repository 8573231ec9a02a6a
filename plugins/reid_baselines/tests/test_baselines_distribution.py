from importlib.metadata import distribution

import reid_baselines


def test_the_version_is_the_metadata_s():
    assert reid_baselines.__version__ == distribution("reid-baselines").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-baselines").entry_points) == []
