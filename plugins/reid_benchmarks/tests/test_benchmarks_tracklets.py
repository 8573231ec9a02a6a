"""MARS, iLIDS-VID and CCVID: their tracks, lists and protocols, on small twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_twins import TWINS, ccvid, ilids_vid, load, mars
from scipy.io import savemat

from reid_benchmarks.protocols import PROTOCOLS
from reid_core.config import EvaluationSection
from reid_core.contract.samples import DataSet, Sample
from reid_core.errors import DataError
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.frames import Side
from reid_retrieval.labels import Labels
from reid_retrieval.searching import Search

BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS}


def shown(samples: tuple[Sample, ...]) -> list[tuple[int, int, list[str]]]:
    return [(s.pid, s.camid, [path.name for path in s.frames]) for s in samples]


def kept(dataset: DataSet, protocol: str) -> list[list[int]]:
    """Return the rows of the gallery that take part for every query."""
    query, gallery = (Labels.of_samples(side) for side in (dataset.query, dataset.gallery))
    search = Search(BY_NAME[protocol], query, gallery)
    rows = []
    for number in range(len(search.query_rows)):
        own, junk = search.own(number)
        rows.append(search.gallery_rows[own[~junk]].tolist())
    return rows


def test_mars_reads_tracks_queries_and_distractors(tmp_path: Path) -> None:
    mars(tmp_path)
    dataset = load("mars", tmp_path)
    assert dataset.protocols == ("mars", "mars/with-queries")
    assert shown(dataset.train.samples) == [
        (1, 0, ["0007C1T0001F001.jpg", "0007C1T0001F002.jpg"]),
        (1, 1, [f"0007C2T0002F00{n}.jpg" for n in (1, 2, 3)]),
        (0, 5, ["0002C6T0003F001.jpg"]),
    ]
    assert [s.extra["person"] for s in dataset.train.samples] == [7, 7, 2]
    assert shown(dataset.query) == [(4, 0, ["0004C1T0001F001.jpg", "0004C1T0001F002.jpg"])]
    assert [(s.pid, s.camid, len(s.frames), s.extra["asked"]) for s in dataset.gallery] == [
        (4, 0, 2, 1),
        (4, 0, 1, 0),
        (4, 2, 3, 0),
        (-2, 1, 1, 0),
    ]
    assert all(path.is_file() for s in dataset.gallery for path in s.frames)
    # The query's own tracklet and the other one before its camera are junk.
    assert kept(dataset, "mars") == kept(dataset, "mars/with-queries") == [[2]]
    # Frame by frame the same tracklets are found again, by the protocol's own pools.
    frames = [Side.of(side, {}, frames=True) for side in (dataset.query, dataset.gallery)]
    protocol = BY_NAME["mars/frames"]
    search = Search(protocol, *(side.labels for side in frames))
    assert protocol.pooling == "max"
    assert len(frames[1].samples) > len(dataset.gallery)
    assert frames[0].rows is not None
    assert frames[1].rows is not None
    assert frames[0].rows[search.query_rows].tolist() == list(range(len(dataset.query)))
    known = [row for row, sample in enumerate(dataset.gallery) if sample.pid != -1]
    assert frames[1].rows[search.gallery_rows].tolist() == known
    assert "gallery 4 images (official 11,310)" in str(dataset.notice)


def test_mars_queries_are_in_the_owners_gallery(tmp_path: Path) -> None:
    info = mars(tmp_path) / "info"
    savemat(info / "query_IDX.mat", {"query_IDX": np.array([[1.0, 3.0]])})
    dataset = load("mars", tmp_path)
    assert [s.camid for s in dataset.query] == [0, 2]
    # The first one's person is before another camera in the other query's tracklet alone.
    assert kept(dataset, "mars") == [[], [1]]
    assert kept(dataset, "mars/with-queries") == [[2], [0, 1]]
    frames = [Side.of(side, {}, frames=True) for side in (dataset.query, dataset.gallery)]
    search = Search(BY_NAME["mars/frames"], *(side.labels for side in frames))
    own = [search.own(row) for row in range(2)]
    assert [rows[~junk].tolist() for rows, junk in own] == [[2], [0, 1]]


def test_ilids_vid_has_ten_splits_of_people(tmp_path: Path) -> None:
    ilids_vid(tmp_path)
    first = load("ilids-vid", tmp_path)
    assert first.name == "ilids-vid:1"
    # Places 1 and 4 of the folders are tested, 2 and 3 are trained on.
    assert [(s.pid, s.camid) for s in first.query] == [(1, 0), (9, 0)]
    assert [(s.pid, s.camid) for s in first.gallery] == [(1, 1), (9, 1)]
    assert [s.extra["person"] for s in first.train.samples] == [2, 5, 2, 5]
    assert [s.camid for s in first.train.samples] == [0, 0, 1, 1]
    names = [path.name for path in first.gallery[0].frames]
    assert names == [f"cam2_person001_{frame}.png" for frame in (9, 10, 11, 12)]
    assert kept(first, "ilids-vid") == [[0], [1]]
    assert [s.pid for s in load("ilids-vid", tmp_path, size="2").query] == [2, 5]
    with pytest.raises(DataError, match="row 3 does not list the 4 people"):
        load("ilids-vid", tmp_path, size="3")


def test_ccvid_reads_outfits_and_cameras_of_sessions(tmp_path: Path) -> None:
    ccvid(tmp_path)
    dataset = load("ccvid", tmp_path)
    assert dataset.protocols == ("ccvid/general", "ccvid/cc")
    assert shown(dataset.train.samples) == [
        (0, 0, ["00306.jpg", "00310.jpg"]),
        (0, 2, ["00306.jpg", "00310.jpg"]),
    ]
    assert [s.clothes for s in dataset.train.samples] == [0, 1]
    assert [s.camid for s in dataset.gallery] == [0, 12, 11, 1]
    # The query's camera is junk, but that of session 3 is another one; its clothes are junk in cc.
    assert kept(dataset, "ccvid/general") == [[1, 2]]
    assert kept(dataset, "ccvid/cc") == [[2]]


@pytest.mark.parametrize("name", ["mars", "ilids-vid", "ccvid"])
def test_tracklets_can_be_evaluated(name: str, tmp_path: Path) -> None:
    TWINS[name](tmp_path)
    dataset = load(name, tmp_path)
    protocols = tuple(BY_NAME[protocol] for protocol in dataset.protocols)
    Evaluator(dataset, protocols, EvaluationSection(), torch.device("cpu")).check()
    assert dataset.train.tracklets


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("mars", "bbox_test/0004/0004C1T0001F002.jpg", "1 of 9 listed images are missing"),
        ("mars", "info/query_IDX.mat", "no such file; the copy is incomplete"),
        ("ccvid", "session2/002_01", "no such folder, though it is listed"),
        ("ilids-vid", "i-LIDS-VID/sequences/cam2/person009", "only one camera has person009"),
    ],
)
def test_missing_parts_are_named(name: str, file: str, message: str, tmp_path: Path) -> None:
    path = TWINS[name](tmp_path) / file
    for inner in [*path.glob("*"), *([path] if path.is_file() else [])]:
        inner.unlink()
    if path.is_dir():
        path.rmdir()
    with pytest.raises(DataError, match=message):
        load(name, tmp_path)


def test_lists_that_contradict_the_names_are_refused(tmp_path: Path) -> None:
    info = mars(tmp_path) / "info"
    savemat(info / "query_IDX.mat", {"query_IDX": np.array([[6.0]])})
    with pytest.raises(DataError, match="queries are tracks 1 to 5"):
        load("mars", tmp_path)
    rows = np.array([[1, 2, 7, 1], [3, 5, 7, 1], [6, 6, 2, 6]])
    savemat(info / "tracks_train_info.mat", {"track_train_info": rows})
    savemat(info / "query_IDX.mat", {"query_IDX": np.array([[1.0]])})
    with pytest.raises(DataError, match="images 3 to 5, of person 7 before camera 1, is not what"):
        load("mars", tmp_path)
    savemat(info / "tracks_train_info.mat", {"track_train_info": rows[:, :3]})
    with pytest.raises(DataError, match="is 3 x 3 of int64, not whole numbers in rows of 4"):
        load("mars", tmp_path)
    (info / "tracks_train_info.mat").write_bytes(b"<html>")
    with pytest.raises(DataError, match="no matrix 'track_train_info'"):
        load("mars", tmp_path)
