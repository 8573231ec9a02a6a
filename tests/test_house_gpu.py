"""What is kept for a machine with a GPU works on one without, small."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from environments import declared
from house import DISTRIBUTIONS, ROOT
from packaging.utils import canonicalize_name

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu


def test_every_test_that_looks_for_a_gpu_is_marked_and_run_there():
    looks = re.compile(r"torch\.cuda\.is_available\(\)")
    found = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for pattern in ("tests", "reid_*/tests", "plugins/*/tests")
        for folder in ROOT.glob(pattern)
        for path in folder.rglob("test_*.py")
        if looks.search(path.read_text("utf-8")) and path != Path(__file__)
    }
    assert {*found} == {*gpu.MARKED}
    assert [path for path, text in found.items() if "mark.cuda" not in text] == []


# Of an image that holds PyTorch: torch, what it requires, and torchvision.
IMAGE = {"torch", "torchvision", "numpy", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath"}
IMAGE |= {"networkx", "setuptools", "sympy"}


def test_the_wheels_for_a_gpu_are_all_that_an_image_with_pytorch_lacks():
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")
    needs = {*re.search(r"^GPU_NEEDS := (.*)$", makefile, re.MULTILINE)[1].split()}
    ours = [distribution.project["name"] for distribution in DISTRIBUTIONS]
    told = {canonicalize_name(one.name) for one in declared([*ours, "pytest", "hypothesis"])}
    cuda = re.compile(r"nvidia-|cuda-|triton")
    lacking = {name for name in told - IMAGE if name not in ours and not cuda.match(name)}
    assert lacking - needs == set()


def test_the_run_for_a_gpu_works_small_on_a_cpu(tmp_path: Path):
    done = subprocess.run(
        ["bash", ROOT / "benchmarks/gpu.sh", "--device", "cpu", "--smoke", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "WHEELS": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]
    assert list(parts) == list(gpu.PARTS)
    assert [parts["ddp"][f"{ranks} ranks"]["joined"] for ranks in (1, 2)] == [1, 2]
    assert parts["ddp"]["largest_difference"] < 1e-3
    assert parts["evidence"]["rows"] == 2
    (product,) = {step["share_of_product"] > 0 for step in parts["speed"]["steps"].values()}
    assert product


def test_a_part_that_hangs_is_ended_and_the_next_one_runs(tmp_path: Path):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import gpu\n"
        "gpu.preload = lambda: None; gpu.machine = lambda given: {}\n"
        "def hangs(given): time.sleep(60)\n"
        "def works(given): return {'left': given.left}\n"
        "gpu.PARTS.clear(); gpu.PARTS.update(tests=(1.0, hangs), ddp=(9, works))\n"
        "sys.argv = ['gpu', '--out', sys.argv[2]]; sys.exit(gpu.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, ROOT / "benchmarks", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]
    assert parts["tests"]["problem"] == "it took more than 4 seconds"
    assert parts["ddp"]["left"] == pytest.approx(9)
