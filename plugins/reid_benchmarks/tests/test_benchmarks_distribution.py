from importlib.metadata import distribution

import reid_benchmarks


def test_the_version_is_the_metadata_s():
    assert reid_benchmarks.__version__ == distribution("reid-benchmarks").version


def test_the_plugin_is_registered():
    points = {(p.group, p.name): p for p in distribution("reid-benchmarks").entry_points}
    assert points["reid.plugins", "benchmarks"].load() is reid_benchmarks.Benchmarks
