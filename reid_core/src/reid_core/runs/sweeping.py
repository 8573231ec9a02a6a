"""Several runs that differ in a few settings, with their results side by side."""

from __future__ import annotations

import itertools
import json
import statistics
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reid_core.config import RunConfig, differences
from reid_core.errors import ConfigError
from reid_core.outputs import whole_file, write_json
from reid_core.plugins.discovery import versions_of

if TYPE_CHECKING:
    from reid_core.runs.resolve import Resolved
    from reid_core.runs.running import Progress

IDLE_IN_TABLES = frozenset(
    {
        *("run.recipe", "data.threads", "engine.device", "engine.channels_last", "engine.compile"),
        *("engine.log_every", "engine.checkpoint_every", "engine.tensorboard"),
        *("evaluation.products", "evaluation.batch_size"),
        *("evaluation.untrained", "evaluation.ranked_list"),
    }
)
"""Settings on which the scores of a sweep do not depend, but for the last digits."""

MEASURES = ("rank-1", "mAP")
"""What is compared, as shares in 0 .. 1."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Args:
        settings: the settings that make its point, by dotted key.
        seed: its seed.
        folder: what it left.
        scores: `MEASURES` by protocol.
    """

    settings: Mapping[str, Any]
    seed: int
    folder: Path
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SweepPoint:
    """What the runs of one point found, over their seeds.

    Args:
        settings: by dotted key.
        seeds: how many runs.
        mean, spread: by protocol and measure; the spread is the sample standard deviation, None
            where there is one seed.
    """

    settings: Mapping[str, Any]
    seeds: int
    mean: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, Mapping[str, float]] | None


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
) -> list[SweepRun]:
    """Run every combination of settings with every seed; what is finished is not run again.

    Args:
        over: values by dotted key, such as ``{"partaware.weight": [0, 0.5, 1]}``.
        seeds: of the runs of every point.
        out: folder of the sweep; each run has a folder in it, ``sweep.json`` the scores.
        to_flags: makes the configuration of a run of the settings of its point.
        recipe, cache, say, progress: as for `reid_core.runs.running.run`.

    Raises:
        ConfigError: nothing to sweep over, a value that makes two runs one, or a finished run of
            other settings or other versions of its plugins.
        ReidError: what a run raises.
    """
    from reid_core.runs.resolve import resolve
    from reid_core.runs.running import run

    for what, values in {**over, "seeds": seeds}.items():
        if not values or len({str(value) for value in values}) < len(values):
            raise ConfigError(f"a sweep needs different values of {what}, not {list(values)}")
    done = []
    points = [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
    for number, (settings, seed) in enumerate(itertools.product(points, seeds), 1):
        folder = out / _folder_name(settings, seed)
        resolved = resolve(to_flags({**settings, "run.seed": seed}), recipe=recipe)
        if (folder / "results.json").is_file():
            _check_same(folder, resolved)
        else:
            say(f"run {number} of {len(points) * len(seeds)}: {folder.name}")
            resume = (folder / "checkpoint.pt").is_file()
            run(
                resolved=resolved,
                out=folder,
                resume=resume,
                cache=cache,
                say=say,
                progress=progress,
            )
        done.append(SweepRun(settings, seed, folder, _scores(folder / "results.json")))
    rows = [
        {"settings": one.settings, "seed": one.seed, "run": one.folder.name, "scores": one.scores}
        for one in done
    ]
    write_json(out / "sweep.json", rows)
    return done


def summarise(runs: Sequence[SweepRun]) -> list[SweepPoint]:
    """Return mean and spread over the seeds of every point, in the order of the runs."""
    points: dict[str, list[SweepRun]] = {}
    for one in runs:
        points.setdefault(json.dumps(one.settings, sort_keys=True, default=str), []).append(one)
    found = []
    for same in points.values():
        values = {
            protocol: {m: [one.scores[protocol][m] for one in same] for m in MEASURES}
            for protocol in same[0].scores
        }
        mean = {p: {m: statistics.mean(v) for m, v in by.items()} for p, by in values.items()}
        spread = None
        if len(same) > 1:
            spread = {
                p: {m: statistics.stdev(v) for m, v in by.items()} for p, by in values.items()
            }
        found.append(SweepPoint(same[0].settings, len(same), mean, spread))
    return found


def plot(points: Sequence[SweepPoint], key: str, path: Path) -> Path:
    """Draw rank-1 and mAP over the values of one setting, a line per protocol.

    Args:
        points: of `summarise`; only ``key`` may differ between them.
        key: the setting on the horizontal axis.
        path: where to write; the suffix gives the format.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a plot needs matplotlib: pip install 'reid-core[plots]'") from None

    figure = Figure(figsize=(4.2 * len(MEASURES), 3.4), layout="constrained")
    labels = [str(point.settings[key]) for point in points]
    for axis, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        for protocol in points[0].mean:
            values = [100 * point.mean[protocol][measure] for point in points]
            spreads = [100 * p.spread[protocol][measure] if p.spread else 0.0 for p in points]
            axis.errorbar(labels, values, spreads, marker="o", capsize=3, label=protocol)
        axis.set(xlabel=key, ylabel=f"{measure} (%)")
        axis.grid(alpha=0.3)
    axis.legend()
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)
    return path


def _folder_name(settings: Mapping[str, Any], seed: int) -> str:
    parts = [f"{key}={value}" for key, value in settings.items()]
    return "-".join([*parts, f"seed={seed}"]).replace("/", "_").replace(" ", "")


def _check_same(folder: Path, resolved: Resolved) -> None:
    """Refuse a finished run that would not be the one that is asked for."""
    stored = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    try:
        before = RunConfig.model_validate(stored).model_dump(mode="json")
    except ValidationError:
        before = stored  # of a version with other keys: those are named
    changed = differences(before, resolved.config.model_dump(mode="json"), IDLE_IN_TABLES)
    now = versions_of(resolved.plugins)
    then = json.loads((folder / "run.json").read_text("utf-8"))["plugins"]
    changed += [
        f"{name} was {then.get(name)}, is {now.get(name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{folder} holds a finished run of other settings: {'; '.join(changed)}; name another "
            "--out, or remove that folder to run it again"
        )


def _scores(path: Path) -> dict[str, dict[str, float]]:
    content = json.loads(path.read_text("utf-8"))
    found = {}
    for result in content["results"]:
        metrics, reranked = result["metrics"], result["reranking"] != "none"
        # The average precision of a single-shot gallery is called MRR.
        found[f"{result['protocol']}{'+rerank' if reranked else ''}"] = {
            "rank-1": result["cmc"][0],
            "mAP": metrics.get("mAP", metrics.get("MRR")),
        }
    return found
