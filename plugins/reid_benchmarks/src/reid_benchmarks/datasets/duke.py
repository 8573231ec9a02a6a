"""DukeMTMC-reID and Occluded-Duke: withdrawn by their owners, read where a user holds a copy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, list_names
from reid_benchmarks.datasets.lists import read_list, require_files
from reid_benchmarks.datasets.market import MARKET_FOLDERS, read_market_folders
from reid_benchmarks.datasets.records import Record, Records

NAME = Grammar(
    r"(?P<pid>\d{4})_c(?P<camera>[1-8])_f(?P<frame>\d{7})\.(?i:jpg)", "PPPP_cC_fFFFFFFF.jpg"
)

WITHDRAWN = (
    "DukeMTMC-reID was withdrawn by its owners in 2019; numbers on it are historical, do not "
    "report new ones"
)

_DUKE = "DukeMTMC-reID"
_SEARCHED = {
    "train": ("bounding_box_train",),
    "query": ("query", "bounding_box_test"),
    "gallery": ("bounding_box_test",),
}
"""Where the images of each list lie: most queries of Occluded-Duke are gallery images of Duke."""


def read_duke(copy: Copy) -> Records:
    """Read DukeMTMC-reID; its single-camera people need no rule, since nobody searches for them."""
    home = copy.home(MARKET_FOLDERS.values(), (_DUKE, "dukemtmc-reid"))
    return read_market_folders(copy, home, NAME, _record)


def read_occluded_duke(copy: Copy) -> Records:
    """Read Occluded-Duke: its own three folders, or its lists beside a copy of DukeMTMC-reID."""
    lists = [f"{split}.list" for split in MARKET_FOLDERS]
    home = copy.home([*MARKET_FOLDERS.values(), *lists], ("Occluded_Duke", "Occluded-Duke"))
    if any((home / folder).is_dir() for folder in MARKET_FOLDERS.values()):
        return read_market_folders(copy, home, NAME, _record)
    places = [home / _DUKE, home.parent / _DUKE]
    duke = next((place for place in places if place.is_dir()), None)
    if duke is None:
        raise copy.wrong(
            f"{home} holds lists and no images; they belong beside a folder {_DUKE}, which "
            f"is neither {places[0]} nor {places[1]}"
        )

    def read(split: str) -> list[Record]:
        folders = [copy.folder(duke / name) for name in _SEARCHED[split]]
        return _listed(home / f"{split}.list", folders)

    return Records.by_split(read)


def _listed(path: Path, folders: Sequence[Path]) -> list[Record]:
    """Return the listed images in the order of their names; the first folder that has one wins."""
    matches = sorted(read_list(path, NAME), key=lambda match: match[0])
    homes = {name: folder for folder in reversed(folders) for name in list_names(folder)}
    require_files(path, (match[0] for match in matches), homes)
    return [_record(homes[match[0]] / match[0], match) for match in matches]


def _record(path: Path, match: re.Match[str]) -> Record:
    extra = {"frame": int(match["frame"])}
    return Record(path, int(match["pid"]), int(match["camera"]) - 1, extra=extra)
