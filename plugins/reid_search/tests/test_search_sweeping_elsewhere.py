"""Sweeps on clusters: the jobs of submitit's local executor, and a Ray of this machine."""

import importlib
import json
import pickle
import sys
import warnings
from pathlib import Path

import pytest
import submitit

from reid_core import ConfigError, ReidError
from reid_core.testing.tiny import tiny_flags
from reid_search.sweeping import engines
from reid_search.sweeping.engines import Task, run_on_ray, run_on_submitit
from reid_search.sweeping.runs import sweep


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.05)


def task(out, **engine):
    return Task(f"run of {out.name}", tiny_flags((), {"engine": engine}), None, out)


def test_a_job_runs_once_and_says_what_went_wrong(tmp_path, reid_cache, monkeypatch):
    one = pickle.loads(pickle.dumps(task(tmp_path / "one")))
    assert one() == ""
    assert (tmp_path / "one" / "results.json").is_file()
    written = (tmp_path / "one" / "results.json").stat().st_mtime_ns
    assert one() == ""
    assert (tmp_path / "one" / "results.json").stat().st_mtime_ns == written
    assert "holds a finished run of other settings" in task(tmp_path / "one", precision="bf16")()
    assert one.checkpoint().function is one


def test_relative_paths_are_those_of_who_asked(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(engines, "run_once", lambda *a, **k: seen.append(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    sent = Task("", {}, None, tmp_path / "out")
    monkeypatch.chdir("/")
    assert sent() == ""
    assert seen == [tmp_path]
    assert Path.cwd() == Path("/")


def test_a_sweep_runs_as_jobs_of_submitit(tmp_path, reid_cache, monkeypatch):
    """One run is there already; the other is made by a process of its own."""
    flags = lambda settings: tiny_flags((), {"run": {"seed": settings["run.seed"]}})  # noqa: E731
    sweep({}, (0,), tmp_path, flags, cache=reid_cache, say=lambda line: None)
    said = []
    runs = sweep({}, (0, 1), tmp_path, flags, cache=reid_cache, say=said.append,
                 on="submitit", resources={"cluster": "local", "timeout_min": 5})  # fmt: skip
    assert [one.seed for one in runs] == [0, 1]
    assert said == [
        f"1 jobs sent, 0 in the queue; logs: {tmp_path / 'jobs'}", "run 2 of 2: seed=1: finished"
    ]  # fmt: skip
    assert len(json.loads((tmp_path / "sweep.json").read_text())) == 2
    logs = [path.read_text() for path in (tmp_path / "jobs").glob("*_log.out")]
    assert any("images/s" in text for text in logs)


class Executor:
    """An executor whose jobs are here."""

    def __init__(self, folder, cluster=None):
        self.folder, self.cluster, self.parameters, self.sent = folder, cluster, {}, []
        folder.mkdir(exist_ok=True)
        Executor.last = self

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def batch(self):
        return warnings.catch_warnings()

    def submit(self, function):
        self.sent.append(function)
        return self.job_class(self.folder, str(len(self.sent)), function)

    class job_class:
        def __init__(self, folder, job_id, function=None):
            self.job_id, self.cancelled, self._function = job_id, False, function
            self.paths = submitit.core.utils.JobPaths(folder, job_id)

        def done(self, force_check=False):
            return not (force_check and self.job_id in Executor.queued)

        def exception(self):
            return None

        def result(self):
            return self._function.flags.get("says", "") if self._function else ""

        def cancel(self, check=True):
            Executor.cancelled.append(self.job_id)


@pytest.fixture
def executor(monkeypatch):
    Executor.queued, Executor.cancelled = (), []
    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    return Executor


def test_jobs_that_are_still_in_the_queue_are_not_sent_again(tmp_path, executor):
    tasks = [Task(name, {}, None, tmp_path / name) for name in ("a", "b")]
    run_on_submitit(tasks[:1], tmp_path, {"cluster": "slurm", "timeout_min": 9}, lambda line: None)
    assert executor.last.cluster == "slurm"
    assert executor.last.parameters == {"name": "reid-sweep", "timeout_min": 9}
    said = []
    executor.queued = ("1",)
    run_on_submitit(tasks, tmp_path, {}, said.append)
    assert executor.last.sent == tasks[1:]
    assert said[0].startswith("1 jobs sent, 1 in the queue")
    executor.queued = ()
    run_on_submitit(tasks, tmp_path, {}, lambda line: None)
    assert executor.last.sent == tasks


def test_what_failed_is_named_and_the_others_are_waited_for(tmp_path, executor):
    tasks = [Task(name, {"says": says}, None, tmp_path / name)
             for name, says in (("a", ""), ("b", "no such data"), ("c", "broken"))]  # fmt: skip
    said = []
    with pytest.raises(ReidError, match=r"^2 of 3 runs failed\. b: no such data \(log: .*2_0_log"):
        run_on_submitit(tasks, tmp_path, {}, said.append)
    assert said[1:] == ["a: finished", "b: failed", "c: failed"]


def test_whoever_interrupts_the_waiting_ends_the_jobs(tmp_path, executor):
    def say(line):
        if line.startswith("a"):
            raise KeyboardInterrupt

    tasks = [Task(name, {}, None, tmp_path / name) for name in ("a", "b")]
    executor.job_class.done, before = (
        (lambda self, force_check=False: self.job_id == "1"), executor.job_class.done
    )  # fmt: skip
    try:
        with pytest.raises(KeyboardInterrupt):
            run_on_submitit(tasks, tmp_path, {}, say)
    finally:
        executor.job_class.done = before
    assert executor.cancelled == ["2"]


def test_a_cluster_that_is_not_there_and_resources_it_does_not_know_are_refused(tmp_path):
    tasks = [Task("a", {}, None, tmp_path / "a")]
    for resources, said in (
        ({"cluster": "local", "gpu": 2}, "submitit refuses: .*gpu"),
        ({"cluster": "moon"}, "submitit refuses: .*moon"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_on_submitit(tasks, tmp_path, resources, print)


@pytest.mark.parametrize(
    ("module", "on", "line"),
    [("submitit", "submitit", "reid-search[submitit]"), ("ray", "ray", "reid-search[ray]")],
)
def test_what_is_not_installed_is_named(module, on, line, tmp_path, run_reid, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run_reid("sweep", "--out", tmp_path / "s", "--on", on, "--data", "toy:tiny")
    assert code == 2
    assert f"pip install '{line}'" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--resource", "num_gpus=1"), "--resource asks a cluster"),
        (("--on", "ray", "--resource", "num_gpus"), "--resource num_gpus: expected KEY=VALUE"),
    ],
)
def test_resources_are_asked_of_a_cluster(words, said, tmp_path, run_reid):
    code, _, err = run_reid("sweep", "--out", tmp_path / "s", *words)
    assert code == 2
    assert said in err
    assert not (tmp_path / "s").exists()


def test_old_paths_lead_here():
    for module, names in (
        ("reid_core.cli.sweep", "sweep table"),
        ("reid_core.sweeping", "MEASURES SweepRun SweepPoint sweep summarise plot"),
        ("reid_core.runs.sweeping", "IDLE_IN_TABLES SweepRun sweep summarise plot"),
    ):
        for name in names.split():
            with pytest.warns(DeprecationWarning, match=f"{module}.{name} is deprecated"):
                getattr(importlib.import_module(module), name)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.filterwarnings("ignore")
def test_ray_makes_runs_and_says_what_went_wrong(tmp_path, reid_cache):
    """Two processes of this machine: one finds its run finished, the other cannot begin."""
    done = task(tmp_path / "one")
    assert done() == ""
    wrong = Task("run 2", {"optim": {"speed": 1}}, None, tmp_path / "two")
    said = []
    with pytest.raises(ReidError, match=r"1 of 2 runs failed\. run 2: unknown key 'optim\.speed'"):
        run_on_ray([done, wrong], tmp_path, {"num_cpus": 0.5}, said.append)
    assert said[0] == f"2 runs sent to Ray, in {tmp_path}"
    assert sorted(said[1:]) == ["run 2: failed", "run of one: finished"]
    with pytest.raises(ConfigError, match=r"Ray refuses: .*gpus"):
        run_on_ray([done], tmp_path, {"gpus": 1}, said.append)
