"""CCVID: tracklets of people who change their clothes (Gu et al., CVPR 2022)."""

from __future__ import annotations

import re
from pathlib import Path

from reid_benchmarks.datasets.benchmark import SPLITS, Copy
from reid_benchmarks.datasets.files import Grammar, match_names
from reid_benchmarks.datasets.lists import read_list
from reid_benchmarks.datasets.records import Record, Records
from reid_core.errors import DataError

LINE = Grammar(
    r"(?P<folder>session(?P<session>[1-3])/\d{3}_(?P<camera>\d{2}))\s+(?P<pid>\d+)"
    r"\s+(?P<clothes>\S+)",
    "sessionS/PPP_CC PID CLOTHES",
)
FRAME = Grammar(r"(?P<frame>\d+)\.(?i:jpg|png)", "FFFFF.jpg")

_OTHER_CAMERAS = 12
"""Session 3 was taken by other cameras than the first two; its numbers go on behind theirs."""


def read_ccvid(copy: Copy) -> Records:
    """Read CCVID, whose lists state the outfit of every tracklet."""
    lists = [f"{split}.txt" for split in SPLITS]
    home = copy.home(lists, ("CCVID", "ccvid"))

    def read(split: str) -> list[Record]:
        return [_track(home, match) for match in read_list(home / f"{split}.txt", LINE)]

    return Records.by_split(read)


def _track(home: Path, match: re.Match[str]) -> Record:
    folder = home / match["folder"]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, though it is listed; the copy is incomplete")
    images = match_names(folder, FRAME)
    if not images:
        raise DataError(f"{folder}: has no images; extract the tracklet again")
    images.sort(key=lambda found: int(found[1]["frame"]))
    files = tuple(path for path, _ in images)
    camera, session = int(match["camera"]), int(match["session"])
    camid = camera - 1 + (_OTHER_CAMERAS if session == 3 else 0)
    extra = {"session": session, "camera": camera}
    return Record(files[0], int(match["pid"]), camid, match["clothes"], extra, frames=files)
