"""The examples of docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reid_retrieval
from reid_retrieval.finding import PUBLISHED

MODULES = [f"reid_retrieval.{m.name}" for m in pkgutil.iter_modules(reid_retrieval.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    with np.printoptions(legacy="1.25"):
        found = doctest.testmod(importlib.import_module(name), report=True)
    assert found.failed == 0
    assert found.attempted > 0 or name not in ("reid_retrieval.public", "reid_retrieval.finding")


def test_every_public_function_has_an_example() -> None:
    for name in ("cluster", "evaluate", "evaluate_distances", "jaccard", "rerank", "search"):
        assert ">>> " in (getattr(reid_retrieval, name).__doc__ or ""), name


def test_protocols_are_declared_without_waiting_for_numpy() -> None:
    code = (
        "import sys, reid_retrieval.protocols\n"
        "from reid_retrieval import JunkRule, Protocol, find_protocol\n"
        "assert find_protocol('standard').junk == JunkRule(same=('camid',))\n"
        "assert not {'numpy', 'scipy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-I", "-c", code], check=True)


def test_the_page_s_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "retrieval.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["nearest"].shape == (50, 5)  # type: ignore[attr-defined]
    assert names["final"].shape == (50, 400)  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert "no-camera: mAP" in said
    standard = names["standard"].metrics()  # type: ignore[attr-defined]
    assert said.splitlines()[-1] == str(standard)


def test_the_page_s_file_of_rules_is_one(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "retrieval.md"
    (rules,) = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / "rules.toml").write_text(rules, "utf-8")
    found = reid_retrieval.find_protocol(tmp_path / "rules.toml")
    assert found.text.startswith("mine v1: query split=query & view=front; gallery all")


def test_the_page_lists_the_published_rules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "retrieval.md").read_text("utf-8")
    (line,) = [line for line in page.splitlines() if "without it, too" in line]
    assert sorted(re.findall(r"`([\w/-]+)`", line)) == sorted(PUBLISHED)
