"""Options that several commands share, and how they become configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reid_core.errors import ConfigError
from reid_core.outputs import checked_output
from reid_retrieval.writing import tables_aside

_F = TypeVar("_F", bound=Callable[..., Any])

DEVICES = "auto, cpu, cuda, cuda:N, mps or xpu."
"""What ``--device`` takes, for its help."""


def _results_file(ctx: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Check a file before the work; what else is printed goes beside standard output if it is."""
    if path is None:
        return None
    path = checked_output(Path("/dev/stdout") if path == Path("-") else path, option="--json")
    ctx.with_resource(tables_aside(path))
    return path


json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    callback=_results_file,
    metavar="FILE",
    help="Write the results; - is standard output, with tables on standard error.",
)
"""``--json`` of commands that print tables; the file is checked before the work."""

_SETTING = "Any key: optim.lr=1e-3, or a plugin's: san.weight=0.5."


def _pairs(form: str, explanation: str, *names: str) -> Callable[[_F], _F]:
    """Return an option that takes pairs, as many as one likes."""
    return click.option(*names, multiple=True, metavar=form, help=explanation)


def together(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Return what adds several options to a command, in the order of its help."""

    def add(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


run_options = together(
    click.option("--plugins", "-p", metavar="A,B", help="Plugins to run, in any order."),
    click.option(
        "--recipe",
        "-r",
        metavar="P/NAME",
        help="Recipe of a plugin, or a TOML file; + joins several.",
    ),
    click.option(
        "--data", "-d", metavar="NAME", help="NAME[/VARIANT][:SIZE]; see `reid data list`."
    ),
    click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set."),
    _pairs("NAME[=DIR]", "A further data set to train on.", "--also"),
    _pairs("NAME[=DIR]", "A data set to evaluate on.", "--test"),
    click.option("--backbone", "-b", metavar="NAME", help="Encoder of a plugin or of timm."),
    click.option("--epochs", type=click.IntRange(1), help="Length of the training."),
    click.option("--seed", type=click.IntRange(0), help="Seed of everything random."),
    click.option("--device", metavar="DEV", help=DEVICES),
    click.option("--embed", metavar="A,B", help="Embeddings to evaluate and export."),
    _pairs(
        "FIELD=PLUGIN", "Who makes a field, even where the data set has it.", "--label", "labels"
    ),
    _pairs("FIELD=DIR", "Folder of side-car files of a field.", "--field", "fields"),
    _pairs("NAME=PROVIDER", "Who provides a further training source.", "--source", "sources"),
    _pairs("SLOT=PLUGIN", "Who fills a slot that two plugins claim.", "--own"),
    _pairs("KEY=VALUE", _SETTING, "--set", "-s", "settings"),
)
"""Add the options that describe a run."""

comparison_options = together(
    click.option("--distance", type=click.Choice(["cosine", "euclidean"]), default="cosine"),
    click.option(
        "--vector",
        type=click.Choice(["declared", "raw", "neck", "unit"]),
        default="declared",
        help="Vector of every embedding: the one it deploys, or another.",
    ),
    click.option(
        "--flip",
        type=click.Choice(["off", "sum", "unit-sum"]),
        is_flag=False,
        flag_value="sum",
        default="off",
        help="Add the features of mirrored images: as they are, or with length one.",
    ),
)
"""Add the settings of ``evaluation`` by which features are compared."""


def to_flags(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the values of `run_options` into nested configuration.

    Raises:
        ConfigError: an option is not of the form KEY=VALUE.
    """
    flags: dict[str, Any] = {}

    def put(section: str, key: str, value: Any) -> None:
        if value is not None:
            flags.setdefault(section, {})[key] = value

    put("run", "plugins", _names(options.get("plugins")))
    put("run", "seed", options.get("seed"))
    put("data", "name", options.get("data"))
    put("data", "root", options.get("data_root"))
    put("data", "also", list(options.get("also", ())) or None)
    put("evaluation", "data", list(options.get("test", ())) or None)
    put("model", "backbone", options.get("backbone"))
    put("schedule", "epochs", options.get("epochs"))
    put("engine", "device", options.get("device"))
    put("evaluation", "embed", _names(options.get("embed")))
    for section in ("labels", "fields", "sources", "own"):
        for text in options.get(section, ()):
            key, value = _pair(f"--{section.rstrip('s')}", text)
            put(section, key, value)
    for text in options.get("settings", ()):
        key, value = _pair("--set", text)
        _put_setting(flags, key, _value(value))
    return flags


def _put_setting(flags: dict[str, Any], key: str, value: Any) -> None:
    from reid_core.config import RunConfig

    first, *rest = ("data.pattern" if key == "folder.pattern" else key).split(".")
    if not rest:
        raise ConfigError(f"--set {key}: expected SECTION.KEY=VALUE or PLUGIN.KEY=VALUE")
    # A plugin's settings may be written without the leading "plugins.".
    if first not in RunConfig.model_fields:
        first, rest = "plugins", [first, *rest]
    if first == "loss_weights":
        rest = [".".join(rest)]
    place = flags.setdefault(first, {})
    for part in rest[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{part}' is a value and has no keys of its own")
    place[rest[-1]] = value


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{option} {text}: expected KEY=VALUE")
    return key.strip(), value.strip()


def _value(text: str) -> Any:
    """Read a value as TOML would, and everything else as text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
