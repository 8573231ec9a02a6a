"""Pytest fixtures for core and plugins, loaded with ``-p reid_core.testing.fixtures``.

``toy_tiny`` is made once per test run and shared by all tests; nobody writes into its folder.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reid_core.contract.samples import DataSet

SKIPPED = "not looked at by the conformance suite"
"""The property of a test that says what a check of the conformance suite left out, and why."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what checks of the conformance suite left out, where skipped tests are listed, too."""
    if not set(terminalreporter.config.getoption("reportchars")) & set("saA"):
        return
    reports = [r for found in terminalreporter.stats.values() for r in found]
    lines = [
        value
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == SKIPPED and getattr(report, "when", "") == "call"
    ]
    if lines:
        terminalreporter.section(SKIPPED)
    for line in lines:
        terminalreporter.line(line)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fork what ranks are forked from, where a test looks at ranks, and before any computes."""
    # Models and plans are made of many small objects, and tests make many of them: up to a tenth
    # of their time would go by with looking for garbage.
    gc.set_threshold(10_000)
    checks = [
        item.callspec.params.get("check") for item in session.items if hasattr(item, "callspec")
    ]
    if "ranks" in checks and not session.config.option.collectonly:
        from reid_core.testing import forking

        forking.begin()
        # All that has been imported stays: nobody need look for garbage in it.
        gc.freeze()


def pytest_sessionfinish() -> None:
    """Collect garbage once: as it ends, pytest does so five times, among all of torch's objects."""
    if forking := sys.modules.get("reid_core.testing.forking"):
        forking.end()
    gc.collect()
    gc.freeze()


RunReid = Callable[..., tuple[int, str, str]]
"""Takes the words behind ``reid``; returns exit code, output and errors."""


@pytest.fixture
def run_reid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reid_cache: Path
) -> RunReid:
    """Return a function that runs the command line in this process, on a wide terminal."""
    from reid_core.cli import main

    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reid", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def reid_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a cache folder that the whole test run shares, in place of the user's."""
    base = tmp_path_factory.getbasetemp()
    # What one worker of pytest-xdist has made, or is making, others need not make again.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "reid-cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def toy_tiny(reid_cache: Path) -> DataSet:
    """Return the toy data set in its smallest size."""
    from reid_core.contract.samples import DataRequest
    from reid_core.testing.toy.making import load_toy

    return load_toy(DataRequest("toy", None, "tiny", None, reid_cache))
