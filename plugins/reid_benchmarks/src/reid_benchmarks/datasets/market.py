"""Market-1501, and other sets in its three folders (Zheng et al., ICCV 2015)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, match_names
from reid_benchmarks.datasets.records import DISTRACTOR, Record, Records

MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""The folder of each split, in Market-1501 and all that imitate it."""

_REST = r"_c(?P<camera>[1-6])s(?P<sequence>[1-6])_(?P<frame>\d{6})_(?P<box>\d{2})\.(?i:jpg)"
_TEXT = "_cCsS_FFFFFF_BB.jpg (camera, sequence 1 to 6)"
PERSON = Grammar(rf"(?P<pid>(?!0000)\d{{4}}){_REST}", f"PPPP{_TEXT}")
"""Names in training and query: a person's number is never 0."""
ANY_BOX = Grammar(rf"(?P<pid>-1|\d{{4}}){_REST}", f"PPPP{_TEXT}; pid -1 is junk")
"""Names in the gallery and among the hand-drawn boxes."""
DISTRACTOR_BOX = Grammar(
    r"(?P<pid>-1|0000)_c(?P<camera>[1-6])(?:s(?P<sequence>\d+))?_.+\.(?i:jpg)",
    "0000_cC[sS]_anything.jpg",
)
"""Names of the 500,000 further distractors."""


def read_market1501(copy: Copy) -> Records:
    """Read Market-1501.

    Junk boxes (pid -1) are left out: they count for nobody. Distractors (pid 0) stay in the gallery
    as wrong answers to every query.
    """
    home = copy.home(
        MARKET_FOLDERS.values(), ("Market-1501-v15.09.15", "Market-1501", "market1501", "Market")
    )
    train = _read(copy.folder(home / "bounding_box_train"), PERSON)
    query = _read(copy.folder(home / "query"), PERSON)
    gallery = _read(copy.folder(home / "bounding_box_test"), ANY_BOX)
    if copy.variant == "500k":
        gallery += _read(copy.folder(home / "images"), DISTRACTOR_BOX)
    if copy.variant != "multi-query":
        return Records(train, query, gallery)
    asked = {(record.pid, record.camid) for record in query}
    drawn = [
        Record(r.path, r.pid, r.camid, extra=r.extra, split="multi-query")
        for r in _read(copy.folder(home / "gt_bbox"), ANY_BOX)
        if (r.pid, r.camid) in asked
    ]
    lonely = len(asked - {(record.pid, record.camid) for record in drawn})
    notices = (f"{lonely} queries have no hand-drawn box in gt_bbox",) if lonely else ()
    return Records(train, [*query, *drawn], gallery, ("market1501/multi-query",), notices)


def read_market_folders(
    copy: Copy, home: Path, grammar: Grammar, record: Callable[[Path, re.Match[str]], Record]
) -> Records:
    """Read the three folders of Market-1501 with names of another grammar."""

    def read(split: str) -> list[Record]:
        folder = copy.folder(home / MARKET_FOLDERS[split])
        return [record(*found) for found in match_names(folder, grammar)]

    return Records.by_split(read)


def _read(folder: Path, grammar: Grammar) -> list[Record]:
    return [
        _record(path, match) for path, match in match_names(folder, grammar) if match["pid"] != "-1"
    ]


def _record(path: Path, match: re.Match[str]) -> Record:
    labels = match.groupdict()
    extra = {k: int(labels[k]) for k in ("sequence", "frame", "box") if labels.get(k)}
    return Record(path, int(match["pid"]) or DISTRACTOR, int(match["camera"]) - 1, extra=extra)
