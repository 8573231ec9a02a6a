"""The retrieval library in an environment that has neither torch nor the rest of this house."""

import re
from pathlib import Path

import numpy as np
import pytest
from environments import Environment
from house import ROOT

CODE = """
import importlib.util, sys
import reid_retrieval
print(reid_retrieval.__file__)
print([name for name in ("torch", "sklearn", "reid_core") if importlib.util.find_spec(name)])
"""


@pytest.fixture(scope="module")
def alone(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the library and what its tests run by."""
    folder = tmp_path_factory.mktemp("alone") / "venv"
    environment = Environment(folder, wheels, "reid-retrieval", "pytest")
    environment.install("reid-retrieval")
    return environment


def test_saved_features_are_evaluated(alone: Environment, tmp_path: Path):
    rng = np.random.default_rng(0)
    pids, camids = rng.integers(0, 5, 40), rng.integers(0, 3, 40)
    rows = rng.standard_normal((5, 8))[pids] + rng.standard_normal((40, 8))
    sides = {"q": slice(10), "g": slice(10, None)}
    arrays = {f"{side}f": rows[some] for side, some in sides.items()}
    arrays |= {f"{side}_pids": pids[some] for side, some in sides.items()}
    arrays |= {f"{side}_camids": camids[some] for side, some in sides.items()}
    np.savez(tmp_path / "features.npz", **arrays)
    words = ("evaluate", "features.npz", "--protocol", "market1501", "--rerank")
    done = alone.run("python", "-m", "reid_retrieval", *words, cwd=tmp_path)
    said, plain, _, reranked, _ = done.stdout.splitlines()
    assert said == "market1501: reid-benchmarks is not installed; by its rule 'standard'"
    assert plain.startswith("standard: mAP ")
    assert reranked.startswith("standard+rerank: mAP ")
    place, others = alone.run("python", "-c", CODE).stdout.splitlines()
    assert Path(place).is_relative_to(alone.folder)
    assert others == "[]"


def test_worked_and_random_cases_pass_by_the_public_names_alone(alone: Environment, tmp_path: Path):
    tests = ROOT / "reid_retrieval" / "tests"
    file = tests / "test_retrieval_public.py"
    imported = re.findall(r"^(?:import|from) (reid_\S+)", file.read_text("utf-8"), re.MULTILINE)
    assert set(imported) == {"reid_retrieval"}
    options = ["-q", "-c", "/dev/null", "--rootdir", tests, "-p", "no:cacheprovider"]
    done = alone.run("pytest", *options, file, cwd=tmp_path)
    assert re.search(r"^[1-9]\d* passed in", done.stdout, re.MULTILINE), done.stdout
