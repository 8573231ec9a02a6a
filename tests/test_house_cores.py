"""A new distribution is tested on both ends of the range of cores that it states."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from environments import Environment
from hatchling.builders.wheel import WheelBuilder
from house import ROOT

from reid_core.cli.scaffold import Scaffold, write_distribution

NOW = metadata.version("reid-core")
LATER = "99.0.0"
"""The version of a core that has one hook and one public name more."""

HOOK = '''
@_hookspec(since="99.0")
def reid_tomorrow(ctx: RunContext) -> Sequence[str]:
    """Say what there will be."""


HOOKS ='''
"""A hook, behind all others."""

PLAIN = "manifest or distribution or losses"
"""What need not build a model: not all of the conformance suite, which takes ten seconds."""

EARLY = """
from reid_core import {name}, Plugin, hookimpl

class Early(Plugin):
    @hookimpl
    def {hook}(self, ctx):
        return []
"""

LOOK = """
import sys
from reid_core.plugins.discovery import installed
from reid_core.plugins.offers import hooks_of
for name in sys.argv[1:]:
    try:
        print(name, hooks_of(installed()[name]).implementers("reid_tomorrow"))
    except Exception as error:
        print(name, type(error).__name__, error)
"""


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that stands in a file once."""
    text = path.read_text("utf-8")
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def cores(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheels of today, and that of a later core."""
    folder = tmp_path_factory.mktemp("cores")
    for wheel in wheels.glob("*.whl"):
        (folder / wheel.name).symlink_to(wheel)
    later = tmp_path_factory.mktemp("later") / "reid_core"
    ignored = shutil.ignore_patterns("__pycache__", "tests")
    shutil.copytree(ROOT / "reid_core", later, ignore=ignored)
    package = later / "src" / "reid_core"
    edit(later / "pyproject.toml", f'version = "{NOW}"', f'version = "{LATER}"')
    edit(package / "reid_plugin.json", f'"version": "{NOW}"', f'"version": "{LATER}"')
    edit(package / "contract" / "hookspecs.py", "\nHOOKS =", HOOK)
    with (package / "__init__.pyi").open("a", encoding="utf-8") as names:
        names.write("from reid_core.contract.hookspecs import LIFETIMES as LIFETIMES\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_RELEASE", "1")
        list(WheelBuilder(str(later)).build(directory=str(folder)))
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_distribution(Scaffold("ranged"), tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def environment(cores: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    place = tmp_path_factory.mktemp("ranged") / "venv"
    return Environment(place, cores, "reid-core[test]", "hatchling")


@pytest.mark.parametrize(
    ("core", "version", "chosen", "passed"),
    [("newest", LATER, f"{PLAIN} or claims", 9), ("oldest", NOW, PLAIN, 8)],
    ids=["newest", "oldest"],
)
def test_the_template_s_workflow_passes_on_both_ends_of_its_range(
    core: str,
    version: str,
    chosen: str,
    passed: int,
    environment: Environment,
    project: Path,
    reid_cache: Path,
):
    workflow = yaml.safe_load((project / ".github/workflows/tests.yml").read_text("utf-8"))
    job = workflow["jobs"]["tests"]
    assert set(job["strategy"]["matrix"]["core"]) == {"newest", "oldest"}
    steps = [step for step in job["steps"] if "run" in step]
    assert [step.get("if") for step in steps] == [None, "matrix.core == 'oldest'", None]
    install, oldest, test = (step["run"] for step in steps)
    lines = [install, test] if core == "newest" else [install, oldest, test]
    done = environment.shell(
        "\n".join([*lines, "pip list --format json"]),
        cwd=project,
        PYTEST_ADDOPTS=f"-q -p no:cacheprovider -k '{chosen}'",
        REID_CACHE=str(reid_cache),
    )
    there = {one["name"]: one["version"] for one in json.loads(done.stdout.splitlines()[-1])}
    assert there["reid-core"] == version
    assert f"\n{passed} passed, " in done.stdout
    _look_at_what_is_newer(environment, version)


def _look_at_what_is_newer(environment: Environment, version: str) -> None:
    """What only the later core has works there, and is named on the other one."""
    site = environment.folder / "early"
    for name, words in (
        ("hook", {"name": "LossTerm", "hook": "reid_tomorrow"}),
        ("name", {"name": "LossTerm, LIFETIMES", "hook": "reid_pseudo_labels"}),
    ):
        info = site / f"reid_early_{name}-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        about = f"Metadata-Version: 2.1\nName: reid-early-{name}\nVersion: 1.0\n"
        (info / "METADATA").write_text(about, "utf-8")
        entry = f"[reid.plugins]\nearly_{name} = early_{name}:Early\n"
        (info / "entry_points.txt").write_text(entry, "utf-8")
        (site / f"early_{name}.py").write_text(EARLY.format(**words), "utf-8")
    words = ["-c", LOOK, "early_hook", "early_name"]
    hook, name = environment.run("python", *words, PYTHONPATH=str(site)).stdout.splitlines()
    if version == LATER:
        assert (hook, name) == ("early_hook ('early_hook',)", "early_name ()")
    else:
        assert hook.startswith("early_hook PluginError")
        assert "reid_tomorrow" in hook
        assert f"reid-core {version}" in hook
        assert "cannot import name 'LIFETIMES' from 'reid_core'" in name
