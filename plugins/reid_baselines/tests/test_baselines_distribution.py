from importlib.metadata import distribution

import reid_baselines


def test_the_version_is_the_metadata_s():
    assert reid_baselines.__version__ == distribution("reid-baselines").version


def test_every_baseline_is_a_plugin():
    found = distribution("reid-baselines").entry_points
    names = {"agw", "bot", "cal", "ema", "ibn", "meanteacher", "metric"}
    assert {entry.name for entry in found} >= {"globalpool", "mgn", "osnet", "pcb", *names}
    assert {entry.group for entry in found} == {"reid.plugins"}
