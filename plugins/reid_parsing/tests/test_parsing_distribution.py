from importlib.metadata import distribution

import reid_parsing


def test_the_version_is_the_metadata_s():
    assert reid_parsing.__version__ == distribution("reid-parsing").version


def test_it_registers_its_plugins_and_a_command():
    points = {(p.group, p.name) for p in distribution("reid-parsing").entry_points}
    plugins = {("reid.plugins", name) for name in ("body", "joints", "parsing")}
    assert points == {*plugins, ("reid.commands", "parsing")}


def test_every_public_name_is_there():
    for name in reid_parsing.__all__:
        assert getattr(reid_parsing, name) is not None
    assert {"build_parser", "load_schp", "parser_stage", "GRANULARITIES"} <= set(dir(reid_parsing))
