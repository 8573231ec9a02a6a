"""The examples of docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import reid_retrieval

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
