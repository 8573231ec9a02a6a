"""A plugin of somebody else: forty lines, installed by pip, trained by ``reid run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import tomli_w

from reid_core import load_embedder
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

RUN = "from reid_core.cli import main; main()"


def call(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the distribution beside the environment and return the folder."""
    source = tmp_path_factory.mktemp("somebody")
    (source / "pyproject.toml").write_text(dedent(PYPROJECT), encoding="utf-8")
    (source / "somebodys_centre.py").write_text(MODULE, encoding="utf-8")
    target = tmp_path_factory.mktemp("site")
    call(
        "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
        "--no-build-isolation", "--target", target, source,
    )  # fmt: skip
    return target


def test_it_has_forty_lines_at_most() -> None:
    assert len([line for line in (PYPROJECT + MODULE).splitlines() if line.strip()]) <= 40


def test_it_is_found_and_described_without_being_imported(site: Path) -> None:
    done = call("-c", RUN, "plugins", "list", "--json", PYTHONPATH=str(site))
    (row,) = (row for row in json.loads(done.stdout) if row["name"] == "centre")
    assert row["distribution"] == "somebodys-centre-loss"
    assert row["version"] == "0.7"
    assert row["summary"] == "Pull the vectors of a person together"


def test_its_loss_is_trained_and_nothing_of_it_is_deployed(
    site: Path, reid_cache: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tomli_w.dumps(TINY), encoding="utf-8")
    out = tmp_path / "run"
    call(
        "-c", RUN, "run", "-p", "centre", "-r", recipe, "-o", out, "-s", "centre.weight=0.25",
        PYTHONPATH=str(site), REID_CACHE=str(reid_cache),
    )  # fmt: skip
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


def test_without_its_distribution_the_run_is_refused_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, "run", "-p", "centre", "-o", str(tmp_path / "run")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "there is no plugin 'centre'" in done.stderr
