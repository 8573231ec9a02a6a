"""``reid sweep``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid_core import FIGURE_SUFFIXES, ConfigError, checked_folder, checked_output
from reid_core.cli.options import run_options, to_flags

if TYPE_CHECKING:
    from rich.table import Table

    from reid_search.sweeping.points import SweepPoint, SweepRun


@click.command()
@click.option(
    "--over",
    multiple=True,
    metavar="KEY=V1,V2",
    help="A setting and its values, as after -s; several options run every combination.",
)
@click.option("--seeds", default="0", metavar="0,1,2", help="Seeds of every combination.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Its folder.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the scores over one setting.")
@click.option(
    "--on",
    type=click.Choice(["submitit", "ray"]),
    help="Make the runs on a Slurm cluster (submitit) or on Ray, not here one after the other.",
)
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="KEY=VALUE",
    help="What a run gets there: timeout_min=600, slurm_partition=gpu, num_gpus=1, address=auto.",
)
@run_options
def sweep(
    over: tuple[str, ...],
    seeds: str,
    out: Path,
    plot: Path | None,
    on: str | None,
    resources: tuple[str, ...],
    **options: Any,
) -> None:
    """Run several settings and seeds, and compare.

    A weight of 0 makes a plugin inert, so `--over partaware.weight=0,1` compares it with the
    baseline under the same budget; every point is compared with the first one as by `reid compare`.
    What is finished in --out is not run again, what was interrupted goes on.
    """
    from rich.console import Console

    from reid_core.cli.progress import Screen
    from reid_search.sweeping import points, runs

    checked_folder(out, empty=False)
    if plot is not None:
        checked_output(plot, FIGURE_SUFFIXES, option="--plot")
    values = _once("--over", map(_values, over))
    if plot is not None and len(values) != 1:
        raise ConfigError("--plot needs one --over, whose values are its horizontal axis")
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds}: expected numbers such as 0,1,2") from None
    seed = to_flags(options).get("run", {}).get("seed")
    if seed is not None:
        given = f"-s run.seed={seed}" if options["seed"] is None else f"--seed {seed}"
        raise ConfigError(f"{given}: a sweep takes its seeds from --seeds {seeds}")
    asked = _once("--resource", map(_resource, resources))
    if asked and on is None:
        raise ConfigError("--resource asks a cluster: name it with --on submitit or --on ray")
    screen = Screen()

    def flags(settings: Mapping[str, Any]) -> dict[str, Any]:
        assigned = [f"{key}={value}" for key, value in settings.items()]
        return to_flags({**options, "settings": [*options.get("settings", ()), *assigned]})

    out.mkdir(parents=True, exist_ok=True)
    found = runs.sweep(
        values,
        numbers,
        out,
        flags,
        recipe=options["recipe"],
        say=screen.say,
        progress=screen.bar,
        on=on,
        resources=asked,
    )
    summed = points.summarise(found)
    console = Console()
    console.print(table(summed))
    for line, tables in effects(found):
        click.echo(line)
        for one in tables:
            console.print(one)
    click.echo(f"sweep: {out / 'sweep.json'}")
    if plot is not None:
        click.echo(f"plot: {points.plot(summed, next(iter(values)), plot)}")


def table(points: Sequence[SweepPoint]) -> Table:
    """Return mean and spread of every point as a table, in per cent."""
    from rich.table import Table

    from reid_search.sweeping.points import MEASURES

    shown = Table(title="mean ± sample standard deviation over the seeds, per cent")
    for name in (*points[0].settings, "seeds"):
        shown.add_column(name)
    for protocol in points[0].mean:
        for measure in MEASURES:
            shown.add_column(f"{protocol} {measure}", justify="right")
    for point in points:
        cells = [str(value) for value in (*point.settings.values(), point.seeds)]
        for protocol, by in point.mean.items():
            for measure in MEASURES:
                spread = f" ± {100 * point.spread[protocol][measure]:.1f}" if point.spread else ""
                cells.append(f"{100 * by[measure]:.1f}{spread}")
        shown.add_row(*cells)
    return shown


def effects(runs: Sequence[SweepRun]) -> Iterator[tuple[str, list[Table]]]:
    """Yield, per protocol, its line and what every point does against the first one.

    Where results must not stand side by side, the line says why, and there is no table.
    """
    from reid_core import DataError
    from reid_search.comparing.effects import compare
    from reid_search.comparing.models import Model
    from reid_search.comparing.showing import effect_tables
    from reid_search.comparing.stored import read_run

    points: dict[str, list[SweepRun]] = {}
    for run in runs:
        name = ", ".join(f"{key}={value}" for key, value in run.settings.items())
        points.setdefault(name, []).append(run)
    if len(points) < 2:
        return
    models = [
        Model(name, tuple(read_run(run.folder) for run in same)) for name, same in points.items()
    ]
    for label in models[0].runs[0].results:
        try:
            found = compare(models, label)
        except (ConfigError, DataError) as error:
            yield f"{label}: no intervals, {error}", []
        else:
            yield f"\n{found.label}: {found.text}", effect_tables(found)


def _once(option: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return what an option that may be repeated says of each key, which it says once."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"{option} names {key} twice; give all of its values at once")
        found[key] = value
    return found


def _values(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise ConfigError(f"--over {text}: expected KEY=V1,V2")
    return key.strip(), [value.strip() for value in values.split(",")]


def _resource(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise ConfigError(f"--resource {text}: expected KEY=VALUE")
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        return key.strip(), value.strip()
