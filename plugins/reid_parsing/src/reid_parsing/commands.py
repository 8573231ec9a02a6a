"""``reid parsing``: label a data set, measure a parser, train one and keep it."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from reid_core import checked_folder, checked_output
from reid_core.cli.options import DEVICES
from reid_core.contract.fields import SHARED_FIELDS
from reid_parsing.fields import FIELDS, JOINTS, SILHOUETTE

if TYPE_CHECKING:
    from reid_core.contract.context import RunContext
    from reid_parsing.plugin import Parsing

_F = TypeVar("_F", bound=Callable[..., Any])

_SPLITS = ("train", "query", "gallery")
ALL = "all"


def _field_option(*fields: str) -> Callable[[_F], _F]:
    return click.option(
        "--field",
        "-f",
        type=click.Choice(fields),
        default="parts",
        show_default=True,
        help="What to parse.",
    )


_OPTIONS: tuple[Callable[[_F], _F], ...] = (
    click.option("--device", metavar="DEV", help=DEVICES),
    click.option("--seed", type=click.IntRange(0), help="Seed of a parser's training."),
    click.option(
        "--set",
        "-s",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key, the plugin's as parsing.network=danet or parsing.weights=FILE.",
    ),
)


def _parser_options(function: _F) -> _F:
    """Add the options that say which parser."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group()
def parsing() -> None:
    """Label a data set with a body parser, measure one, or train one and keep it."""


@parsing.command(short_help="Write a label map of every image of a data set.")
@click.option("--data", "-d", required=True, metavar="NAME", help="NAME[/VARIANT][:SIZE].")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Folder of the label PNGs."
)
@click.option(
    "--split",
    type=click.Choice((*_SPLITS, ALL)),
    default="train",
    show_default=True,
    help="Which images to label; a run needs those of train, and takes those of all.",
)
@_field_option(*FIELDS, JOINTS, SILHOUETTE)
@_parser_options
def label(data: str, data_root: Path | None, out: Path, split: str, **options: Any) -> None:
    """Write a label map of every image, and a contact sheet beside the folder.

    A map is OUT/FOLDERS/NAME.png, by the image's path below the folder of all images of the set;
    joints are NAME.npy, 17 rows of x, y and how sure the network is. Joints can be found by
    RTMPose, ViTPose or MediaPipe (-s parsing.joints=FILE), silhouettes by MediaPipe
    (-s parsing.silhouettes=FILE).

    The PNGs have palettes, so that any viewer shows the classes in colours. They come back into a
    run, as they are or corrected, with --field parts=OUT. What was labelled before by the same
    parser is taken from the cache.
    """
    from reid_core.machine.randomness import deterministic
    from reid_parsing.exporting import export_labels, sheet_beside

    checked_folder(out)
    checked_output(sheet_beside(out))
    ctx, plugin = open_context(data, data_root, options)
    dataset = ctx.dataset
    samples, specs = dataset.train.samples, dataset.train.fields
    if split == ALL:
        samples = (*samples, *dataset.query, *dataset.gallery)
        specs = {name: specs[name] for name in specs if name in dataset.query_fields}
    elif split != "train":
        samples, specs = getattr(dataset, split), dataset.query_fields
    with deterministic(ctx.device.type == "cpu"):
        for line in export_labels(ctx, plugin, options["field"], samples, specs, out):
            click.echo(line)


@parsing.command(short_help="Find parts, garments and joints in a folder of pictures.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Folder to write to."
)
@click.option(
    "--field",
    "-f",
    "fields",
    multiple=True,
    type=click.Choice((*FIELDS, JOINTS, SILHOUETTE)),
    help="What to find; without it parts, garments, joints, and what a detector is set for.",
)
@_parser_options
def pictures(folder: Path, out: Path, fields: tuple[str, ...], **options: Any) -> None:
    """Write OUT/FIELD/NAME for every picture below FOLDER, each of one person, cut out.

    parts, garments and silhouette are PNGs with the class of every pixel, keypoints .npy arrays of
    17 joints with x, y and how sure the network is. No run, no data set and no training is needed
    where reid-weights is installed.
    """
    from reid_core.machine.randomness import deterministic
    from reid_parsing.exporting import export_pictures

    checked_folder(out)
    ctx, plugin = open_context(None, None, options)
    with deterministic(ctx.device.type == "cpu"):
        usual = (*FIELDS, JOINTS, *([SILHOUETTE] if plugin.settings.silhouettes else []))
        for line in export_pictures(ctx, plugin, folder, fields or usual, out):
            click.echo(line)


@parsing.command(short_help="Measure a parser where there is a truth.")
@click.option("--data", "-d", required=True, metavar="NAME", help="NAME[/VARIANT][:SIZE].")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@_field_option(*FIELDS, JOINTS, SILHOUETTE)
@_parser_options
def evaluate(data: str, data_root: Path | None, **options: Any) -> None:
    """Measure the parser on a data set that carries the truth: on its test images, if it has any.

    Prints pixel accuracy, mean IoU and the IoU of every class; of joints the share that is within a
    tenth of the longer side of the box around the true ones (PCK@0.1), and that within a fifth of
    the way from shoulders to hips. Silhouettes are compared with the true parts where there are no
    true ones.
    """
    from reid_core import frames_of
    from reid_core.errors import DataError
    from reid_core.machine.randomness import deterministic
    from reid_parsing.labelling import (
        compared,
        joints_told,
        measure,
        measure_joints,
        true_silhouettes,
    )

    ctx, plugin = open_context(data, data_root, options)
    field, dataset = options["field"], ctx.dataset
    told = {field} if field != SILHOUETTE else {field, "parts"}
    split, specs = (*dataset.query, *dataset.gallery), dataset.query_fields
    if not told & set(specs):
        split, specs = dataset.train.samples, dataset.train.fields
    known = {name: spec for name, spec in specs.items() if name in told}
    samples = frames_of(split, known)
    if not (samples and known):
        raise DataError(f"data set '{data}' carries no '{field}' to measure with")
    if field == JOINTS:
        with deterministic(ctx.device.type == "cpu"):
            near = measure_joints(plugin.joints_in(ctx, samples), samples)
        click.echo(f"{field} on {len(samples)} images of {data}: {joints_told(near)}")
        return
    with deterministic(ctx.device.type == "cpu"):
        if field == SILHOUETTE:
            found = plugin.silhouettes_in(ctx, samples)
            scores = compared(found, true_silhouettes(samples), SHARED_FIELDS[field])
        else:
            parser = plugin.parser(ctx, field)
            scores = measure(ctx, parser, samples, SHARED_FIELDS[field], plugin.settings.mirror)
    click.echo(
        f"{field} on {len(samples)} images of {data}: pixel accuracy "
        f"{100 * scores.pixel_accuracy:.1f} %, mIoU {100 * scores.mean_iou:.1f}"
    )
    for name, value in zip(scores.classes, scores.iou, strict=True):
        shown = "neither true nor found" if isnan(value) else f"{100 * value:5.1f}"
        click.echo(f"  {name:<12} {shown}")


@parsing.command(short_help="Train a parser and keep it in a file.")
@click.option("--data", "-d", metavar="NAME", help="Labelled data; also -s parsing.labelled=NAME.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the labelled data.")
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="The .safetensors file to write.",
)
@_field_option(*FIELDS)
@_parser_options
def train(data: str | None, data_root: Path | None, out: Path, **options: Any) -> None:
    """Train a parser on labelled data and keep it in a file, for -s parsing.weights=FILE."""
    from reid_core.errors import ConfigError
    from reid_core.machine.randomness import deterministic
    from reid_parsing.weights import save_parser

    checked_output(out, (".safetensors",))
    if data is not None:
        options["settings"] = (*options["settings"], f'parsing.labelled="{data}"')
    if data_root is not None:
        options["settings"] = (*options["settings"], f'parsing.labelled_root="{data_root}"')
    ctx, plugin = open_context(None, None, options)
    plugin.takes_shipped = False
    if plugin.weights is not None:
        raise ConfigError("parsing.weights names a trained parser: there is nothing to train")
    field = options["field"]
    with deterministic(ctx.device.type == "cpu"):
        parser = plugin.parser(ctx, field)
    save_parser(parser, out)
    click.echo(f"{field} by '{parser.architecture}': {out}")


def open_context(
    data: str | None, root: Path | None, options: dict[str, Any]
) -> tuple[RunContext, Parsing]:
    """Return the surroundings of a run that only parses, and the plugin in it.

    Args:
        data: the data set, as after ``--data``; None takes none.
        root: its folder.
        options: ``device``, ``seed`` and ``settings`` as the commands take them.
    """
    from reid_core import open_context as open_run
    from reid_core.cli.options import to_flags

    given = {key: value for key, value in options.items() if key != "field"}
    flags = to_flags({**given, "plugins": "parsing", "data": data, "data_root": root})
    ctx, plugins = open_run(flags, with_data=data is not None, say=click.echo)
    return ctx, cast("Parsing", plugins["parsing"])
