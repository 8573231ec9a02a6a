from importlib.metadata import distribution

import reid_unsup_cc


def test_the_version_is_the_metadata_s():
    assert reid_unsup_cc.__version__ == distribution("reid-unsup-cc").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-unsup-cc").entry_points) == []
