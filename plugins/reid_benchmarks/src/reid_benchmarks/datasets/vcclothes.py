"""VC-Clothes, rendered people (Wan et al., CVPR Workshops 2020)."""

from __future__ import annotations

import re
from pathlib import Path

from reid_benchmarks.datasets.benchmark import SPLITS, Copy
from reid_benchmarks.datasets.files import Grammar, match_names
from reid_benchmarks.datasets.records import Record, Records

NAME = Grammar(
    r"(?P<pid>\d{4})-(?P<camera>0[1-4])-(?P<outfit>\d{2})-\d{2}\.(?i:jpg)",
    "PPPP-CC-OO-NN.jpg (camera 01 to 04)",
)


def read_vcclothes(copy: Copy) -> Records:
    """Read VC-Clothes."""
    home = copy.home(SPLITS, ("VC-Clothes", "VC_Clothes", "vcclothes"))

    def read(split: str) -> list[Record]:
        return [_record(*found) for found in match_names(copy.folder(home / split), NAME)]

    return Records.by_split(read)


def _record(path: Path, match: re.Match[str]) -> Record:
    camera, outfit = int(match["camera"]), int(match["outfit"])
    extra = {"camera": camera, "outfit": outfit}
    return Record(path, int(match["pid"]), camera - 1, outfit, extra)
