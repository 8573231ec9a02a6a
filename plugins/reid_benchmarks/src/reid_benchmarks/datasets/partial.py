"""Partial-REID, Partial-iLIDS and Occluded-REID: test sets in which people are seen in part."""

from __future__ import annotations

from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import (
    Grammar,
    list_names,
    match_names,
    match_within_people,
    some,
)
from reid_benchmarks.datasets.records import NO_CAMERA, Record, Records

PARTIAL_REID = Grammar(r"(?P<pid>\d{3})_\d+\.(?i:jpg)", "PPP_N.jpg")
OCCLUDED_REID = Grammar(r"(?P<pid>\d{3})_\d+\.(?i:tiff?|jpg)", "PPP_N.tif")
ILIDS = Grammar(r"(?P<pid>\d+)\.(?i:jpg)", "NNN.jpg")
ILIDS_COPY = Grammar(r"(?P<pid>\d+)_\d+\.(?i:jpg)", "PPP_N.jpg")

_PARTIAL, _WHOLE = "partial_body_images", "whole_body_images"
_OCCLUDED = "occluded_body_images"

_ILIDS_KINDS = (
    ("Probe", "Gallery", ILIDS),
    ("query", "gallery", ILIDS_COPY),
    (_PARTIAL, _WHOLE, ILIDS_COPY),
)
"""Folders of queries and gallery in copies of Partial-iLIDS, and the names in them."""


def read_partial_reid(copy: Copy) -> Records:
    """Read Partial-REID: the variant says whose images are searched for.

    ``partial`` are the visible parts, cropped by hand; ``occluded`` are the full frames with what
    hides the person.
    """
    home = copy.home((_PARTIAL, _OCCLUDED, _WHOLE), ("Partial-REID_Dataset", "Partial-REID"))
    asked = _OCCLUDED if copy.variant == "occluded" else _PARTIAL
    return Records(
        query=_flat(copy.folder(home / asked), PARTIAL_REID),
        gallery=_flat(copy.folder(home / _WHOLE), PARTIAL_REID),
    )


def read_partial_ilids(copy: Copy) -> Records:
    """Read Partial-iLIDS, of which two releases are in use that cannot be compared.

    A copy with exactly as many queries as the other release has is refused.
    """
    homes = ("Partial_iLIDS", "Partial-iLIDS", "PartialiLIDS")
    home = copy.home((kind[0] for kind in _ILIDS_KINDS), homes)
    first, second, grammar = next(kind for kind in _ILIDS_KINDS if (home / kind[0]).is_dir())
    query = _flat(copy.folder(home / first), grammar)
    gallery = _flat(copy.folder(home / second), grammar)
    other = "238" if copy.variant == "119" else "119"
    if len(query) == int(other):
        raise copy.wrong(
            f"{home} has {other} queries: it is the other release, whose numbers are not "
            f"comparable; say {copy.name}/{other}"
        )
    return Records(query=query, gallery=gallery)


def read_occluded_reid(copy: Copy) -> Records:
    """Read Occluded-REID, in folders of people or flat, as TIFF or as re-encoded JPEG."""
    home = copy.home((_OCCLUDED, "query"), ("Occluded_REID", "OccludedREID", "Occluded-REID"))
    flat_copy = not (home / _OCCLUDED).is_dir()
    folders = ("query", "gallery") if flat_copy else (_OCCLUDED, _WHOLE)
    query = _nested_or_flat(copy.folder(home / folders[0]))
    gallery = _nested_or_flat(copy.folder(home / folders[1]))
    lossy = [r.path.name for r in (*query, *gallery) if r.path.suffix.lower() == ".jpg"]
    notices: tuple[str, ...] = ()
    if lossy:
        notices = (f"{len(lossy)} images are re-encoded, the original is TIFF: {some(lossy)}",)
    return Records(query=query, gallery=gallery, notices=notices)


def _flat(folder: Path, grammar: Grammar) -> list[Record]:
    found = match_names(folder, grammar)
    return [Record(path, int(match["pid"]), NO_CAMERA) for path, match in found]


def _nested_or_flat(folder: Path) -> list[Record]:
    if any((folder / name).is_dir() for name in list_names(folder)[:1]):
        found = match_within_people(folder, OCCLUDED_REID, "pid")
        return [Record(path, pid, NO_CAMERA) for path, pid, _ in found]
    return _flat(folder, OCCLUDED_REID)
