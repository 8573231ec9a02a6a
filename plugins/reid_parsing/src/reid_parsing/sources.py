"""What a parser learns from: a labelled data set or source, and who is held out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_core import frames_of
from reid_core.contract.context import Lookup
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source
from reid_core.errors import ConfigError, DataError
from reid_core.plugins.providers import check_request, parse_data_name

if TYPE_CHECKING:
    from reid_core.contract.fields import FieldSpec

FALLBACK = "synthpeople-crops"
"""What parsers learn from where the main data set has no labelled sibling."""


@dataclass(frozen=True)
class Labelled:
    """Labelled images, divided.

    Args:
        name: what was asked for.
        train: to learn from.
        held_out: to measure on: test images, or people (outfits, images) that ``train`` lacks.
        spec: the field that both carry.
    """

    name: str
    train: Source
    held_out: tuple[Sample, ...]
    spec: FieldSpec


def choose_labelled(providers: Lookup, main: str, field: str) -> str:
    """Return the name of the labelled data where the user names none.

    It is the source ``<main>-crops``, otherwise the only ``<main>-...`` that carries the field, in
    the main data set's size; otherwise `FALLBACK` in its default size.

    Args:
        providers: of the run.
        main: the main data set, as after ``--data``.
        field: what must be carried.

    Raises:
        DataError: there is none; with what could be chosen.
    """
    title, _, size = parse_data_name(main)
    offers = [offer for _, offer in providers.datasets() if field in offer.fields]
    siblings = [o.name for o in offers if o.kind == "source" and o.name.startswith(f"{title}-")]
    chosen = f"{title}-crops" if f"{title}-crops" in siblings else None
    if len(siblings) == 1:
        chosen = siblings[0]
    if chosen is not None:
        return f"{chosen}:{size}" if size else chosen
    if any(offer.name == FALLBACK for offer in offers):
        return FALLBACK
    listed = ", ".join(dict.fromkeys(offer.name for offer in offers)) or "none is installed"
    raise DataError(
        f"a parser of '{field}' needs labelled images: install reid-synthpeople, name a data set "
        f"that carries the field with -s parsing.labelled=NAME ({listed}), or give trained "
        "weights with -s parsing.weights=FILE"
    )


def load_labelled(
    providers: Lookup,
    name: str,
    field: str,
    root: Path | None,
    cache: Path,
    share: float = 0.1,
    seed: int = 0,
) -> Labelled:
    """Load labelled data and divide it.

    Test images that carry the field are held out, where there are any; otherwise a share of the
    identities, of persons or outfits where there are no identities, or else of the images.

    Args:
        providers: of the run.
        name: data set or source, as after ``--data``.
        field: what must be carried.
        root: its folder, where it needs one.
        cache: the user's cache folder.
        share: of what is not test to hold out; 0 holds nobody out.
        seed: decides whom.

    Raises:
        DataError: it is not there, empty, or does not carry the field.
    """
    title, variant, size = parse_data_name(name)
    provider = providers.dataset(title)
    request = DataRequest(title, variant, size, root, cache)
    if provider.needs_root and root is None:
        raise DataError(
            f"labelled data '{name}' reads files that you have: give their folder with "
            f"-s parsing.labelled_root=DIR, or `reid parsing train --data-root DIR` "
            f"({provider.layout})"
        )
    check_request(provider, request)
    found = provider.load(request)
    source = found.train if isinstance(found, DataSet) else found
    if not source.samples:
        raise DataError(f"labelled data '{name}' has no images to learn from")
    if field not in source.fields:
        carried = ", ".join(sorted(source.fields)) or "no field"
        raise DataError(
            f"labelled data '{name}' carries {carried}, not '{field}'; name other data with "
            "-s parsing.labelled=NAME"
        )
    spec = source.fields[field]
    source = replace(source, samples=frames_of(source.samples, source.fields))
    if isinstance(found, DataSet) and field in found.query_fields:
        held_out = frames_of((*found.query, *found.gallery), {field: spec})
        return Labelled(name, source, held_out, spec)
    train, held_out = hold_out(source, share, seed)
    return Labelled(name, train, held_out, spec)


def hold_out(source: Source, share: float, seed: int) -> tuple[Source, tuple[Sample, ...]]:
    """Divide a source by identity, by person or outfit where it has none, or else by image.

    Persons are ``extra["person"]``, with which a source without identities can say that images show
    the same one; below 0 it is nobody.

    Args:
        source: what to divide.
        share: of the groups to hold out, at least one where it is not 0.
        seed: decides which.

    Raises:
        ConfigError: nothing would be left to learn from.
    """
    if not share:
        return source, ()
    keys = [_group(source, row) for row in range(len(source))]
    groups = sorted(set(keys))
    held = max(1, round(len(groups) * share))
    if held >= len(groups):
        raise ConfigError(
            f"parsing.held_out = {share} of {len(groups)} people or images in '{source.name}' "
            "leaves none to learn from; set -s parsing.held_out=0"
        )
    rng = np.random.default_rng([seed, len(groups)])
    chosen = {groups[place] for place in rng.permutation(len(groups))[:held]}
    kept = tuple(s for s, key in zip(source.samples, keys, strict=True) if key not in chosen)
    out = tuple(s for s, key in zip(source.samples, keys, strict=True) if key in chosen)
    return replace(source, samples=kept), out


def _group(source: Source, row: int) -> tuple[str, int]:
    sample = source.samples[row]
    if source.identities and sample.pid >= 0:
        return "pid", sample.pid
    # Sources without identities may still say which images show one person.
    person = sample.extra.get("person")
    if isinstance(person, int) and person >= 0:
        return "person", person
    return ("clothes", sample.clothes) if sample.clothes >= 0 else ("image", row)
