"""``reid calibrate``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid_core import (
    FIGURE_SUFFIXES,
    ConfigError,
    DataError,
    checked_folder,
    checked_output,
    find_protocol,
    open_dataset,
    write_json,
)
from reid_core.cli.options import DEVICES, json_option
from reid_core.weights import EMBEDDER
from reid_search.models import (
    DEFAULT_MODEL,
    open_model,
    resolve_model,
    write_calibration,
)

if TYPE_CHECKING:
    from reid_core import DataSet
    from reid_search.calibration.results import CalibrationResult
    from reid_search.models import OpenModel


@click.command()
@click.argument("model", required=False)
@click.option("--data", "-d", required=True, metavar="NAME", help="NAME[/VARIANT][:SIZE].")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--protocol", metavar="NAME", help="Which pairs count; the data set's first one.")
@click.option(
    "--operating-point",
    metavar="POINT",
    default="fpr=1e-3",
    show_default=True,
    help="What the threshold is chosen by: fpr=RATE, tpr=RATE, far=RATE, eer, similarity=VALUE.",
)
@click.option(
    "--method",
    type=click.Choice(["logistic", "isotonic"]),
    default="logistic",
    show_default=True,
    help="How similarities become probabilities.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="How often people are drawn anew for the intervals.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of these draws.")
@click.option("--device", default="auto", help=DEVICES)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="Store with a copy of the embedder in this folder, not with MODEL itself.",
)
@click.option("--no-store", is_flag=True, help="Measure only.")
@json_option
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Draw similarities, ROC and reliability."
)
def calibrate(
    model: str | None,
    data: str,
    data_root: Path | None,
    protocol: str | None,
    device: str,
    out: Path | None,
    no_store: bool,
    json_path: Path | None,
    picture: Path | None,
    **options: Any,
) -> None:
    """Choose the similarity from which on two pictures show one person.

    MODEL is a run's folder, an embedder.safetensors, an address, or the name of shipped weights.
    The people of --data must be others than those that it was trained on. The threshold and a
    mapping from similarity to probability are stored in the embedder's JSON, where `reid search`
    finds them.
    """
    from reid_search.calibration.curves import OperatingPoint

    OperatingPoint.parse(options["operating_point"])
    _check_outputs(out, no_store, json_path, picture)
    weights = resolve_model(model)
    target = None
    if not no_store:
        target = out / EMBEDDER if out else _checked_weights(model, weights)
    result, name, dataset = _measured(open_model(model), data, data_root, device, protocol, options)
    if json_path:
        write_json(json_path, {"model": model or DEFAULT_MODEL, "data": data, **result.to_json()})
    if picture:
        from reid_search.calibration.pictures import picture as draw

        click.echo(f"picture: {draw(result, picture, name)}")
    if target is not None:
        click.echo(f"stored in {_store(result, data, dataset.fingerprint(), weights, target)}")


def _check_outputs(
    out: Path | None, no_store: bool, json_path: Path | None, picture: Path | None
) -> None:
    """Refuse what cannot be written before the work."""
    if out is not None and no_store:
        raise ConfigError("--out and --no-store exclude each other")
    if out is not None:
        checked_folder(out)
    if picture is not None:
        from reid_search.plots import require_matplotlib

        checked_output(picture, FIGURE_SUFFIXES, option="--picture")
        require_matplotlib("a picture", "reid-core[plots]")


def _measured(
    model: OpenModel,
    data: str,
    root: Path | None,
    device: str,
    protocol: str | None,
    options: Mapping[str, Any],
) -> tuple[CalibrationResult, str, DataSet]:
    """Measure a model on a data set and print the tables; return also a name for both."""
    from rich.console import Console

    from reid_core.cli.progress import Screen
    from reid_core.machine.devices import choose_device
    from reid_search.calibration.measuring import calibrate as measure
    from reid_search.calibration.tables import calibration_tables
    from reid_search.calibration.trained import check_not_trained_on
    from reid_search.sides import embedded, sides_of

    screen = Screen()
    dataset = open_dataset(data, root)
    if not dataset.query or not dataset.gallery:
        raise DataError(f"data set '{data}' has no query and gallery images to calibrate on")
    for line in (dataset.notice, check_not_trained_on(model, dataset, data, root)):
        if line:
            screen.say(line)
    rule = find_protocol(protocol or dataset.protocols[0])
    place = choose_device(device)
    embedder, sides = model.embedder.to(place), sides_of(dataset, rule)
    # A search knows of a picture nothing else: what has a default is as unknown as there.
    unknown = [name for name, one in embedder.inputs.items() if one.default is not None]
    with screen.bar("features", len(dataset.query) + len(dataset.gallery)) as advance:
        query, gallery = embedded(embedder, sides, dataset, place, advance, unknown=unknown)
    with screen.bar("pairs of queries", 2 * len(query)) as advance:
        result = measure(
            query.rows,
            gallery.rows,
            query.labels,
            gallery.labels,
            rule,
            advance=advance,
            **options,
        )
    if result.chosen.tpr.value == 0:
        screen.say(
            f"no pair of one person is as similar as the threshold that {result.chosen.text} asks "
            "for: a search with it will find nobody; take a higher rate, or a better embedder"
        )
    name = f"{model.name} on {data}, {rule.name}"
    Console().print(calibration_tables(result, name))
    return result, name, dataset


def _checked_weights(model: str | None, weights: Path) -> Path:
    """Return the embedder itself, to store with, if its description can be written.

    Raises:
        ConfigError: it cannot, or belongs to an installation or a cache.
    """
    if model is None or not Path(model).exists():
        raise ConfigError(
            f"{model or DEFAULT_MODEL} is not yours to change: name a folder for a calibrated copy "
            "with --out DIR, or measure only with --no-store"
        )
    try:
        checked_folder(weights.parent, empty=False, option="MODEL")
        checked_output(weights.with_suffix(".json"), option="MODEL")
    except ConfigError as error:
        raise ConfigError(
            f"the calibration cannot be stored with the embedder: {error}; or name a folder for a "
            "calibrated copy with --out DIR"
        ) from None
    return weights


def _store(
    result: CalibrationResult, data: str, fingerprint: str, weights: Path, target: Path
) -> Path:
    """Store a calibration with an embedder, or with a copy of it."""
    if target != weights:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, target)
        shutil.copyfile(weights.with_suffix(".json"), target.with_suffix(".json"))
    content = {**result.stored(), "data": data, "fingerprint": fingerprint}
    return write_calibration(target, content)
