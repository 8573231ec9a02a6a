"""Runs by what they shall be: a finished one is left alone, an interrupted one goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from reid_core import ConfigError, is_finished, run_once
from reid_core.loop.trainer import Trainer
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.tiny import tiny_flags


def quiet(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def finished(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "one"
    assert not is_finished(out, tiny_flags())
    assert run_once(tiny_flags(), out=out, cache=reid_cache, say=quiet)
    return out


def test_a_finished_run_is_left_alone(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_core.runs.running.run", None)
    assert is_finished(finished, tiny_flags())
    assert not run_once(tiny_flags(), out=finished, say=quiet)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"schedule": {"epochs": 3}}, r"schedule\.epochs was 2, is 3"),
        ({"optim": {"name": "sgd"}}, r"optim\.name was 'adam', is 'sgd'"),
        ({"model": {"neck": "none"}}, r"model\.neck was 'bn', is 'none'"),
        ({"evaluation": {"flip": "sum"}}, r"evaluation\.flip was 'off', is 'sum'"),
        ({"engine": {"precision": "bf16"}}, r"engine\.precision was 'fp32', is 'bf16'"),
    ],
)
def test_finished_runs_of_other_settings_are_refused(
    sections: dict[str, Any], said: str, finished: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"holds a finished run of other.*{said}; name "):
        run_once(tiny_flags((), sections), out=finished)


def test_what_no_score_depends_on_may_differ_and_versions_may_not(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = {
        "engine": {"log_every": 7, "tensorboard": False},
        "data": {"threads": 1},
        "evaluation": {"ranked_list": 1, "batch_size": 9},
    }
    assert is_finished(finished, tiny_flags((), idle))
    monkeypatch.setattr("reid_core.runs.continuing.versions_of", lambda plugins: {"core": "99"})
    with pytest.raises(ConfigError, match=r"other settings: core was .*, is 99; name another"):
        is_finished(finished, tiny_flags())


def test_a_finished_run_is_known_from_every_working_directory(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are stored as absolute paths, and asked for as they are typed."""
    monkeypatch.chdir(finished.parent)
    stored = (finished / "config.toml").read_text("utf-8")
    own = {"data": {"root": "photos", "also": ["toy:tiny", "folder=more"]}}
    config = resolve(tiny_flags((), own)).config
    assert config.data.also == ("toy:tiny", f"folder={finished.parent / 'more'}")
    (finished / "config.toml").write_text(config.to_toml(), "utf-8")
    try:
        assert is_finished(finished, tiny_flags((), own))
        monkeypatch.chdir(finished)
        with pytest.raises(ConfigError, match=r"data\.root was"):
            is_finished(finished, tiny_flags((), own))
    finally:
        (finished / "config.toml").write_text(stored, "utf-8")


def test_an_interrupted_run_of_other_settings_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for rules, not what is stored in the folder of the interrupted run."""
    asked: list[Any] = []
    monkeypatch.setattr("reid_core.runs.running.run", lambda **given: asked.append(given))
    flags = tiny_flags((), {"optim": {"lr": 0.001}})
    begun, saved = ("config.toml",), ("config.toml", "checkpoint.pt")
    for name, there in (("new", ()), ("begun", begun), ("saved", saved)):
        out = tmp_path / name
        out.mkdir()
        for file in there:
            (out / file).touch()
        assert run_once(flags, out=out)
        assert asked[-1]["resume"] is bool(there)
        assert asked[-1]["resolved"].config.optim.lr == 0.001
        assert "recipe" not in asked[-1]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "sections", [{"schedule": {"epochs": 4}}, {"evaluation": {"flip": "sum"}}], ids=str
)
def test_results_of_before_finish_no_run_that_goes_on_otherwise(
    sections: dict[str, Any], finished: Path, reid_cache: Path, tmp_path: Path
) -> None:
    """The folder says what shall be done, and results what has been done."""
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    results = (out / "results.json").read_text("utf-8")
    longer = "schedule" in sections

    def killed(trainer: Trainer) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", killed)
        with pytest.raises(Killed):
            run(sections, out=out, resume=True, longer=longer, cache=reid_cache, say=quiet)
    asked = tiny_flags((), sections)
    assert not is_finished(out, asked)
    assert (out / "results_before.json").read_text("utf-8") == results
    run(out=out, resume=True, longer=longer, cache=reid_cache, say=quiet)
    assert is_finished(out, asked)
    assert (out / "results.json").read_text("utf-8") != results
