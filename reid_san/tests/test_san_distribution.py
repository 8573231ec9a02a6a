from importlib.metadata import distribution

import reid_san


def test_the_version_is_the_metadata_s():
    assert reid_san.__version__ == distribution("reid-san").version


def test_the_distribution_registers_the_plugin_and_its_command():
    points = {(p.group, p.name) for p in distribution("reid-san").entry_points}
    assert points == {("reid.plugins", "san"), ("reid.commands", "san")}
