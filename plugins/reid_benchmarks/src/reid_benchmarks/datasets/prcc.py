"""PRCC, people in two outfits before three cameras (Yang et al., TPAMI 2019)."""

from __future__ import annotations

from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, match_within_people
from reid_benchmarks.datasets.records import Record, Records

TRAIN = Grammar(r"(?P<camera>[ABC])_cropped_rgb\d+\.(?i:jpg)", "{A,B,C}_cropped_rgbNNN.jpg")
TEST = Grammar(r"cropped_rgb\d+\.(?i:jpg)", "cropped_rgbNNN.jpg")

CAMERAS = "ABC"
"""A and B are two rooms and one outfit, C is another day and the other outfit."""


def read_prcc(copy: Copy) -> Records:
    """Read the colour images of PRCC: cameras B and C are the queries, camera A is the gallery.

    ``val`` holds further images of the training people and is left out, and so are the sketches.
    """
    home = copy.home(("rgb",), ("prcc", "PRCC")) / "rgb"
    train = [
        _record(path, pid, match["camera"])
        for path, pid, match in match_within_people(copy.folder(home / "train"), TRAIN)
    ]
    test = copy.folder(home / "test")
    images = {
        camera: [
            _record(path, pid, camera)
            for path, pid, _ in match_within_people(copy.folder(test / camera), TEST)
        ]
        for camera in CAMERAS
    }
    for camera, found in images.items():
        if not found:
            raise copy.wrong(f"{test / camera} has no images")
    return Records(train, [*images["B"], *images["C"]], images["A"])


def _record(path: Path, pid: int, camera: str) -> Record:
    outfit = "C" if camera == "C" else "AB"
    return Record(path, pid, CAMERAS.index(camera), outfit, {"camera": camera})
