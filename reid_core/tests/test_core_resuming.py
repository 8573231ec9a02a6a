"""A run goes on from other places, and after any failure of a write equals an undisturbed one."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_core.contract.events import RunEnded, StepEnded
from reid_core.defaults.observers import TensorBoard
from reid_core.errors import CheckpointError, ConfigError, OutputError
from reid_core.loop.state import read_checkpoint
from reid_core.outputs import append_json, forget_after
from reid_core.runs import running
from reid_core.runs.resolve import resolve
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import tiny_flags
from reid_core.testing.toy.making import make_toy

EVERY = os.environ.get("REID_FAULTS") == "all"
"""Whether faults are injected at every write instead of at some."""


def run(out: Path, cache: Path, *, said: list[str] | None = None, **options: Any) -> None:
    flags = options.pop("flags", None) or tiny_flags()
    say = (said if said is not None else []).append
    running.run(None if options.get("resume") and not options.pop("given", False) else flags,
                out=out, cache=cache, say=say, **options)  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(folder / "checkpoint.pt")["model"])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(folder: Path, whole: Path) -> None:
    """Compare two finished runs: weights bit for bit, files, and each step logged once."""
    ours, theirs = weights(folder), weights(whole)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert (folder / "embedder.safetensors").read_bytes() == (
        whole / "embedder.safetensors"
    ).read_bytes()
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}
    for kind in ("step", "evaluation"):
        ours_, theirs_ = (
            [(e["iteration"], e.get("total/main")) for e in lines(f) if e["kind"] == kind]
            for f in (folder, whole)
        )
        assert ours_ == theirs_, kind


@pytest.fixture(scope="module")
def whole(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(out, reid_cache)
    return out


class Killed(BaseException):
    """What stands for SIGKILL: nothing after it reaches the disk."""


class Faults:
    """Let the n-th write fail, as the system does or as a process that is killed.

    Args:
        patch: replaces `os.replace`, `os.fsync`, and opening files for writing.
        below: the folder whose files count.
        at: which write fails, 0-based; None lets all pass and counts them.
        error: the number of an `OSError`, or None for a kill.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, below: Path, at: int | None, error: int | None = None
    ) -> None:
        self.count, self.at, self.error, self.dead = 0, at, error, False
        self.below = str(below)
        for name in ("replace", "fsync", "unlink", "rename"):
            patch.setattr(os, name, self.guarded(getattr(os, name), name))
        opened = self.guarded(io.open, "open")
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)

    def guarded(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            mode = named.get("mode", given[1] if len(given) > 1 else "r") if name == "open" else "w"
            ours = name == "fsync" or str(given[0]).startswith(self.below)
            if ours and not {"w", "a", "x", "+"}.isdisjoint(str(mode)):
                if self.dead:
                    raise Killed
                if name != "unlink":
                    number, self.count = self.count, self.count + 1
                    if number == self.at:
                        self.dead = self.error is None
                        if self.error is None:
                            raise Killed
                        raise OSError(self.error, os.strerror(self.error), str(given[0]))
            return function(*given, **named)

        return call


@pytest.fixture(scope="module")
def points(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many writes a run makes."""
    out = tmp_path_factory.mktemp("points") / "run"
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, out, None)
        run(out, reid_cache)
    return faults.count


def chosen(points: int, some: int) -> list[int]:
    step = 1 if EVERY else max(1, points // some)
    return list(range(0, points, step))


def test_a_run_has_many_places_where_it_may_fail(points: int) -> None:
    assert points >= 20


def test_killed_at_any_write_and_resumed_a_run_is_the_undisturbed_one(
    points: int, whole: Path, reid_cache: Path, tmp_path: Path
) -> None:
    for at in chosen(points, 5):
        out = tmp_path / f"kill{at}"
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, out, at)
            with pytest.raises(Killed):
                run(out, reid_cache)
        run(out, reid_cache, resume=(out / "config.toml").exists())
        assert_same(out, whole)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_after_a_full_disk_a_run_goes_on(
    number: int, points: int, whole: Path, reid_cache: Path, tmp_path: Path
) -> None:
    for at in chosen(points, 3)[:: 1 if EVERY else 2]:
        out = tmp_path / f"fault{at}"
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, out, at, number)
            try:
                run(out, reid_cache)
            except OutputError as error:
                problem = str(error)
                assert os.strerror(number) in problem
                assert "\n" not in problem
            assert faults.count > at
        run(out, reid_cache, resume=(out / "config.toml").exists())
        # An observer that could not write was dropped, and its lines with it.
        ours, theirs = weights(out), weights(whole)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_run_that_has_saved_nothing_begins_anew(
    whole: Path, reid_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(whole / "config.toml", out)
    said: list[str] = []
    run(out, reid_cache, said=said, resume=True)
    assert any("holds no checkpoint yet: the run begins anew" in line for line in said)
    assert_same(out, whole)


def test_a_folder_that_moved_with_its_data_is_resumed_from_anywhere(
    reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_toy(tmp_path / "here" / "photos", "tiny")
    monkeypatch.chdir(tmp_path / "here")
    own = {"data": {"name": "folder", "root": "photos"}}
    run(Path("run"), reid_cache, flags=tiny_flags([], own))
    assert f'root = "{tmp_path / "here" / "photos"}"' in Path("run/config.toml").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    said: list[str] = []
    flags = {
        "data": {"root": "there/../there/photos", "threads": 1},
        "engine": {"log_every": 2},
    }
    run(tmp_path / "there" / "run", reid_cache, said=said, resume=True, given=True, flags=flags)
    told = next(line for line in said if line.startswith("resumed with other settings"))
    for key in ("data.root was", "data.threads was 2, is 1", "engine.log_every was 1, is 2"):
        assert key in told


def test_files_are_found_again_from_another_working_directory(
    whole: Path, reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the encoder's start and of the data; and the same places are no other settings."""
    make_toy(tmp_path / "photos", "tiny")
    shutil.copy(whole / "embedder.safetensors", tmp_path / "start.safetensors")
    shutil.copy(whole / "embedder.json", tmp_path / "start.json")
    monkeypatch.chdir(tmp_path)
    own = {"data": {"name": "folder", "root": "photos"}}
    flags = tiny_flags([], own, {"model": {"pretrained": "start.safetensors"}})
    run(Path("run"), reid_cache, flags=flags)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    said: list[str] = []
    run(tmp_path / "run", reid_cache, said=said, resume=True)
    assert not [line for line in said if "other settings" in line]
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "run", reid_cache, said=said, resume=True, given=True, flags=flags)
    assert not [line for line in said if "other settings" in line]


def test_more_epochs_are_a_choice_by_name(whole: Path, reid_cache: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    more: dict[str, Any] = {"flags": {"schedule": {"epochs": 3}}, "given": True, "resume": True}
    with pytest.raises(CheckpointError, match=r"epochs was 2, is 3; .* longer with --longer$"):
        run(out, reid_cache, **more)
    said: list[str] = []
    run(out, reid_cache, **more, longer=True, said=said)
    assert any("schedule.epochs was 2, is 3" in line for line in said)
    steps = [entry["iteration"] for entry in lines(out) if entry["kind"] == "step"]
    assert steps == list(range(6))
    with pytest.raises(CheckpointError, match="all 3 epochs behind it; give more --epochs"):
        run(out, reid_cache, resume=True, longer=True)
    fewer = {**more, "flags": {"schedule": {"epochs": 1}}}
    with pytest.raises(CheckpointError, match=r"3 epochs behind it, more than .* = 1"):
        run(out, reid_cache, **fewer, longer=True)
    with pytest.raises(ConfigError, match="add --resume"):
        run(tmp_path / "new", reid_cache, longer=True)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"optim": {"lr": 0.5}}, "written with other settings: optim.lr was"),
        ({"run": {"plugins": ["head"]}}, "written with the plugins .*this run has core, head"),
    ],
)
def test_what_cannot_go_on_is_refused_before_data_are_made(
    whole: Path, tmp_path: Path, flags: dict[str, Any], reason: str
) -> None:
    """As where defaults of the core or of a plugin have changed since."""
    said: list[str] = []
    resolved = resolve(tiny_flags((), flags), classes=PROBES)
    with pytest.raises(CheckpointError, match=reason):
        run(whole, tmp_path / "cache", resume=True, resolved=resolved, said=said)
    assert (said, list(tmp_path.iterdir())) == ([], [])


def test_what_is_done_again_is_logged_once(tmp_path: Path) -> None:
    path, own = tmp_path / "metrics.jsonl", tmp_path / "san" / "textures.jsonl"
    entries: list[dict[str, Any]] = [
        {"kind": "evaluation", "when": "untrained", "iteration": -1},
        {"kind": "step", "epoch": 3, "iteration": 1},
        {"kind": "evaluation", "when": "epoch", "iteration": 1},
        {"kind": "step", "iteration": 2},
        {"kind": "evaluation", "when": "final", "iteration": 1},
        {"kind": "end", "outcome": "interrupted"},
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"kind": "st')
    for epoch in range(3):
        append_json(own, {"epoch": epoch, "dead": 0})
    append_json(own, {"when": "final", "epoch": 0, "dead": 0})
    (tmp_path / "notes.jsonl").write_text("no JSON\n7\n")
    forget_after(tmp_path, 1, 2)
    left = [json.loads(line) for line in path.read_text().splitlines()]
    assert left == [*entries[:3], entries[5]]
    assert [json.loads(line)["epoch"] for line in own.read_text().splitlines()] == [0]
    assert (tmp_path / "notes.jsonl").read_text() == "no JSON\n7\n"
    # A run that was killed before its first checkpoint begins anew.
    forget_after(tmp_path, 0, 0)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [entries[5]]
    assert own.read_text() == ""


def test_tensorboard_hides_what_is_done_again(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    for iteration in (0, 7):
        board = TensorBoard(tmp_path, iteration)
        board(StepEnded(0, iteration, {"loss/main": 0.5}))
        board(RunEnded(tmp_path, "finished", {}))
    marks = []
    for file in sorted((tmp_path / "tensorboard").iterdir()):
        content, place = file.read_bytes(), 0
        while place < len(content):  # length, its check sum, the event, its check sum
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            if event.session_log.status == SessionLog.START:
                marks.append(event.step)
            place += 16 + size
    assert marks == [7]
