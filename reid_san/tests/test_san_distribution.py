from importlib.metadata import distribution

import reid_san


def test_the_version_is_the_metadata_s():
    assert reid_san.__version__ == distribution("reid-san").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-san").entry_points) == []
