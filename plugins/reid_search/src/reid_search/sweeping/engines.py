"""Who makes the runs of a sweep: this process, a Slurm cluster through submitit, or Ray.

Every run is asked for by `reid_core.run_once`: what is finished is left alone, what was interrupted
goes on from its checkpoint. So a job may be lost, requeued or asked for twice, one after the other.
The folder of the sweep has to be one that all machines see.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core import ConfigError, ReidError, run_once, write_json
from reid_core.errors import reason_of

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

    from reid_core.runs.running import Progress

Say = Callable[[str], None]

POLL_SECONDS = 2.0
"""How often jobs are asked whether they are done."""


@dataclass(frozen=True, eq=False)
class Task:
    """One run, as it is sent to another process.

    Args:
        title: for the user.
        flags, recipe: its configuration.
        out: its folder, absolute.
        cache: the cache folder; None takes the platform's.
        place: the working folder, to which relative paths in the configuration refer.
    """

    title: str
    flags: Mapping[str, Any]
    recipe: str | None
    out: Path
    cache: Path | None = None
    place: Path = field(default_factory=Path.cwd)

    def __call__(self) -> str:
        """Run; return what went wrong in one line, or nothing."""
        try:
            with chdir(self.place):
                run_once(self.flags, recipe=self.recipe, out=self.out, cache=self.cache)
        except (ReidError, OSError) as error:
            return str(error)
        return ""

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit puts back into the queue when the time of a job is up."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_here(tasks: Sequence[Task], say: Say, progress: Progress | None = None) -> None:
    """Make runs one after the other; the first that fails ends it."""
    for task in tasks:
        say(task.title)
        run_once(
            task.flags,
            recipe=task.recipe,
            out=task.out,
            cache=task.cache,
            say=say,
            progress=progress,
        )


def run_on_submitit(tasks: Sequence[Task], out: Path, resources: dict[str, Any], say: Say) -> None:
    """Make every run a job of submitit, and wait for all of them.

    Jobs that an earlier call has left in the queue are waited for, not sent again; whoever
    interrupts the waiting ends the jobs.

    Args:
        tasks: what to run.
        out: folder of the sweep; ``jobs/`` in it has the logs.
        resources: of a job, as submitit names them (``timeout_min``, ``gpus_per_node``,
            ``slurm_partition``); ``cluster`` is ``slurm`` or ``local``, Slurm where it is found.
        say: prints one line for the user.

    Raises:
        ConfigError: submitit is not installed, or does not take these resources.
        ReidError: runs failed; names the first and its log.
    """
    executor = _executor(out / "jobs", resources)
    known = _Queued(out / "jobs" / "queued.json")
    jobs = {task: job for task in tasks if (job := known.job(task, executor)) is not None}
    new = [task for task in tasks if task not in jobs]
    if new:
        with executor.batch():
            sent = [executor.submit(task) for task in new]
        jobs |= dict(zip(new, sent, strict=True))
        known.write(jobs)
    say(f"{len(new)} jobs sent, {len(tasks) - len(new)} in the queue; logs: {out / 'jobs'}")
    problems: dict[Task, str] = {}
    waiting = dict(jobs)
    try:
        while waiting:
            for task in [task for task, job in waiting.items() if job.done()]:
                job = waiting.pop(task)
                problems[task] = _problem(job)
                say(f"{task.title}: {'failed' if problems[task] else 'finished'}")
            time.sleep(POLL_SECONDS if waiting else 0)
    except BaseException:
        for job in waiting.values():
            job.cancel(check=False)
        raise
    _refuse_failed(problems)


def _executor(folder: Path, resources: dict[str, Any]) -> AutoExecutor:
    try:
        import submitit
    except ImportError:
        raise ConfigError(
            "--on submitit needs submitit: pip install 'reid-search[submitit]'"
        ) from None
    cluster = resources.pop("cluster", None)
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(name="reid-sweep", **resources)
    except (NameError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"submitit refuses: {reason_of(error, 300)}") from None
    return executor


@dataclass(frozen=True)
class _Queued:
    """Numbers of the jobs that a sweep has sent, by the name of the run's folder."""

    path: Path

    def job(self, task: Task, executor: AutoExecutor) -> Job[str] | None:
        """Return the job of a task that is still queued or at work."""
        if not self.path.is_file():
            return None
        number = json.loads(self.path.read_text("utf-8")).get(task.out.name)
        if number is None:
            return None
        job: Job[str] = executor.job_class(self.path.parent, number)
        return None if job.done(force_check=True) else job

    def write(self, jobs: Mapping[Task, Job[str]]) -> None:
        """Keep the numbers."""
        numbers = {task.out.name: job.job_id for task, job in jobs.items()}
        write_json(self.path, numbers)


def _problem(job: Job[str]) -> str:
    """Return what went wrong with a job in one line, and where its log is; nothing if all went."""
    error = job.exception()
    text = job.result() if error is None else str(error).strip().splitlines()[-1]
    return text and f"{text} (log: {job.paths.stderr})"


def run_on_ray(tasks: Sequence[Task], out: Path, resources: dict[str, Any], say: Say) -> None:
    """Make every run a task of Ray, and wait for all of them.

    Args:
        tasks: what to run.
        out: folder of the sweep.
        resources: of a task, as Ray names them (``num_cpus``, ``num_gpus``, ``memory``);
            ``address`` is that of a cluster (``auto``: the one of this machine), otherwise Ray
            is started here for as long as the sweep takes.
        say: prints one line for the user.

    Raises:
        ConfigError: Ray is not installed, not found, or does not take these resources.
        ReidError: runs failed; names the first.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--on ray needs Ray: pip install 'reid-search[ray]'") from None
    started = not ray.is_initialized()
    address = resources.pop("address", None)
    try:
        if started:
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        remote = ray.remote(_call).options(**{"num_cpus": 1, **resources})
        waiting = {remote.remote(task): task for task in tasks}
    except (ValueError, TypeError, ConnectionError) as error:
        if started:
            ray.shutdown()
        raise ConfigError(f"Ray refuses: {reason_of(error, 300)}") from None
    say(f"{len(tasks)} runs sent to Ray, in {out}")
    problems: dict[Task, str] = {}
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                problems[task] = ray.get(done)
            except ray.exceptions.RayError as error:
                problems[task] = reason_of(error, 300)
            say(f"{task.title}: {'failed' if problems[task] else 'finished'}")
    except BaseException:
        for reference in waiting:
            ray.cancel(reference, force=True)
        raise
    finally:
        if started:
            ray.shutdown()
    _refuse_failed(problems)


ENGINES: Mapping[str, Callable[[Sequence[Task], Path, dict[str, Any], Say], None]] = {
    "submitit": run_on_submitit,
    "ray": run_on_ray,
}
"""Who can make the runs elsewhere, by name."""


def _call(task: Task) -> str:
    return task()


def _refuse_failed(problems: Mapping[Task, str]) -> None:
    failed = {task: text for task, text in problems.items() if text}
    if failed:
        task, text = next(iter(failed.items()))
        raise ReidError(
            f"{len(failed)} of {len(problems)} runs failed. {task.title}: {text}. What is finished "
            "is kept: the same command makes the others again"
        )
