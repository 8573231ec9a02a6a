"""MSMT17, with faces (V1) or masked ones (V2) (Wei et al., CVPR 2018)."""

from __future__ import annotations

import re
from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, list_names, match_people, some
from reid_benchmarks.datasets.lists import read_list, require_files
from reid_benchmarks.datasets.market import MARKET_FOLDERS, read_market_folders
from reid_benchmarks.datasets.records import Record, Records
from reid_core.errors import DataError

_CAMERA = r"(?P<camera>0[1-9]|1[0-5])"
_SLOT = r"(?P<slot>\d{4}(?P<daytime>morning|noon|afternoon))"
_NAME = rf"(?P<pid>\d{{4}})_\d{{3}}_{_CAMERA}_{_SLOT}_\d{{4}}_\d+(?:_ex)?\.(?i:jpe?g)"
LINE = Grammar(
    rf"(?P<file>(?P<folder>\d{{4}})/{_NAME}) (?P<label>\d+)",
    "PPPP/PPPP_NNN_CC_DDDDtime_NNNN_N[_ex].jpg PID (camera 01 to 15)",
)
"""A line of the four lists."""
REARRANGED = Grammar(
    r"(?P<pid>\d{4})_c(?P<camera>1[0-5]|0?[1-9])_.*\.(?i:jpe?g)", "PPPP_cC_anything.jpg"
)
"""Names in copies in the folders of Market-1501; cameras have one digit or two."""

_TRAINING = {"v1": "train", "v2": "mask_train_v2", "rearranged": MARKET_FOLDERS["train"]}
"""The folder by which a copy's kind is told."""
_INNER = {"v1": ("MSMT17_V1",), "v2": ("MSMT17_V2",), "rearranged": ("MSMT17_V1", "MSMT17")}
_FOLDERS = {"v1": ("train", "test"), "v2": ("mask_train_v2", "mask_test_v2")}


def read_msmt17(copy: Copy) -> Records:
    """Read MSMT17 by its four lists, or a copy in the folders of Market-1501.

    ``list_val`` holds further images of the training people: it is added to training by the
    variants ``v1+val`` and ``v2+val`` and left out otherwise.
    """
    if copy.variant == "rearranged":
        return read_market_folders(copy, _home(copy, "rearranged"), REARRANGED, _rearranged)
    version, _, added = copy.variant.partition("+")
    home = _home(copy, version)
    train, test = (copy.folder(home / name) for name in _FOLDERS[version])
    lists = {name: _listed(home, name) for name in ("train", "val", "query", "gallery")}
    notices = []
    for folder, names in ((train, ("train", "val")), (test, ("query", "gallery"))):
        present = {f"{p.name}/{n}" for p, _ in match_people(folder) for n in list_names(p)}
        for name in names:
            require_files(home / f"list_{name}.txt", (m["file"] for m in lists[name]), present)
        unlisted = sorted(present - {m["file"] for name in names for m in lists[name]})
        if unlisted:
            notices.append(
                f"{len(unlisted)} images of {folder.name} are in no list: {some(unlisted)}"
            )
    return Records(
        _records(train, [*lists["train"], *(lists["val"] if added else [])]),
        _records(test, lists["query"]),
        _records(test, lists["gallery"]),
        notices=tuple(notices),
    )


def _home(copy: Copy, version: str) -> Path:
    """Return the folder of the wanted version, or say which one is there."""
    there = [
        name
        for name, folder in _TRAINING.items()
        for place in (".", *_INNER[name])
        if (copy.root / place / folder).is_dir()
    ]
    if version not in there and there:
        what = {
            "v1": "is V1, with faces, whose numbers are not comparable with those of V2",
            "v2": "is V2, with masked faces, whose numbers are not comparable with those of V1",
            "rearranged": "has the folders of Market-1501",
        }[there[0]]
        raise copy.wrong(f"{copy.root} {what}: say {copy.name}/{there[0]}")
    return copy.home((_TRAINING[version],), _INNER[version])


def _listed(home: Path, name: str) -> list[re.Match[str]]:
    path = home / f"list_{name}.txt"
    matches = read_list(path, LINE)
    for match in matches:
        if not int(match["folder"]) == int(match["pid"]) == int(match["label"]):
            raise DataError(
                f"{path}: '{match[0]}' gives its person three numbers that disagree; extract the "
                "list from its archive again"
            )
    return sorted(matches, key=lambda match: match["file"])


def _records(folder: Path, matches: list[re.Match[str]]) -> list[Record]:
    return [
        Record(
            folder / match["folder"] / match["file"].partition("/")[2],
            int(match["pid"]),
            int(match["camera"]) - 1,
            extra={"slot": match["slot"], "daytime": match["daytime"]},
        )
        for match in matches
    ]


def _rearranged(path: Path, match: re.Match[str]) -> Record:
    return Record(path, int(match["pid"]), int(match["camera"]) - 1)
