"""``reid plugins``: list what is installed and known; check a combination; begin a new one."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from reid_core.cli.options import run_options, to_flags
from reid_core.errors import PluginError, ReidError, own_errors, typed_reason
from reid_core.outputs import checked_folder, write_text
from reid_core.plugins.discovery import (
    PluginRecord,
    catalogue,
    installed,
    load_recorded,
    oldest_core,
)
from reid_core.plugins.manifests import recipe_files


@click.group()
def plugins() -> None:
    """List plugins, check a combination, or begin a new one."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all that each consists of.")
def list_plugins(as_json: bool) -> None:
    """List installed plugins, and known ones with the line that installs them.

    Nothing is imported: whether a plugin without a manifest (see `reid plugins manifest`) works
    shows when it is used. With --json the hooks, slots, settings and names of each are listed, too,
    and the fields that it reads and makes; a plugin without a manifest is imported for that, and
    what keeps it from being imported stands under "broken".
    """
    present, known = installed(), catalogue()
    rows: list[dict[str, Any]] = [
        {
            "name": record.name,
            "installed": True,
            "distribution": record.distribution,
            "version": record.version,
            "summary": (record.contents or record).summary,
            **({"unmet": why} if (why := _unusable(record)) else {}),
            "manifest": record.contents is not None,
            **(_contents(record) if as_json else {}),
        }
        for record in present.values()
    ]
    rows += [
        {
            "name": entry.name,
            "installed": False,
            "distribution": entry.distribution,
            "install": entry.install,
            "summary": entry.summary,
        }
        for entry in known.values()
        if entry.name not in present
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        state = f"{row['distribution']} {row['version']}" if row["installed"] else row["install"]
        mark, note = "*" if row["installed"] else " ", ""
        if "unmet" in row:
            mark, note = "!", f"; {row['unmet']}"
        elif row["installed"] and not row["manifest"]:
            note = "; no manifest: imported on use"
        click.echo(f"{mark} {row['name']:<{width}}  {row['summary']}  [{state}{note}]")
    unusable = ", ! cannot be used" if any("unmet" in row for row in rows) else ""
    click.echo(f"* installed{unusable}")


def _unusable(record: PluginRecord) -> str:
    """Return why a plugin cannot be used, as far as that is known without importing it."""
    if record.unmet:
        return record.unmet
    package = record.target.partition(":")[0].partition(".")[0]
    if find_spec(package) is None:
        return f"its package {package} is not there: install {record.distribution} anew"
    return ""


def _contents(record: PluginRecord) -> dict[str, Any]:
    """Return what a plugin consists of, or why that cannot be told."""
    contents = record.contents
    if contents is None:
        from reid_core.runs.manifests import contents_of

        try:
            load_recorded(record)
        except PluginError as error:
            why = error.__cause__
            return {"broken": f"fails at import: {typed_reason(why)}" if why else str(error)}
        try:
            with own_errors():
                contents = contents_of(record)
        except Exception as error:
            # Whatever a stranger raises: it is listed like any other.
            return {"broken": typed_reason(error)}
    listed = asdict(contents)
    return {
        **{key: listed[key] for key in ("hooks", "claims", "reads", "makes", "settings")},
        **listed["offers"],
        "recipes": list(recipe_files(record.target, record.name)),
    }


@plugins.command("manifest")
@click.argument("distribution")
def manifest(distribution: str) -> None:
    """Write down what a distribution's plugins consist of, for listing and looking up names.

    The file, reid_plugin.json, stands in the package and goes into its wheel. Without it the
    package is imported whenever something is listed. The conformance suite fails where it is not
    true any more.
    """
    from reid_core.runs.manifests import manifests_of

    found = manifests_of(distribution)
    if not found:
        raise PluginError(
            f"{distribution}: its plugins are single modules; a manifest stands in a package, so "
            "they are imported whenever something is listed"
        )
    for path, made in found.items():
        write_text(path, made.text())
        click.echo(str(path))


@plugins.command("oldest-core")
@click.argument("distribution")
def oldest(distribution: str) -> None:
    """Print the oldest reid-core that a distribution allows, as pip takes it.

    For tests on both ends of the range that its pyproject.toml states:
    pip install "$(reid plugins oldest-core DISTRIBUTION)"
    """
    click.echo(oldest_core(distribution))


@plugins.command("check")
@click.argument("names", metavar="A,B")
@run_options
def check(names: str, **options: Any) -> None:
    """Resolve and build a combination on a tiny model, run one step, and tell what happens.

    Prints who fills which slot, the order of branches and updates, on which passes each loss term
    is computed and what it trains, and the parameters per group. A conflict ends with exit code 2.
    """
    from tempfile import TemporaryDirectory

    from reid_core.runs.resolve import resolve

    options["plugins"] = names
    options["data"] = options.get("data") or "toy:tiny"
    options["backbone"] = options.get("backbone") or "test_resnet"
    flags = to_flags(options)
    tiny: dict[str, dict[str, Any]] = {
        # Six stripes of a map at stride 16 need 96 rows.
        "data": {"height": 96, "width": 48, "batch_size": 8, "instances": 2},
        "schedule": {"iterations_per_epoch": 1, "epochs": 1, "warmup_epochs": 0},
        "model": {"pretrained": False, "importer": "auto"},
    }
    for section, values in tiny.items():
        flags[section] = {**values, **flags.get(section, {})}
    try:
        resolved = resolve(flags, recipe=options["recipe"])
        # What torch is not needed to refuse is refused without waiting for it.
        from reid_core.runs.assembly.assembling import assemble
        from reid_core.runs.reporting import report_lines
        from reid_core.runs.stages import Stages

        with own_errors(), TemporaryDirectory() as folder:
            assembly = assemble(
                resolved,
                folder=Path(folder),
                say=lambda line: None,
                rehearsal=True,
                stages=Stages(),
            )
            for line in report_lines(assembly):
                click.echo(line)
    except ReidError as error:
        raise ReidError(f"{names}: {error}") from error


@plugins.command("new")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder in which the distribution gets one of its own. [default: this one]",
)
@click.option("--author", default="", help="Who holds the rights, for pyproject.toml and LICENSE.")
@click.option("--summary", default="", help="What it is, in one line without a full stop.")
@click.option("--bare", is_flag=True, help="One hook, one test and pyproject.toml alone.")
def new(name: str, into: Path, author: str, summary: str, bare: bool) -> None:
    """Write the distribution of a new plugin, to be changed into a method of your own.

    It installs, conforms and trains as it is: a head, a loss, settings, a recipe and tests; with
    --bare one hook with its test. Nothing is overwritten.
    """
    import shlex

    from reid_core.cli.scaffold import Scaffold, write_distribution

    checked_folder(into, empty=False, option="--into")
    folder = write_distribution(Scaffold(name, author, summary, bare=bare), into)
    shown = str(folder) if folder.is_absolute() else f"./{folder}"
    click.echo(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files")
    click.echo("next:")
    for line in (
        f"pip install -e {shlex.quote(f'{shown}[test]')}",
        f"reid plugins check {name}",
        f"pytest {shlex.quote(shown)}",
        f"reid run --plugins {name}" if bare else f"reid run --recipe {name}/quick",
    ):
        click.echo(f"  {line}")
