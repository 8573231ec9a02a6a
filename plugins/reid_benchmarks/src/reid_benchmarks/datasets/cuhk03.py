"""CUHK03: the classic protocol's 20 splits (Li et al., CVPR 2014) and the new protocol."""

from __future__ import annotations

import re
from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.cuhk03_release import (
    TESTSETS,
    extract_release,
    read_new_protocol,
    read_release_testsets,
    read_testsets,
)
from reid_benchmarks.datasets.files import Grammar, match_names, some
from reid_benchmarks.datasets.market import read_market_folders
from reid_benchmarks.datasets.records import Record, Records
from reid_core.errors import DataError

NAME = Grammar(
    r"(?P<pair>[1-5])_(?P<person>\d{3})_(?:(?P<first>1)_0[1-5]|2_(?:0[6-9]|10))\.(?i:png)",
    "PAIR_PERSON_VIEW_COLUMN.png (columns 01 to 05 are view 1, 06 to 10 are view 2)",
)
NEW_NAME = Grammar(
    r"(?P<pid>\d{4})_c(?P<view>[12])_\d+\.(?i:png|jpg)", "PPPP_cV_N.png (view 1 or 2)"
)

SPLITS = tuple(str(number) for number in range(1, 21))
"""Numbers of the classic splits, as they follow the colon."""

_RELEASE = "cuhk-03.mat"
_INNER = ("cuhk03", "CUHK03", "cuhk03_release", "cuhk03/cuhk03_release")


def read_cuhk03(copy: Copy) -> Records:
    """Read CUHK03: ``labeled`` or ``detected`` boxes, by the new or the classic protocol.

    Images come from folders, otherwise out of ``cuhk-03.mat`` into the cache.
    """
    classic, _, kind = copy.variant.rpartition("-")
    if copy.size and not classic:
        raise copy.wrong(
            f"the new protocol has one split only: leave out ':{copy.size}', or say "
            f"{copy.name}/classic-{kind}:{copy.size}"
        )
    if classic:
        return _classic(copy, kind, int(copy.size))
    for name in ("", "cuhk03-np", "CUHK03-NP"):
        home = copy.root / name / kind
        if (home / "bounding_box_train").is_dir():
            return read_market_folders(copy, home, NEW_NAME, _new_record)
    return _new(copy, kind)


def _new(copy: Copy, kind: str) -> Records:
    """Return the 767 and 700 people of the new protocol."""
    name = f"cuhk03_new_protocol_config_{kind}.mat"
    path = _find(copy, name)
    if path is None:
        raise copy.wrong(
            f"{name} is not in {copy.root}; it tells the new protocol's people. The classic "
            f"protocol, {copy.name}/classic-{kind}, does without"
        )
    config = read_new_protocol(path)
    images = _images(copy, kind)
    missing = [name for name in config.names if name not in images]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(config.names)} images are missing: {some(missing)}; "
            f"the copy is incomplete, or its images are not the {kind} ones"
        )

    def record(place: int) -> Record:
        name = config.names[place]
        made = _record(*images[name], config.pids[place])
        if made.extra["view"] != config.views[place]:
            raise DataError(f"{path}: camId of {name} is {config.views[place]}; get the file again")
        return made

    return Records(
        sorted((record(place) for place in config.train), key=_by_name),
        sorted((record(place) for place in config.query), key=_by_name),
        sorted((record(place) for place in config.gallery), key=_by_name),
    )


def _classic(copy: Copy, kind: str, split: int) -> Records:
    """Return one of the 20 splits: every test image is a query and stands in the gallery."""
    images = _images(copy, kind)
    testsets = _testsets(copy, images)
    if len(testsets) < split:
        raise copy.wrong(f"there are {len(testsets)} test sets, not {split}")
    chosen = set(testsets[split - 1])
    train: list[Record] = []
    test: list[Record] = []
    for _, (path, match) in sorted(images.items()):
        person = (int(match["pair"]), int(match["person"]))
        # Unique over the pairs; no pair has 1000 people.
        made = _record(path, match, 1000 * person[0] + person[1], partition=split)
        (test if person in chosen else train).append(made)
    absent = len(chosen) - len({record.pid for record in test})
    notices = (f"{absent} test people of split {split} have no image",) if absent else ()
    return Records(train, test, test, notices=notices)


def _images(copy: Copy, kind: str) -> dict[str, tuple[Path, re.Match[str]]]:
    """Return all images of a kind by name."""
    folder = _find(copy, f"images_{kind}")
    if folder is None:
        release = _find(copy, _RELEASE)
        if release is None:
            raise copy.wrong(f"{copy.root} holds neither images_{kind} nor {_RELEASE}")
        folder = extract_release(release, kind, copy.cache) / f"images_{kind}"
    return {path.name: (path, match) for path, match in match_names(folder, NAME)}


def _testsets(
    copy: Copy, images: dict[str, tuple[Path, re.Match[str]]]
) -> list[list[tuple[int, int]]]:
    """Return the 20 lists of test people, from the place where the images come from."""
    folders = {path.parent.parent for path, _ in images.values()}
    written = [folder / TESTSETS for folder in folders if (folder / TESTSETS).is_file()]
    if written:
        return read_testsets(written[0])
    release = _find(copy, _RELEASE)
    if release is None:
        raise copy.wrong(
            f"the 20 splits are missing: {TESTSETS} is not beside the images, and {_RELEASE} is "
            f"not in {copy.root}"
        )
    return read_release_testsets(release)


def _find(copy: Copy, name: str) -> Path | None:
    places = [copy.root, *(copy.root / inner for inner in _INNER)]
    return next((place / name for place in places if (place / name).exists()), None)


def _record(path: Path, match: re.Match[str], pid: int, partition: int | None = None) -> Record:
    pair, view = int(match["pair"]), 1 if match["first"] else 2
    extra = {"view": view, "pair": pair}
    if partition is not None:
        extra["partition"] = partition
    return Record(path, pid, 2 * (pair - 1) + view - 1, extra=extra)


def _new_record(path: Path, match: re.Match[str]) -> Record:
    view = int(match["view"])
    return Record(path, int(match["pid"]), view - 1, extra={"view": view})


def _by_name(record: Record) -> str:
    return record.path.name
