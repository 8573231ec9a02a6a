from importlib.metadata import distribution

import reid_dgnet


def test_the_version_is_the_metadata_s():
    assert reid_dgnet.__version__ == distribution("reid-dgnet").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-dgnet").entry_points) == []
