"""The two commands of the README on machines that are not as they should be."""

import os
import subprocess
from pathlib import Path

import pytest
from house import ROOT


def _make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ours = ("MAKE", "MFLAGS", "PYTHON", "VENV", "CONSTRAINTS")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def _interpreter(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("script", ["exit 1", "exit 127"], ids=["too old", "not there"])
def test_an_unfit_interpreter_is_one_line_and_leaves_nothing(tmp_path: Path, script: str):
    python = _interpreter(tmp_path, script)
    made = _make("install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert made.returncode != 0
    assert "Python 3.11 or newer is needed" in made.stderr.splitlines()[0]
    assert not (tmp_path / "venv").exists()


def test_torch_is_installed_first_and_alone(tmp_path: Path):
    planned = _make("install", "--dry-run", f"VENV={tmp_path / 'venv'}").stdout
    installs = [line for line in planned.splitlines() if "pip install" in line]
    assert installs[0].endswith("-c constraints.txt torch")


def test_an_installation_of_the_same_files_is_not_repeated(tmp_path: Path):
    venv = tmp_path / "venv"
    planned = _make("install", "--dry-run", f"VENV={venv}").stdout
    stamp = Path(planned.splitlines()[-1].removeprefix("touch "))
    stamp.parent.mkdir()
    stamp.touch()
    again = _make("install", "--dry-run", f"VENV={venv}").stdout
    assert "pip install" not in again


def test_what_python_compiles_is_kept_on_machines_that_say_otherwise(tmp_path: Path):
    told = tmp_path / "told"
    python = _interpreter(tmp_path, f'echo "${{PYTHONDONTWRITEBYTECODE-unset}}" > {told}; exit 1')
    place = f"VENV={tmp_path / 'venv'}"
    _make("install", f"PYTHON={python}", place, PYTHONDONTWRITEBYTECODE="1")
    assert told.read_text("utf-8") == "unset\n"
