"""DeepChange (Xu and Zhu, ICCV 2023)."""

from __future__ import annotations

from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, match_names, some
from reid_benchmarks.datasets.lists import read_list, require_files
from reid_benchmarks.datasets.records import Record, Records
from reid_core.errors import DataError

_NAME = (
    r"P(?P<pid>\d+)_C(?P<camera>1[0-7]|0?[1-9])_(?P<day>[^_,]+)_(?P<hour>[^_,]+)_[^_,]+_[^_,]+"
    r"\.(?i:jpg)"
)
NAME = Grammar(_NAME, "PPID_CCAM_DAY_HOUR_ANY_ANY.jpg (camera 1 to 17)")
LINE = Grammar(rf"(?P<file>{_NAME}),\s*(?P<tracklet>\w+)", "FILE,TRACKLET")
"""A line of the lists that tell the tracklet of every image."""


def read_deepchange(copy: Copy) -> Records:
    """Read DeepChange: the variant says whether ``test`` or ``val`` is searched.

    There are no outfit labels: as everywhere, two days count as two outfits.
    """
    home = copy.home(("train-set", "test-set-query"), ("DeepChangeDataset", "DeepChange"))
    return Records(
        _records(copy, home, "train-set"),
        _records(copy, home, f"{copy.variant}-set-query"),
        _records(copy, home, f"{copy.variant}-set-gallery"),
    )


def _records(copy: Copy, home: Path, name: str) -> list[Record]:
    images = match_names(copy.folder(home / name), NAME)
    path = home / f"{name}-bbox.txt"
    tracklets = {match["file"]: match["tracklet"] for match in read_list(path, LINE)}
    require_files(path, tracklets, (image.name for image, _ in images))
    unlisted = [image.name for image, _ in images if image.name not in tracklets]
    if unlisted:
        raise DataError(
            f"{path}: {len(unlisted)} images of {name} are not listed, so their tracklets are "
            f"unknown: {some(unlisted)}; extract the list again"
        )
    return [
        Record(
            image,
            int(match["pid"]),
            int(match["camera"]) - 1,
            match["day"],
            {
                "tracklet": tracklets[image.name],
                "day": match["day"],
                "hour": match["hour"],
            },
        )
        for image, match in images
    ]
