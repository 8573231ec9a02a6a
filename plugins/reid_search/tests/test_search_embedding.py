"""What is embedded: which pictures are meant, what of them, and that it does not matter by whom."""

from __future__ import annotations

import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reid_core import DataError
from reid_search.embedding import worker as working
from reid_search.embedding.inputs import Inputs
from reid_search.embedding.on_ray import embed_on_ray
from reid_search.embedding.tables import Table
from reid_search.embedding.worker import Worker, in_shards
from reid_search.gallery import filling
from reid_search.gallery.filling import fill, over_ranks
from reid_search.gallery.gallery import Gallery
from reid_search.models import OpenModel


def names(inputs: Inputs) -> list[str]:
    return [Path(item["path"]).name for item in inputs]


def test_folders_patterns_and_files_are_pictures_in_order(search_photos: Path, monkeypatch):
    assert names(Inputs([search_photos])) == [f"{n}.png" for n in range(6)]
    assert Inputs([search_photos]).check() == 6
    pattern = Inputs([f"{search_photos}/[13].png", search_photos / "0.png"])
    assert names(pattern) == ["1.png", "3.png", "0.png"]
    assert names(Inputs([f"{search_photos}/**/5.png"])) == ["5.png"]
    monkeypatch.chdir(search_photos)
    assert next(iter(Inputs(["later"])))["path"] == str(search_photos / "later" / "4.png")


def test_a_folder_that_cannot_be_listed_is_named(
    search_photos: Path, search_model: OpenModel, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: Any) -> Any:
        if Path(path).name == "later":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    scandir = os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        items = list(Inputs([search_photos]))
    (found,) = Worker(search_model.embedder, "cpu").embed([items])
    assert len(found.items) == 4
    assert found.unread == [f"{search_photos / 'later'}: cannot be read (Is a directory)"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gone", "gone: no such file or folder"),
        ("*.gone", r"\*\.gone: no file fits this pattern"),
        ("empty", r"empty: there are no pictures \(\.bmp, .*\.webp\)"),
    ],
)
def test_where_there_are_no_pictures_one_line_says_so(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(DataError, match=reason):
        Inputs([text]).check()


def test_a_csv_has_boxes_and_further_columns(tmp_path: Path):
    table = tmp_path / "crops.csv"
    table.write_text(
        "path,left,top,right,bottom,pid,score,note\n"
        "a.png,1,2,3,4.5,7,0.5,\n"
        "/b/c.png,0,0,10,20,8,1,'x, y'\n".replace("'", '"')
    )
    assert list(Table(table)) == [
        {"path": str(tmp_path / "a.png"), "box": [1, 2, 3, 4.5], "pid": 7, "score": 0.5},
        {"path": "/b/c.png", "box": [0, 0, 10, 20], "pid": 8, "score": 1.0, "note": "x, y"},
    ]
    table.write_text('path,box,pid\na.png,"[1, 2, 3, 4]",7.0\nb.png,, 12\n')
    assert list(Table(table)) == [
        {"path": str(tmp_path / "a.png"), "box": [1, 2, 3, 4], "pid": 7.0},
        {"path": str(tmp_path / "b.png"), "pid": 12.0},
    ]


def test_what_is_no_plain_number_is_kept_as_it_is_written(tmp_path: Path):
    table = tmp_path / "crops.csv"
    cells = ["0007", "1_0", "nan", "inf", "1e999", "\u0663", "0x1", "1."]
    lines = [["path", *map(str, range(8))], ["a.png", *cells], ["b.png", *"01234567"]]
    table.write_text("".join(",".join(line) + "\n" for line in lines))
    found = [list(item.values())[1:] for item in Table(table)]
    assert found == [cells, list("01234567")]
    table.write_text("path,pid,score,rate\na.png,-3,-0.25,1e5\nb.png,0,4,+2.5E-3\n")
    assert [list(item.values())[1:] for item in Table(table)] == [[-3, -0.25, 1e5], [0, 4, 2.5e-3]]


def test_json_lines_keep_their_values(tmp_path: Path):
    table = tmp_path / "crops.jsonl"
    rows = [{"path": "a.png", "box": [1, 2, 3, 4], "pid": "007", "tags": ["x"]}, {"path": "b.png"}]
    table.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert list(Table(table)) == [
        {"path": str(tmp_path / "a.png"), "box": [1, 2, 3, 4], "pid": "007", "tags": ["x"]},
        {"path": str(tmp_path / "b.png")},
    ]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("t.csv", "file\na.png\n", r"line 2: there is no 'path' \(columns: file\)"),
        ("t.csv", "path,box\na.png,1 2 3\n", r"line 2: box \['1', '2', '3'\] is not left, top"),
        ("t.csv", "path,box\na.png,1 2 3 x\n", "line 2: 'x' is no coordinate of a box"),
        ("t.csv", "path,left,top\na.png,1,2\n", "of the box .* only left, top is there"),
        ("t.csv", "path,pid\na.png\n", r"line 2: has not as many cells as the first line"),
        ("t.csv", "path,frame\na.mp4,-1\n", "line 2: frame -1 is no number from 0"),
        ("t.csv", "path\na.mp4\n", "line 2: a video needs the column 'frame'"),
        ("t.csv", "path,box\n0.png,50 0 60 9\n", r"line 2: the box .* lies outside the image"),
        ("t.jsonl", '{"path": "0.png", "box": [3, 3, 3, 4]}\n', "line 1: the box .* is empty"),
        ("t.jsonl", '{"path": 3}\n', "line 1: 3 is no path"),
        ("t.jsonl", '{"box": [3, 3, 3, 4]}\n', "line 1: there is no 'path'"),
        ("t.csv", "path\n\udcff.png\n", "t.csv: is not encoded as UTF-8"),
        ("t.jsonl", '{"path": "\udcff.png"}\n', "t.jsonl: is not encoded as UTF-8"),
        ("t.jsonl", '{"path": "0.png", "score": NaN}\n', "line 1: no JSON .*NaN"),
        ("t.jsonl", "[1]\n", "line 1: no JSON object"),
        ("t.jsonl", "{\n", "line 1: no JSON"),
        ("t.csv", "", "there are no pictures"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, search_photos: Path, name: str, text: str, reason: str
):
    shutil.copy(search_photos / "0.png", tmp_path / "0.png")
    (tmp_path / name).write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(DataError, match=reason) as refused:
        Inputs([tmp_path / name]).check()
    assert name in str(refused.value)


def test_a_worker_embeds_what_embed_embeds(search_model: OpenModel, search_photos: Path):
    paths = sorted(search_photos.rglob("*.png"))
    items: list[dict[str, Any]] = [{"path": str(path)} for path in paths]
    items[2:2] = [{"path": str(paths[2]), "box": [5, 5, 20, 40]}, {"path": "/gone.png"}]
    items.append({"path": str(paths[0]), "box": [99, 0, 120, 9]})
    done: list[int] = []
    (found,) = Worker(search_model.embedder, "cpu").embed([items], done.append)
    whole = search_model.embedder.embed(paths).numpy()
    crop = search_model.embedder.embed(paths[2], [[5, 5, 20, 40]]).numpy()
    expected = np.concatenate([whole[:2], crop, whole[2:]])
    assert np.allclose(found.features, expected, atol=1e-6)
    assert found.items == [items[0], items[1], items[2], *items[4:-1]]
    assert found.unread == [
        "/gone.png: no such file",
        f"{paths[0]}: the box (99, 0, 120, 9) lies outside the image, which is 40 x 70",
    ]
    assert (found.count, sum(done)) == (9, 9)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let shards have two items and batches one, so that six pictures are several."""
    monkeypatch.setattr(working, "BATCH", 1)
    monkeypatch.setattr(filling, "in_shards", lambda items: in_shards(items, 2))


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def made(folder: Path, model: OpenModel, photos: Path) -> Gallery:
    gallery = Gallery.create(folder, model)
    fill(gallery, Inputs([photos]), Worker(model.embedder, "cpu").embed)
    return gallery


@pytest.mark.usefixtures("short")
def test_an_interrupted_filling_goes_on(tmp_path, search_model, search_photos, monkeypatch):
    expected = content(made(tmp_path / "whole", search_model, search_photos).folder)
    gallery = Gallery.create(tmp_path / "part", search_model)
    worker = Worker(search_model.embedder, "cpu")
    appended = gallery.append

    def stop_later(*args: Any) -> None:
        if len(gallery) == 4:
            raise KeyboardInterrupt
        appended(*args)

    monkeypatch.setattr(gallery, "append", stop_later)
    with pytest.raises(KeyboardInterrupt):
        fill(gallery, Inputs([search_photos]), worker.embed)
    again = Gallery.open(tmp_path / "part")
    assert len(again) == 4
    done = fill(again, Inputs([search_photos]), worker.embed)
    assert (done.added, done.there, done.unread) == (2, 4, 0)
    assert content(again.folder) == expected


@pytest.mark.usefixtures("short")
def test_several_ranks_write_what_one_writes(tmp_path, search_model, search_photos, monkeypatch):
    expected = content(made(tmp_path / "one", search_model, search_photos).folder)
    ranks = 4  # of three shards: the last rank has nothing to do
    here, meeting = threading.local(), threading.Barrier(ranks)
    parts: list[Any] = [None] * ranks

    def gather(value: Any) -> list[Any]:
        parts[here.rank] = value
        meeting.wait()
        found = list(parts)
        meeting.wait()
        return found

    monkeypatch.setattr(filling, "world", lambda: (here.rank, ranks))
    monkeypatch.setattr(filling, "barrier", meeting.wait)
    monkeypatch.setattr(filling, "gather_objects", gather)
    Gallery.create(tmp_path / "four", search_model)
    counts = []

    def work(rank: int) -> None:
        here.rank = rank
        gallery = Gallery.open(tmp_path / "four")
        worker = Worker(search_model.embedder, "cpu")
        shared = partial(over_ranks, worker=worker)
        counts.append(fill(gallery, Inputs([search_photos]), shared).added)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [6] * ranks
    assert content(tmp_path / "four") == expected


def test_a_picture_is_embedded_once(tmp_path: Path, search_model: OpenModel, search_photos: Path):
    gallery = made(tmp_path / "g", search_model, search_photos)
    table = tmp_path / "more.jsonl"
    rows = [{"path": str(search_photos / "0.png"), "box": b} for b in ([0, 0, 9, 9], [0, 0, 9, 9])]
    table.write_text("\n".join(map(json.dumps, rows)))
    worker = Worker(search_model.embedder, "cpu")
    done = fill(gallery, Inputs([search_photos / "later", table]), worker.embed)
    assert (done.added, done.there) == (1, 3)
    assert len(Gallery.open(gallery.folder)) == 7


def test_frames_of_a_video_are_pictures(tmp_path: Path, search_model: OpenModel):
    av = pytest.importorskip("av")
    path = tmp_path / "walk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(5):
            pixels = np.full((64, 64, 3), 50 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    inputs = Inputs([tmp_path], every=2)
    assert [item["frame"] for item in inputs] == [0, 2, 4]
    table = tmp_path / "crops.jsonl"
    rows = [{"path": "walk.mp4", "frame": f, "box": [0, 0, 9, 9]} for f in (3, 1, 1, 7)]
    table.write_text("\n".join(map(json.dumps, rows)))
    worker = Worker(search_model.embedder, "cpu")
    whole, parts = worker.embed([list(inputs), list(Inputs([table]))])
    greys = [Image.fromarray(np.full((64, 32, 3), 50 * n, np.uint8)) for n in (0, 2, 4, 3, 1, 1)]
    expected = search_model.embedder.embed(greys).numpy()
    found = np.concatenate([whole.features, parts.features])
    assert np.abs(found - expected).max() < 0.02
    assert parts.unread == [f"{path}: has no frame 7, only 5"]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (found,) = worker.embed([list(Inputs([tmp_path / "broken.mp4"]))])
    assert len(found.unread) == 1
    assert "broken.mp4: cannot be decoded" in found.unread[0]


@pytest.mark.usefixtures("short")
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_writes_what_one_process_writes(tmp_path, search_model, search_photos):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    inputs = Inputs([search_photos, tmp_path / "broken.png"])
    one = Gallery.create(tmp_path / "one", search_model)
    fill(one, inputs, Worker(search_model.embedder, "cpu").embed)
    gallery = Gallery.create(tmp_path / "ray", search_model)
    named: list[str] = []
    done: list[int] = []
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        on_ray = partial(
            embed_on_ray, embedder=search_model.embedder, device="cpu", workers=2,
            advance=done.append,
        )  # fmt: skip
        filled = fill(gallery, inputs, on_ray, say=named.append)
    finally:
        ray.shutdown()
    assert (filled.added, filled.unread, sum(done)) == (6, 1, 7)
    assert len(named) == 1
    assert "broken.png" in named[0]
    assert content(gallery.folder) == content(one.folder)
