"""From a request to a data set or source: made on first use, then read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core import DataError, DataSet, Source
from reid_core.cli.progress import Screen
from reid_synthpeople.cards import Order, read_card, title_of
from reid_synthpeople.loading import Row, dataset_of, lacking, read_index, source_of
from reid_synthpeople.names import SIZES, VARIANTS
from reid_synthpeople.writing import Advance, made, write

if TYPE_CHECKING:
    from reid_core.contract.samples import DataRequest
    from reid_synthpeople.settings import SynthpeopleSettings


def load_dataset(request: DataRequest, settings: SynthpeopleSettings) -> DataSet:
    """Load a variant from the request's cache, where it is made on first use, or from its root.

    A root is taken as it is, whatever seed it was made with.

    Raises:
        DataError: the root holds something else, or the cache cannot be written to.
    """
    if request.root is not None:
        card, rows = _kept(request.root, request)
        return dataset_of(request.root, card, rows, _otherwise(card, settings))
    order = order_of(request, settings)
    return dataset_of(request.cache / order.folder, *_cached(order, request.cache, settings))


def load_source(variant: str, request: DataRequest, settings: SynthpeopleSettings) -> Source:
    """Load the source ``pairs`` or ``crops`` from the cache, where it is made on first use.

    Raises:
        DataError: the cache cannot be written to.
    """
    order = order_of(request, settings, variant)
    card, rows = _cached(order, request.cache, settings)
    return source_of(request.cache / order.folder, card, rows, request.name)


def make(
    request: DataRequest,
    folder: Path,
    advance: Advance,
    settings: SynthpeopleSettings,
    variant: str | None = None,
) -> None:
    """Write what a request asks for into a folder of the user's.

    Raises:
        DataError: the folder holds something else, or cannot be written to.
    """
    write(order_of(request, settings, variant), folder, settings.workers, advance)


def order_of(
    request: DataRequest, settings: SynthpeopleSettings, variant: str | None = None
) -> Order:
    """Return what a request asks for under a run's settings."""
    variant = variant or request.variant or VARIANTS[0]
    return Order(
        variant,
        request.size or SIZES[0],
        settings.seed,
        settings.mask_noise,
        settings.people == "pretraining",
        settings.chosen_factors,
    )


def _cached(
    order: Order, cache: Path, settings: SynthpeopleSettings
) -> tuple[dict[str, Any], list[Row]]:
    folder = cache / order.folder
    found = made(order, folder)
    if found is not None:
        return found

    screen = Screen()
    total = len(order.plan())
    screen.say(f"making {order.title} once: {total} images of synthetic people in {folder}")
    with screen.bar(order.title, total) as add:
        write(order, folder, settings.workers, _steps(add))
    if older := order.of_other_code(cache):
        screen.say(
            f"{order.title} made by other code is kept for runs that read it "
            f"({sum(map(_size_of, older)) / 1e6:.0f} MB); when none does: "
            f"{shlex.join(['rm', '-r', *map(str, older)])}"
        )
    found = made(order, folder)
    if found is None:
        raise DataError(f"{folder}: files vanish while they are written; is it cleaned up?")
    return found


def _size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def _steps(add: Callable[[int], None]) -> Advance:
    """Turn totals into steps."""
    last = 0

    def advance(done: int, total: int) -> None:
        nonlocal last
        add(done - last)
        last = done

    return advance


def _otherwise(card: Mapping[str, Any], settings: SynthpeopleSettings) -> str:
    """Say which settings somebody has chosen that a kept folder was not made with."""
    made_with = {
        "seed": card["order"]["seed"],
        "mask_noise": card["order"]["mask_noise"],
        "people": "pretraining" if card["order"].get("pretraining") else "usual",
        "factors": card["order"].get("factors"),
    }
    differs = [
        f"{name} {made_with[name]} and not {getattr(settings, name)}"
        for name in made_with
        if name in settings.model_fields_set and made_with[name] != getattr(settings, name)
    ]
    return f"; the folder rules, which was made with {', '.join(differs)}" if differs else ""


def _kept(root: Path, request: DataRequest) -> tuple[dict[str, Any], list[Row]]:
    """Return card and index of a folder that the user has made.

    Raises:
        DataError: it holds something else than was asked for, or is not whole.
    """
    card = read_card(root)
    wanted = title_of(request.variant or VARIANTS[0], request.size or SIZES[0])
    remedy = f"make it with 'reid data make {wanted} --out {root}'"
    if card is None:
        raise DataError(f"{root} holds no finished synthetic people; {remedy}")
    variant, size = card["order"]["variant"], card["order"]["size"]
    if (request.variant or variant, request.size or size) != (variant, size):
        raise DataError(
            f"{root} holds {card['data']}, and {request.text} is asked for; give the folder of "
            "the one or the name of the other"
        )
    rows = read_index(root)
    missing = lacking(root, card, rows)
    if missing:
        raise DataError(f"{root}: {len(missing)} files are missing, first {missing[0]}; {remedy}")
    return card, rows
