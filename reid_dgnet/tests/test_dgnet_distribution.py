from importlib.metadata import distribution

import reid_dgnet


def test_the_version_is_the_metadata_s():
    assert reid_dgnet.__version__ == distribution("reid-dgnet").version


def test_the_entry_points_are_the_plugin_and_its_commands():
    points = {(p.group, p.name): p.value for p in distribution("reid-dgnet").entry_points}
    assert points == {
        ("reid.plugins", "dgnet"): "reid_dgnet:Dgnet",
        ("reid.commands", "dgnet"): "reid_dgnet.commands:dgnet",
    }
