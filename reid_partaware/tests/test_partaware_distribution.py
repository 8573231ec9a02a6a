from importlib.metadata import distribution

import reid_partaware


def test_the_version_is_the_metadata_s():
    assert reid_partaware.__version__ == distribution("reid-partaware").version
