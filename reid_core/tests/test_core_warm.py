"""What a server of processes imports beforehand changes no other process."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = """
import sys, types
for name in ("timm", "torch._dynamo", "reid_core.testing.ranks"):
    sys.modules[name] = types.ModuleType(name)
import gc, reid_core.testing.warm
raise SystemExit(3 + (gc.get_freeze_count() > 0))
"""
"""Imports the module without what is slow, and ends with 3 where garbage is as it was."""


@pytest.mark.parametrize(
    ("before", "code"),
    [("", 3), ("from multiprocessing.forkserver import main", 0)],
    ids=["anybody", "server"],
)
def test_only_the_server_ends_at_once(before: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", before + LIGHT], check=False)
    assert done.returncode == code
