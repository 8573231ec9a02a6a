"""Every combination of settings with every seed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core import ConfigError, is_finished, write_json
from reid_search.comparing.stored import label_of
from reid_search.sweeping.engines import ENGINES, Task, run_here
from reid_search.sweeping.points import SweepRun

if TYPE_CHECKING:
    from reid_core.runs.running import Progress


def sweep(
    over: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    out: Path,
    to_flags: Callable[[Mapping[str, Any]], dict[str, Any]],
    *,
    recipe: str | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
    on: str | None = None,
    resources: Mapping[str, Any] | None = None,
) -> list[SweepRun]:
    """Run every combination of settings with every seed; what is finished is not run again.

    All combinations are looked at before the first of them is run.

    Args:
        over: values by dotted key, such as ``{"partaware.weight": [0, 0.5, 1]}``.
        seeds: of the runs of every point.
        out: folder of the sweep; each run has a folder in it, ``sweep.json`` the scores.
        to_flags: makes the configuration of a run of the settings of its point.
        recipe, cache, say, progress: as for `reid_core.run`.
        on: ``submitit`` or ``ray``; None makes the runs here, one after the other.
        resources: what that engine is asked for, see `reid_search.sweeping.engines`.

    Raises:
        ConfigError: nothing to sweep over, a value that makes two runs one, or a finished run of
            other settings or other versions of its plugins.
        ReidError: what a run raises.
    """
    for what, values in {**over, "seeds": seeds}.items():
        if not values or len({str(value) for value in values}) < len(values):
            raise ConfigError(f"a sweep needs different values of {what}, not {list(values)}")
    if "run.seed" in over:
        raise ConfigError("a sweep over run.seed: give the seeds as such (--seeds 0,1,2)")
    if on is None and resources:
        raise ConfigError("resources are asked of a cluster: name submitit or ray")
    points = [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
    every = list(itertools.product(points, seeds))
    if len({_folder_name(*one) for one in every}) < len(every):
        raise ConfigError(f"a sweep over {', '.join(over)} has two runs of one folder's name")
    asked, tasks = [], []
    for number, (settings, seed) in enumerate(every, 1):
        folder = out / _folder_name(settings, seed)
        flags = to_flags({**settings, "run.seed": seed})
        asked.append((settings, seed, folder))
        if not is_finished(folder, flags, recipe=recipe):
            title = f"run {number} of {len(every)}: {folder.name}"
            tasks.append(Task(title, flags, recipe, folder.absolute(), cache))
    if tasks and on is None:
        run_here(tasks, say, progress)
    elif tasks and on is not None:
        if on not in ENGINES:
            raise ConfigError(f"there is no engine '{on}'; there are {', '.join(ENGINES)}")
        ENGINES[on](tasks, out.absolute(), dict(resources or {}), say)
    done = [SweepRun(*one, _scores(one[2] / "results.json")) for one in asked]
    rows = [
        {"settings": one.settings, "seed": one.seed, "run": one.folder.name, "scores": one.scores}
        for one in done
    ]
    write_json(out / "sweep.json", rows)
    return done


def _folder_name(settings: Mapping[str, Any], seed: int) -> str:
    parts = [f"{key}={value}" for key, value in settings.items()]
    return "-".join([*parts, f"seed={seed}"]).replace("/", "_").replace(" ", "")


def _scores(path: Path) -> dict[str, dict[str, float]]:
    content = json.loads(path.read_text("utf-8"))
    found = {}
    for result in content["results"]:
        metrics = result["metrics"]
        # The average precision of a single-shot gallery is called MRR.
        found[label_of(result)] = {
            "rank-1": result["cmc"][0],
            "mAP": metrics.get("mAP", metrics.get("MRR")),
        }
    return found
