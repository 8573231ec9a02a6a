"""The floors of the core's rooms: the import contract names them, no name leads above it."""

import ast
import re

from house import ROOT, read_toml

SOURCE = ROOT / "reid_core" / "src" / "reid_core"

MODULE = re.compile(r"reid_core\.(\w+)(\.\w+)*(:\w+)?")


def _floors() -> dict[str, int]:
    contracts = read_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"]
    (floors,) = (contract for contract in contracts if contract["id"] == "core-floors")
    layers = reversed(floors["layers"])
    return {room: floor for floor, layer in enumerate(layers) for room in layer.split(" | ")}


def test_every_room_has_a_floor():
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "recipes"} == set(_floors())


CORE = ("plugins", "reid_core.defaults:Core")
"""The core's own plugin is found by name, as any plugin is."""


def test_nothing_above_is_looked_up_by_name_but_the_cores_own_plugin():
    floors, upward = _floors(), set()
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = MODULE.fullmatch(node.value)
                if named and named[1] != room and floors.get(named[1], -1) >= floors.get(room, 0):
                    upward.add((room, node.value))
    assert upward == {CORE}, "old paths, which may lead upward, stand in moved.json"


def test_the_contract_needs_the_rooms_below_it_alone():
    allowed = {"contract", "errors", "config"}
    for path in (SOURCE / "contract").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reid_core."):
                assert str(node.module).split(".")[1] in allowed, (path.name, node.module)
