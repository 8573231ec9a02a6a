"""torchvision is imported where its binary does not fit, by whoever knows nothing of the guard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from reid_core import torchvision_guard as guard

PLUGIN = """import timm

from reid_core import Plugin


class Method(Plugin):
    network = timm.create_model("test_resnet")
"""


def test_a_plugin_imports_timm_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "method.py").write_text(PLUGIN, "utf-8")
    code = (
        "import sys, reid_core\n"
        "assert not {'torch', 'torchvision', 'timm'} & set(sys.modules), 'the guard imports'\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import method\n"
        "print(type(method.Method.network).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ResNet\n", done.stderr


class Torch:
    """Counts the schemas that were declared."""

    def __init__(self) -> None:
        self.schemas: list[str] = []
        self.library = SimpleNamespace(Library=lambda name, kind: self)

    def define(self, schema: str) -> None:
        self.schemas.append(schema.partition("(")[0])


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    found = Torch()
    monkeypatch.setattr(guard, "import_module", lambda name: found)
    monkeypatch.setattr(guard, "_libraries", [])
    # What an import has left half done, without touching what this process has.
    monkeypatch.setattr(guard, "_GUARDED", "halfvision")
    monkeypatch.setitem(sys.modules, "halfvision.ops", ModuleType("halfvision.ops"))
    return found


def lacking(torch: Torch, wanted: int, message: str = "operator torchvision::nms does not exist"):
    def execute(module: ModuleType) -> None:
        if len(torch.schemas) < wanted:
            raise RuntimeError(message)
        module.__dict__["loaded"] = "halfvision.ops" not in sys.modules

    return execute


@pytest.mark.parametrize("wanted", [1, 2])
def test_what_is_missing_is_declared_and_said_once(torch: Torch, wanted: int) -> None:
    module = ModuleType("halfvision")
    with pytest.warns(UserWarning, match="binary does not load beside this build"):
        guard._execute(lacking(torch, wanted), module)
    assert torch.schemas == ["nms", "qnms"][:wanted]
    assert module.__dict__["loaded"], "submodules are imported anew"


def test_where_it_loads_nothing_is_declared(torch: Torch) -> None:
    guard._execute(lacking(torch, 0), ModuleType("halfvision"))
    assert torch.schemas == []


def test_other_errors_are_not_the_guards(torch: Torch) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        guard._execute(lacking(torch, 1, "out of memory"), ModuleType("halfvision"))
    assert torch.schemas == []
    with pytest.raises(ImportError, match=r"install the pair that constraints\.txt names"):
        guard._execute(lacking(torch, 9), ModuleType("halfvision"))


def test_it_is_installed_once_and_finds_torchvision_alone() -> None:
    guard.install()
    finders = [one for one in sys.meta_path if isinstance(one, guard._Finder)]
    assert len(finders) == 1
    assert finders[0].find_spec("torch") is None
    spec = finders[0].find_spec("torchvision")
    assert spec is not None
    assert spec.origin == sys.modules.get("torchvision", spec).__dict__.get("__file__", spec.origin)
