from importlib.metadata import distribution

import reid_fsam


def test_the_version_is_the_metadata_s():
    assert reid_fsam.__version__ == distribution("reid-fsam").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-fsam").entry_points) == []
