"""MARS: the tracklets of Market-1501 (Zheng et al., ECCV 2016)."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, list_names
from reid_benchmarks.datasets.lists import read_list, require_files
from reid_benchmarks.datasets.matrices import read_matrix
from reid_benchmarks.datasets.records import DISTRACTOR, Record, Records
from reid_core.errors import DataError

NAME = Grammar(
    r"(?P<pid>\d{4}|00-1)C(?P<camera>[1-6])T(?P<tracklet>\d{4})F(?P<frame>\d+)\.(?i:jpg)",
    "PPPPCcTTTTTFFFF.jpg (camera 1 to 6)",
)

_FOLDERS = {"train": "bbox_train", "test": "bbox_test"}
_BACKGROUND, _JUNK = 0, -1


def read_mars(copy: Copy) -> Records:
    """Read MARS: tracks as ``info`` lists them, the queries by ``query_IDX.mat``.

    The gallery is every track of the test, queries included, as in the owners' evaluation;
    ``asked`` tells them apart. Those of -1 are junk and left out, those of 0 show none of the
    people.
    """
    home = copy.home(_FOLDERS.values(), ("MARS", "MARS-v160809", "mars"))
    info = copy.folder(home / "info")
    test = _tracks(copy, home, info, "test")
    path = info / "query_IDX.mat"
    chosen = read_matrix(path, "query_IDX").ravel().tolist()
    if min(chosen, default=1) < 1 or max(chosen, default=0) > len(test):
        raise DataError(f"{path}: queries are tracks 1 to {len(test)}; extract it again")
    asked = {number - 1 for number in chosen}
    tracks = [
        replace(record, extra={**record.extra, "asked": int(number in asked)})
        for number, record in enumerate(test)
        if record.pid != _JUNK
    ]
    query = [record for record in tracks if record.extra["asked"] and record.pid >= 0]
    return Records(_tracks(copy, home, info, "train"), query, tracks)


def _tracks(copy: Copy, home: Path, info: Path, side: str) -> list[Record]:
    folder = copy.folder(home / _FOLDERS[side])
    path = info / f"{side}_name.txt"
    listed = read_list(path, NAME)
    require_files(path, (match[0] for match in listed), _present(folder))
    rows = read_matrix(info / f"tracks_{side}_info.mat", f"track_{side}_info", columns=4)
    return [_track(folder, info / f"tracks_{side}_info.mat", listed, row) for row in rows.tolist()]


def _present(folder: Path) -> list[str]:
    return [name for person in list_names(folder) for name in list_names(folder / person)]


def _track(folder: Path, path: Path, listed: list[re.Match[str]], row: list[int]) -> Record:
    """Return a row of the tracks: first and last image, counted from 1, person and camera."""
    first, last, pid, camera = row
    frames = listed[first - 1 : last] if 1 <= first <= last <= len(listed) else []
    said: dict[str, set[int]] = defaultdict(set)
    for match in frames:
        said["pid"].add(_JUNK if match["pid"] == "00-1" else int(match["pid"]))
        said["camera"].add(int(match["camera"]))
    if said != {"pid": {pid}, "camera": {camera}}:
        raise DataError(
            f"{path}: the track of images {first} to {last}, of person {pid} before camera "
            f"{camera}, is not what their names say; extract the list again"
        )
    files = tuple(folder / match[0][:4] / match[0] for match in frames)
    person = DISTRACTOR if pid == _BACKGROUND else pid
    return Record(
        files[0], person, camera - 1, extra={"tracklet": frames[0]["tracklet"]}, frames=files
    )
