from importlib.metadata import distribution

import reid_benchmarks


def test_the_version_is_the_metadata_s():
    assert reid_benchmarks.__version__ == distribution("reid-benchmarks").version


def test_no_plugin_is_promised_before_there_is_one():
    assert list(distribution("reid-benchmarks").entry_points) == []
