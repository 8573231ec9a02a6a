"""One row: a run in a process of its own, and the line that it leaves in the table."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import shutil
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_core import ReidError, write_json
from studies.code import digest, loaded_code, unlike, whole_code
from studies.elsewhere import TESTS
from studies.planning import Planned, classes_for, with_root
from studies.table import packed

GRACE = 60
"""Seconds in which a run that is asked to stop must have written its checkpoint and its time."""


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Args:
        row: its line; None where there is none.
        others: lines of the other files that it refers to, by file.
        problem: why there is none.
        said: what its reader should know.
    """

    row: dict[str, Any] | None
    others: Mapping[str, Sequence[Mapping[str, Any]]]
    problem: str = ""
    said: tuple[str, ...] = ()


class Stopped(ReidError):
    """Somebody wants the queue to end."""

    exit_code = 130


def in_process(work: Callable[..., Any], *args: Any, limit: float | None = None) -> Any:
    """Return what a function returns in a process of its own.

    What a run imports stays there, so that a row's code is its own; memory is given back, and
    whatever crashes or hangs takes nothing else along.

    Raises:
        ReidError: it failed, in one line.
        Stopped: this process was asked to end; the other one has stopped after its step.
    """
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, args))

    def end(number: int, frame: Any) -> None:
        raise Stopped("stopped")

    before = signal.signal(signal.SIGTERM, end)
    try:
        process.start()
        theirs.close()
        try:
            if not mine.poll(limit):
                _asked_to_stop(process)
                raise ReidError(f"it took more than {limit:.0f} seconds")
            found, problem = mine.recv()
        except EOFError:
            process.join()
            raise ReidError(f"its process ended with code {process.exitcode}") from None
        except (Stopped, KeyboardInterrupt):
            _asked_to_stop(process)
            raise Stopped("stopped") from None
        process.join()
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.is_alive() and process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
    if problem:
        raise ReidError(problem)
    return found


def _asked_to_stop(process: multiprocessing.process.BaseProcess) -> None:
    if process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
    process.join(GRACE)


def _answer(pipe: Any, work: Callable[..., Any], args: Sequence[Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A queue that a shell began in the background ignores it, and its rows could not be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)  # Ctrl-C is for the parent, who hands it on
    try:
        pipe.send((work(*args), ""))
    except ReidError as error:
        pipe.send((None, str(error)))
    except KeyboardInterrupt:
        pipe.send((None, "stopped"))
    except Exception as error:
        traceback.print_exc()
        pipe.send((None, f"{type(error).__name__}: {error}"))
    finally:
        pipe.close()


def measured(plan: Planned, seed: int, work: Path, log: Path) -> Outcome:
    """Run one row, or go on with it, and test it; in the process that only does this.

    Args:
        plan: the arm.
        seed: of the run.
        work: folder of unfinished rows, of the cache, and of what is kept.
        log: file for what the run says.
    """
    import torch

    from reid_core.runs.resolve import resolve
    from reid_core.runs.running import run

    torch.set_num_threads(1)
    began, sources = time.monotonic(), whole_code()
    folder, cache, said = work / "rows" / plan.key(seed), work / "cache", []
    config = {**plan.config, "run": {**plan.config["run"], "seed": seed}}
    with log.open("a", encoding="utf-8") as file:

        def say(line: str) -> None:
            file.write(f"{line}\n")
            file.flush()

        if folder.exists() and (problem := _not_to_be_continued(folder, sources)):
            said.append(f"begun anew: {problem}")
            shutil.rmtree(folder)
        cpu, wall = _spent(folder)
        if (folder / "checkpoint.pt").is_file():
            said.append("continued from its checkpoint")
        folder.mkdir(parents=True, exist_ok=True)
        _forget_others(cache, sources)
        resolved = resolve({}, recipe=with_root(config), classes=classes_for(config))
        write_json(folder / "code.json", sources)
        try:
            if not (folder / "results.json").is_file():
                resume = (folder / "config.toml").is_file()
                run(resolved=resolved, out=folder, resume=resume, cache=cache, say=say)
            results = json.loads((folder / "results.json").read_text("utf-8"))["results"]
            tests, missing = _elsewhere(plan.arm.elsewhere, folder, work, say)
        finally:
            spent = {"cpu_seconds": cpu + _cpu_seconds()}
            spent["wall_seconds"] = wall + time.monotonic() - began
            write_json(folder / "spent.json", spent)
    said += missing
    scores, questions = {}, []
    for prefix, listed in (("", results), *tests):
        for result in listed:
            name, score, asked = _line_of(prefix, result)
            scores[name] = score
            questions.append(asked)
    code = loaded_code()
    if changed := unlike(sources, code):
        return Outcome(None, {}, f"sources changed while it ran: {', '.join(changed[:5])}")
    schedule = config["schedule"]
    row = {
        "id": f"{plan.key(seed)}-{digest(code)[:6]}",
        "configuration": plan.configuration,
        "seed": seed,
        "code": digest(code),
        "start": {"name": plan.start.name, "sha256": plan.start.sha256} if plan.start else {},
        "study": plan.arm.study,
        "arm": plan.arm.name,
        "steps": schedule["epochs"] * schedule.get("iterations_per_epoch", 0),
        "scores": scores,
        "terms": _last_terms(folder),
        "stages": sorted(_stages(folder)),
        **{name: round(seconds, 1) for name, seconds in spent.items()},
        "machine": f"{platform.machine()}, {_processor()}",
        "measured": time.strftime("%Y-%m-%d"),
    }
    return Outcome(
        row,
        {
            "configurations": [
                {"configuration": plan.configuration, "config": _without_seed(config)}
            ],
            "code": [{"code": digest(code), "modules": code}],
            "questions": questions,
        },
        said=tuple(said),
    )


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    run = {key: value for key, value in config["run"].items() if key != "seed"}
    return {**config, "run": run}


def _not_to_be_continued(folder: Path, sources: Mapping[str, str]) -> str:
    """Return why an unfinished row cannot be gone on with: its code is not this tree's."""
    file = folder / "code.json"
    if not file.is_file():
        return "it was stopped before it began"
    spent = folder / "spent.json"
    if spent.is_file() and "wall_seconds" not in json.loads(spent.read_text("utf-8")):
        return "how long it took was not kept"
    changed = unlike(sources, json.loads(file.read_text("utf-8")))
    return f"{len(changed)} modules have changed since, {changed[0]} first" if changed else ""


def _forget_others(cache: Path, sources: Mapping[str, str]) -> None:
    """Remove stages and labels that other code has made; the core tells them by version alone."""
    file = cache / "code.txt"
    if not file.is_file() or file.read_text("utf-8") != digest(sources):
        for made in ("stages", "labels"):
            shutil.rmtree(cache / made, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        file.write_text(digest(sources), "utf-8")


def _spent(folder: Path) -> tuple[float, float]:
    """Return CPU and wall seconds of the attempts before."""
    file = folder / "spent.json"
    if not file.is_file():
        return 0.0, 0.0
    found = json.loads(file.read_text("utf-8"))
    return found["cpu_seconds"], found["wall_seconds"]


def _stages(folder: Path) -> list[str]:
    """Return the names of the stages that a run has trained, or found made."""
    notes = (folder / "stages").glob("*.json")
    return [json.loads(note.read_text("utf-8"))["stage"] for note in notes]


def _cpu_seconds() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
        return next(
            line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _elsewhere(
    names: Sequence[str], folder: Path, work: Path, say: Callable[[str], None]
) -> tuple[list[tuple[str, list[dict[str, Any]]]], list[str]]:
    """Return results of further tests, and which could not be made."""
    from reid_core import load_embedder
    from reid_core.config import EngineSection
    from reid_core.evaluation.records import HEAD, stored_results
    from reid_core.runs.evaluating import open_evaluator

    found, missing = [], []
    file = folder / "embedder.safetensors"
    if not file.is_file():
        return [], [f"not tested on {name}: its embedder reads more than images" for name in names]
    for name in names:
        test, engine = TESTS[name], EngineSection(device="cpu", precision="fp32")
        try:
            root = test.root(work) if test.root else None
            evaluator = open_evaluator(
                test.data, root, test.protocols, engine=engine, cache=work / "cache", say=say
            )
        except ReidError as error:
            missing.append(f"not tested on {name}: {error}")
            continue
        evaluation = evaluator.evaluate(load_embedder(file), None, HEAD)
        found.append((f"{name}:", stored_results(evaluation, evaluator.dataset)))
    return found, missing


def _line_of(prefix: str, result: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return a result's name, its part of the row, and its questions."""
    every = result["denominator"] == "valid" or result["valid_queries"] == result["total_queries"]
    if result["drawn"] or not every:
        raise ReidError(
            f"protocol '{result['protocol']}' has no score of every query; choose another"
        )
    queries = result["queries"]
    people = [one["pid"] for one in queries]
    asked = digest(
        {
            "data": result["fingerprint"],
            "rules": json.dumps(result["rules"], sort_keys=True),
            "comparing": f"{result['distance']}, {result['flip']}, {result['reranking']}",
            "people": ",".join(map(str, people)),
            "files": ",".join(one["file"] for one in queries),
        }
    )
    score = {
        "rank1": round(result["cmc"][0], 6),
        "mAP": round(result["metrics"]["mAP"], 6),
        "questions": asked,
        "ranks": packed([one["rank"] for one in queries]),
        "AP": packed([round(65535 * one["AP"]) for one in queries]),
    }
    name = f"{prefix}{result['protocol']}"
    line = {
        "questions": asked,
        "protocol": name,
        "data": result["fingerprint"],
        "gallery": result["gallery_images"],
        "people": people,
    }
    return name, score, line


def _last_terms(folder: Path) -> dict[str, float]:
    """Return the mean of every loss term over the last epoch."""
    found: dict[str, list[float]] = {}
    file = folder / "metrics.jsonl"
    steps = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]
    steps = [one for one in steps if one["kind"] == "step"]
    for one in steps:
        if one["epoch"] == steps[-1]["epoch"]:
            for name, value in one.items():
                if name.startswith("loss/"):
                    found.setdefault(name.removeprefix("loss/"), []).append(value)
    return {name: round(statistics.fmean(values), 5) for name, values in sorted(found.items())}


def keep(outcome: Outcome, plan: Planned, seed: int, work: Path) -> None:
    """Keep the embedder of a finished row, and remove the rest of its folder."""
    assert outcome.row is not None
    folder, kept = work / "rows" / plan.key(seed), work / "embedders" / outcome.row["id"]
    kept.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("embedder.*"):
        shutil.copy(file, kept)
    shutil.rmtree(folder)
