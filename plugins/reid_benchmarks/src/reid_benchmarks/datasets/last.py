"""LaST, people in films (Shu et al., TCSVT 2021)."""

from __future__ import annotations

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, match_names, match_within_people
from reid_benchmarks.datasets.records import NO_CAMERA, Record, Records

TRAIN = Grammar(r"(?P<pid>\d+)_(?:.*_)?(?P<outfit>[^_]+)\.(?i:jpg)", "PID_..._OUTFIT.jpg")
TEST = Grammar(r"(?P<pid>\d+)_.+\.(?i:jpg)", "PID_....jpg")


def read_last(copy: Copy) -> Records:
    """Read LaST: the variant says whether ``test`` or ``val`` is searched.

    Outfits are labelled in training only. There are no cameras.
    """
    home = copy.home(("train", "val", "test"), ("last", "LaST"))
    side = copy.folder(home / copy.variant)
    train = [
        Record(path, pid, NO_CAMERA, match["outfit"])
        for path, pid, match in match_within_people(copy.folder(home / "train"), TRAIN, "pid")
    ]
    query = [
        Record(path, int(match["pid"]), NO_CAMERA)
        for path, match in match_names(copy.folder(side / "query"), TEST)
    ]
    gallery = [
        Record(path, pid, NO_CAMERA)
        for path, pid, _ in match_within_people(copy.folder(side / "gallery"), TEST, "pid")
    ]
    return Records(train, query, gallery)
