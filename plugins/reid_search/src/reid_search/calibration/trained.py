"""Whether anybody on whom a threshold is to be chosen was trained on."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core import DataError, DataSet, Sample, Source, open_source
from reid_core.data.people import seen_before

if TYPE_CHECKING:
    from reid_search.models import OpenModel

_SHOWN = 5
"""How many people a message lists."""


def check_not_trained_on(model: OpenModel, dataset: DataSet, name: str, root: Path | None) -> str:
    """Refuse people whom an embedder was trained on, as far as it says who these were.

    People are recognised by their names where the data set has some (`Embedder.learnt_from`), by
    the data set's own numbers where the run and the data set read the same files, and everywhere
    by their pictures' files.

    Args:
        model: the embedder; a run's ``config.toml`` lies beside it.
        dataset: on which to calibrate.
        name, root: as it was asked for.

    Returns:
        A line for the user where it cannot be told; empty where nobody was trained on.

    Raises:
        DataError: how many were trained on, and who.
    """
    learnt = model.embedder.learnt_from
    met = seen_before(dataset, learnt)
    if met:
        raise DataError(f"{met}; calibrate on others")
    trained = _trained_data(model.weights)
    if trained is None:
        if learnt:
            return ""
        return (
            f"{model.name} does not say who was trained on: see to it that nobody in '{name}' was"
        )
    data, place = trained
    same_place = place == (root.resolve() if root else None)
    people: set[Any] = set()
    if data == name and same_place:
        source = dataset.train
        people = _people(source.samples)
    elif place is None:
        return ""  # what is made has files of its own for every name
    else:
        try:
            source = _source(data, place)
        except DataError as error:
            return f"whether anybody in '{name}' was trained on cannot be told: {error}"
        if same_place and data.split("/")[0].split(":")[0] == name.split("/")[0].split(":")[0]:
            people = _people(source.samples)
    files = _files(source.samples)
    tested = (*dataset.query, *dataset.gallery)
    known = {s.extra.get("person", s.pid) for s in tested if s.pid >= 0 and _person(s) in people}
    known |= {s.extra.get("person", s.pid) for s in tested if _files([s]) & files}
    if known:
        listed = ", ".join(str(person) for person in sorted(known)[:_SHOWN])
        more = ", ..." if len(known) > _SHOWN else ""
        raise DataError(
            f"{len(known)} people in '{name}' were trained on ({listed}{more}): their pictures are "
            "more alike than those of strangers will be, so a threshold chosen on them is too "
            "high; calibrate on people whom the run has never seen"
        )
    return ""


def _trained_data(weights: Path) -> tuple[str, Path | None] | None:
    """Return name and root of a run's data set, or None where it does not say."""
    try:
        data = tomllib.loads((weights.parent / "config.toml").read_text("utf-8"))["data"]
        return str(data["name"]), Path(data["root"]).resolve() if data.get("root") else None
    except (OSError, tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError):
        return None


def _source(name: str, root: Path) -> Source:
    if not root.is_dir():
        raise DataError(f"its data set '{name}' is no longer in {root}")
    return open_source(name, root)


def _people(samples: Iterable[Sample]) -> set[Any]:
    """Return the data set's own numbers of the people, where it keeps them."""
    return {_person(s) for s in samples if s.pid >= 0} - {None}


def _files(samples: Iterable[Sample]) -> set[Path]:
    """Return the pictures of samples, every frame of a tracklet among them."""
    return {path.resolve() for sample in samples for path in sample.images}


def _person(sample: Sample) -> Any:
    return sample.extra.get("person")
