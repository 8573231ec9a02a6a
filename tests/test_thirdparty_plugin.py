"""A plugin of somebody else: forty lines, installed by pip, trained by ``reid run``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import tomli_w

from reid_core import load_embedder
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import TINY

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "somebodys-centre-loss"
version = "0.7"
description = "Pull the vectors of a person together"
dependencies = ["reid-core"]

[project.entry-points."reid.plugins"]
centre = "somebodys_centre:Centre"

[tool.hatch.build.targets.wheel]
include = ["somebodys_centre.py"]
"""

MODULE = '''
"""Pull the vectors of a person together."""

from reid_core import LossTerm, Plugin, Settings, hookimpl


class CentreSettings(Settings):
    weight: float = 0.5


class Centre(Plugin):
    Settings = CentreSettings

    @hookimpl
    def reid_losses(self, ctx, step):
        if step.update != "main":
            return []
        unit, pid = step.main.embedded["core/global"].unit, step.main.batch.pid
        same = (pid[:, None] == pid).float()
        centres = same @ unit / same.sum(1, keepdim=True)
        spread = (unit - centres).square().sum(1).mean()
        return [LossTerm(self.own("spread"), spread, self.settings.weight)]
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the distribution beside the environment and return the folder."""
    source = tmp_path_factory.mktemp("somebody")
    (source / "pyproject.toml").write_text(dedent(PYPROJECT), encoding="utf-8")
    (source / "somebodys_centre.py").write_text(MODULE, encoding="utf-8")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    how = ["--disable-pip-version-check", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *how, str(source)], check=True)
    return target


def test_it_has_forty_lines_at_most() -> None:
    assert len([line for line in (PYPROJECT + MODULE).splitlines() if line.strip()]) <= 40


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process see the distribution."""
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("somebodys_centre", None)


@pytest.mark.usefixtures("installed")
def test_it_is_found_and_described_without_being_imported(run_reid: RunReid) -> None:
    code, said, errors = run_reid("plugins", "list")
    assert code == 0, errors
    assert "somebodys-centre-loss 0.7" in said
    assert "somebodys_centre" not in sys.modules
    code, said, errors = run_reid("plugins", "list", "--json")
    assert code == 0, errors
    (row,) = (row for row in json.loads(said) if row["name"] == "centre")
    assert row["distribution"] == "somebodys-centre-loss"
    assert row["version"] == "0.7"
    assert row["summary"] == "Pull the vectors of a person together"


@pytest.mark.usefixtures("installed")
def test_its_loss_is_trained_and_nothing_of_it_is_deployed(
    tmp_path: Path, run_reid: RunReid
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tomli_w.dumps(TINY), encoding="utf-8")
    out = tmp_path / "run"
    words = ("-p", "centre", "-r", recipe, "-o", out, "-s", "centre.weight=0.25")
    code, _, errors = run_reid("run", *words)
    assert code == 0, errors
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert len(steps) == 4
    for step in steps:
        assert 0 < step["loss/centre/spread"] < 2
        assert step["weight/centre/spread"] == 0.25
        total = step["loss/core/global/ce"] + step["loss/core/global/triplet"]
        expected = total + 0.25 * step["loss/centre/spread"]
        assert step["total/main"] == pytest.approx(expected, abs=1e-5)
    facts = json.loads((out / "run.json").read_text())
    assert facts["plugins"]["centre"] == "0.7"
    assert "centre" not in (out / "embedder.json").read_text()
    assert load_embedder(out).dim == 96


def test_without_its_distribution_the_run_is_refused_in_one_line(
    tmp_path: Path, run_reid: RunReid
) -> None:
    code, _, errors = run_reid("run", "-p", "centre", "-o", tmp_path / "run")
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert "there is no plugin 'centre'" in errors
