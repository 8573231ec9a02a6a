"""Celeb-reID and Celeb-reID-light (Huang et al., IJCNN 2019)."""

from __future__ import annotations

from reid_benchmarks.datasets.benchmark import SPLITS, Copy
from reid_benchmarks.datasets.files import Grammar, match_names
from reid_benchmarks.datasets.records import NO_CAMERA, Record, Records

NAME = Grammar(r"(?P<pid>\d+)_(?P<number>\d+)_\d+\.(?i:jpg)", "PID_NUMBER_ANY.jpg")


def read_celeb(copy: Copy) -> Records:
    """Read Celeb-reID or its light version; the second token is no camera but a running number."""
    own = "Celeb-reID-light" if copy.name.endswith("light") else "Celeb-reID"
    home = copy.home(SPLITS, (own,))

    def read(split: str) -> list[Record]:
        return [
            Record(path, int(match["pid"]), NO_CAMERA, extra={"number": int(match["number"])})
            for path, match in match_names(copy.folder(home / split), NAME)
        ]

    return Records.by_split(read)
