"""Ranks are forked from a process that has computed nothing, and from no other."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reid_core.testing import forking
from reid_core.testing.fixtures import pytest_collection_finish


def note(rank: int, folder: Path) -> None:
    (folder / str(rank)).write_text(str(os.getppid()), "utf-8")


def fail(rank: int) -> None:
    if rank == 1:
        raise ValueError("the second one")


def test_a_server_forks_processes_tells_what_failed_and_ends(tmp_path: Path) -> None:
    server = forking._Server()
    try:
        assert server.failure(fail, (), 2).splitlines()[-1] == "ValueError: the second one"
        assert server.failure(note, (tmp_path,), 2) == ""
    finally:
        server.end()
    parents = {int((tmp_path / str(rank)).read_text("utf-8")) for rank in range(2)}
    assert parents == {server._pid}
    with pytest.raises(ProcessLookupError):
        os.kill(server._pid, 0)


def test_where_nothing_is_forked_python_s_own_server_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(forking, "_server", None)
    monkeypatch.setattr(forking, "_Server", lambda: asked.append("a server"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        forking, "start_processes", lambda *words, start_method: asked.append(start_method)
    )
    forking.begin()
    assert forking.failure_of(fail, (), 2) == ""
    assert asked == ["forkserver"]


@pytest.mark.parametrize(
    ("check", "only_collected", "begun"),
    [("ranks", False, 1), ("ranks", True, 0), ("order", False, 0)],
)
def test_a_server_begins_before_the_first_test_where_ranks_are_looked_at(
    check: str, only_collected: bool, begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(forking, "begin", lambda: calls.append(None))
    items = [SimpleNamespace(), SimpleNamespace(callspec=SimpleNamespace(params={"check": check}))]
    option = SimpleNamespace(collectonly=only_collected)
    session: Any = SimpleNamespace(items=items, config=SimpleNamespace(option=option))
    pytest_collection_finish(session)
    assert len(calls) == begun
