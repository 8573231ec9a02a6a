"""A gallery is what was appended, whatever happened to those who wrote to it."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from reid_core import CheckpointError, ConfigError, DataError, Embedder, NoEncoder
from reid_search.gallery import vectors
from reid_search.gallery.gallery import Gallery, model_of
from reid_search.gallery.items import FORMATS, item_table
from reid_search.models import OpenModel, write_calibration


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


def named(count: int, first: int = 0) -> list[dict[str, object]]:
    return [{"path": f"/p/{n}.jpg", "pid": n} for n in range(first, first + count)]


def test_vectors_grow_in_place_and_what_is_half_written_goes(tmp_path: Path):
    file = tmp_path / "features.npy"
    vectors.create(file, 3)
    assert vectors.read(file, 0, 3).shape == (0, 3)
    vectors.append(file, 0, rows(4))
    vectors.append(file, 4, rows(2, 1))
    expected = np.concatenate([rows(4), rows(2, 1)])
    assert np.array_equal(np.load(file), expected)
    with file.open("ab") as behind:
        behind.write(b"half a row")
    assert np.array_equal(np.load(file), expected)
    vectors.append(file, 5, rows(1, 2))
    assert np.array_equal(np.load(file), np.concatenate([expected[:5], rows(1, 2)]))
    with pytest.raises(DataError, match=r"float32 \(6, 3\), but the gallery says 7 rows of 3"):
        vectors.read(file, 7, 3)
    with pytest.raises(DataError, match=r"gone\.npy: cannot be read as vectors"):
        vectors.read(tmp_path / "gone.npy", 1, 3)
    file.write_text("x,y,z")
    with pytest.raises(DataError, match=r"vectors \(.*\)$") as caught:
        vectors.read(file, 1, 3)
    assert "unsafe" not in str(caught.value), "advice to run the code of a file"


@pytest.mark.parametrize("kind", FORMATS)
def test_items_are_a_table_that_grows(tmp_path: Path, kind: str):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    table = item_table(tmp_path, kind)
    mark = table.append(named(3), 0, 0)
    boxed = {"path": "ä.jpg", "box": [1.0, 2.0, 3.0, 4.5], "frame": 7}
    mark = table.append([boxed], 3, mark)
    assert list(table.read(4, mark)) == [*named(3), boxed]
    assert table.take([3, 1, 1], 4, mark) == {1: named(3)[1], 3: boxed}
    # Somebody was interrupted behind the second item: what comes next replaces the rest.
    again = item_table(tmp_path, kind)
    first = again.append(named(2), 0, 0)
    mark = again.append(named(1, 8), 2, first)
    assert list(item_table(tmp_path, kind).read(3, mark)) == [*named(2), *named(1, 8)]


def test_a_gallery_is_searched_exactly(search_gallery: Gallery, search_photos: Path):
    gallery = Gallery.open(search_gallery.folder)
    assert len(gallery) == 6
    features = gallery.features
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for number, found in enumerate(gallery.nearest(features, top=4)):
        expected = unit @ unit[number]
        order = np.argsort(-expected, kind="stable")[:4]
        assert [f.row for f in found] == list(order)
        assert np.allclose([f.similarity for f in found], expected[order], atol=1e-6)
    answers = gallery.search([search_photos / "2.png", search_photos / "later" / "5.png"], top=99)
    assert [len(found) for found in answers] == [6, 6]
    assert [found[0].item["path"] for found in answers] == [
        str(search_photos / "2.png"),
        str(search_photos / "later" / "5.png"),
    ]
    # One image alone may be multiplied otherwise than two together: the last digit is not theirs.
    threshold = answers[0][2].similarity - 1e-6
    (kept,) = gallery.search(search_photos / "2.png", threshold=threshold)
    assert [f.row for f in kept] == [f.row for f in answers[0][:3]]
    assert gallery.nearest(features[:0]) == []


def test_an_append_counts_when_it_is_whole(
    search_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_):
        raise KeyboardInterrupt

    before = list(search_gallery.items())
    with monkeypatch.context() as patch:
        patch.setattr(search_gallery, "_describe", stop)
        with pytest.raises(KeyboardInterrupt):
            search_gallery.append(rows(2), named(2))
    gallery = Gallery.open(search_gallery.folder)
    assert (len(gallery), list(gallery.items())) == (6, before)
    gallery.append(rows(2), named(2))
    gallery = Gallery.open(search_gallery.folder)
    assert list(gallery.items()) == [*before, *named(2)]
    assert np.array_equal(gallery.features[6:], rows(2))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_removed_is_in_no_file(tmp_path: Path, search_model: OpenModel, kind: str):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    gallery = Gallery.create(tmp_path / "g", search_model, items=kind)
    gallery.append(rows(5), named(5))
    assert gallery.remove(lambda item: item["pid"] in (1, 4)) == 2
    assert gallery.remove(lambda item: item["pid"] == 1) == 0
    gallery = Gallery.open(tmp_path / "g")
    assert np.array_equal(gallery.features, rows(5)[[0, 2, 3]])
    assert [item["pid"] for item in gallery.items()] == [0, 2, 3]
    assert gallery.take([1]) == {1: named(5)[2]}
    removed = rows(5)[1].tobytes()
    files = [path for path in gallery.folder.rglob("*") if path.is_file()]
    assert all(removed not in path.read_bytes() for path in files)
    gallery.remove(lambda item: True)
    assert len(gallery) == 0
    gallery.append(rows(1), named(1))
    assert list(Gallery.open(tmp_path / "g").items()) == named(1)


def test_shards_whose_columns_differ_in_kind_lose_rows(tmp_path: Path, search_model: OpenModel):
    pytest.importorskip("pyarrow")
    gallery = Gallery.create(tmp_path / "g", search_model, items="parquet")
    first = [{"path": "/a.jpg", "camera": 1, "seen": True}, {"path": "/b.jpg", "camera": 2}]
    second = [{"path": "/c.jpg", "camera": "yard"}, {"path": "/d.jpg", "camera": "2"}]
    gallery.append(rows(2), first)
    gallery.append(rows(2, 1), second)
    assert gallery.remove(lambda item: item["path"] == "/a.jpg") == 1
    assert list(Gallery.open(tmp_path / "g").items()) == [first[1], *second]
    assert gallery.remove(lambda item: item["path"] in ("/b.jpg", "/d.jpg")) == 2
    gallery.append(rows(1), first[:1])
    gallery = Gallery.open(tmp_path / "g")
    assert list(gallery.items()) == [second[0], first[0]]
    assert gallery.take([0, 1]) == {0: second[0], 1: first[0]}
    assert np.array_equal(gallery.features, np.stack([rows(2, 1)[0], rows(1)[0]]))


def test_what_a_table_cannot_hold_is_refused_in_one_line(tmp_path: Path, search_model: OpenModel):
    lines = Gallery.create(tmp_path / "lines", search_model)
    with pytest.raises(DataError, match=r"no JSON .*leave the value out"):
        lines.append(rows(1), [{"path": "/a.jpg", "score": float("nan")}])
    pytest.importorskip("pyarrow")
    shards = Gallery.create(tmp_path / "shards", search_model, items="parquet")
    strange: list[tuple[str, object]] = [("path", "\udce9.jpg"), ("pid", 2**70), ("tags", {})]
    for name, value in strange:
        with pytest.raises(DataError, match=r"cannot be Parquet \(.*keep the items as JSON lines"):
            shards.append(rows(1), [{"path": "/a.jpg", name: value}])
    shards.append(rows(1), named(1))
    assert list(Gallery.open(shards.folder).items()) == named(1)
    assert [path.name for path in (shards.folder / "items.parquet").iterdir()] == [
        "000000000.parquet"
    ]


def test_a_removal_that_was_interrupted_is_finished(
    search_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
):
    def stop():
        raise KeyboardInterrupt

    before = np.array(search_gallery.features)
    with monkeypatch.context() as patch:
        patch.setattr(search_gallery, "_swap", stop)
        with pytest.raises(KeyboardInterrupt):
            search_gallery.remove(lambda item: item["path"].endswith(("1.png", "5.png")))
    gallery = Gallery.open(search_gallery.folder)
    assert np.array_equal(gallery.features, before[[0, 2, 3, 4]])
    assert [Path(item["path"]).name for item in gallery.items()] == [
        "0.png", "2.png", "3.png", "4.png",
    ]  # fmt: skip
    assert not (gallery.folder / ".new").exists()


def test_a_removal_is_not_finished_by_two_at_once(
    search_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
):
    """Whoever opens a gallery while another process puts new files in place waits for it."""
    seen = []

    def look(self: Gallery) -> None:
        monkeypatch.setattr("reid_search.gallery.gallery.PATIENCE", 0.05)
        with pytest.raises(ConfigError, match="another process is writing to this gallery"):
            Gallery.open(self.folder)
        seen.append((self.folder / ".new").is_dir())
        swap(self)

    swap = Gallery._swap
    monkeypatch.setattr(Gallery, "_swap", look)
    search_gallery.remove(lambda item: item["path"].endswith("1.png"))
    assert seen == [True]
    assert len(Gallery.open(search_gallery.folder)) == 5


@pytest.mark.parametrize("kind", FORMATS)
def test_an_open_gallery_sees_what_others_wrote(tmp_path: Path, search_model: OpenModel, kind: str):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    Gallery.create(tmp_path / "g", search_model, items=kind).append(rows(5), named(5))
    served, other = Gallery.open(tmp_path / "g"), Gallery.open(tmp_path / "g")

    def first(vector: np.ndarray) -> tuple[int, object]:
        ((found,),) = served.nearest(vector[None], top=1)
        return found.row, found.item["path"]

    assert first(rows(5)[3]) == (3, "/p/3.jpg")
    other.remove(lambda item: item["pid"] == 0)
    assert first(rows(5)[3]) == (2, "/p/3.jpg")
    other.remove(lambda item: item["pid"] == 1)
    other.append(rows(2, 1), named(2, 7))
    assert first(rows(2, 1)[0]) == (3, "/p/7.jpg")
    # As many rows as at the last look, but others.
    other.remove(lambda item: item["pid"] == 2)
    other.append(rows(1, 2), [{"path": "/another/long/name.jpg"}])
    assert served.take([0, 4]) == {0: named(1, 3)[0], 4: {"path": "/another/long/name.jpg"}}
    other.remove(lambda item: item.get("pid") == 3)
    assert [item.get("pid") for item in served.items()] == [4, 7, 8, None]
    other.remove(lambda item: item.get("pid") == 4)
    assert np.array_equal(served.features, np.concatenate([rows(2, 1), rows(1, 2)]))
    with served.writing():
        assert first(rows(2, 1)[1]) == (1, "/p/8.jpg")


def test_an_open_gallery_is_seen_to_be_another(tmp_path: Path, search_model: OpenModel):
    """A folder that was deleted and filled anew may tell of itself what the old one told."""
    folder = tmp_path / "g"
    Gallery.create(folder, search_model).append(rows(2), named(2))
    served = Gallery.open(folder)
    assert served.nearest(rows(2)[:1], top=1)[0][0].item == named(2)[0]
    shutil.rmtree(folder)
    Gallery.create(folder, search_model).append(rows(2)[::-1], named(2, 5))
    assert served.nearest(rows(2)[:1], top=1)[0][0].item == named(2, 5)[1]
    shutil.rmtree(folder)
    other = Embedder.from_encoder(NoEncoder(), (32, 32))
    Gallery.create(folder, model_of(other)).append(rows(2), named(2))
    with pytest.raises(CheckpointError, match=r"g: now holds vectors of an embedder \(\w{12}\)"):
        served.nearest(rows(2))
    with pytest.raises(CheckpointError, match="open it anew"):
        served.append(rows(2), named(2))


def test_rows_that_move_while_they_are_read_are_named(
    search_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
):
    def remove_first(*args: object) -> object:
        Gallery.open(search_gallery.folder).remove(lambda item: item["path"].endswith("0.png"))
        return take(*args)

    take = Gallery.take
    monkeypatch.setattr(Gallery, "take", remove_first)
    with pytest.raises(DataError, match="rows were removed while it was read"):
        search_gallery.nearest(rows(1), top=6)


def test_two_processes_do_not_write_at_once(search_gallery: Gallery):
    other = Gallery.open(search_gallery.folder)
    with search_gallery.writing():
        search_gallery.append(rows(1), named(1))
        with pytest.raises(ConfigError, match="another process is writing to this gallery"):
            other.append(rows(1), named(1))
    other.append(rows(1), named(1, 9))
    assert [item["path"] for item in other.items()][6:] == ["/p/0.jpg", "/p/9.jpg"]


def test_another_embedder_is_refused_by_its_hash(
    search_gallery: Gallery, tmp_path: Path, search_model: OpenModel
):
    other = Embedder.from_encoder(NoEncoder(), (32, 32))
    other.save(tmp_path / "embedder.safetensors")
    with pytest.raises(CheckpointError, match=r"holds vectors of .* \(\w{12}\), which cannot be"):
        search_gallery.use(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be compared with those of an embedder"):
        search_gallery.require(model_of(other))
    assert search_gallery.use(search_model.weights).embedder.size == search_model.embedder.size


def test_an_embedder_that_is_gone_is_named(search_gallery: Gallery):
    file = search_gallery.folder / "gallery.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "weights": "/gone/embedder.safetensors", "model": "/gone"}))
    with pytest.raises(CheckpointError, match=r"/gone is missing.*say with --model"):
        Gallery.open(search_gallery.folder).search("a.jpg")


def test_the_threshold_is_the_embedders(tmp_path: Path, search_model: OpenModel):
    search_model.embedder.save(tmp_path / "embedder.safetensors")
    gallery = Gallery.create(tmp_path / "g", OpenModel("mine", tmp_path / "embedder.safetensors",
                                                       search_model.embedder))  # fmt: skip
    assert gallery.threshold is None
    write_calibration(tmp_path / "embedder.safetensors", {"threshold": 0.75})
    assert Gallery.open(tmp_path / "g").threshold == 0.75


def test_what_is_no_gallery_is_refused_in_one_line(
    tmp_path: Path, search_gallery: Gallery, search_model: OpenModel
):
    with pytest.raises(DataError, match=r"gone: is missing; make one with: reid embed"):
        Gallery.open(tmp_path / "gone")
    with pytest.raises(DataError, match="is no gallery"):
        Gallery.open(tmp_path)
    with pytest.raises(ConfigError, match="holds something already"):
        Gallery.create(search_gallery.folder, search_model)
    with pytest.raises(ConfigError, match="items are jsonl or parquet, not 'xml'"):
        Gallery.create(tmp_path / "new", search_model, items="xml")
    with pytest.raises(DataError, match="2 items with vectors 3 x 3 do not fit"):
        search_gallery.append(rows(3), named(2))
    with pytest.raises(DataError, match="not finite"):
        search_gallery.append(rows(1) * np.nan, named(1))
    empty = Gallery.create(tmp_path / "empty", search_model)
    with pytest.raises(DataError, match="the gallery is empty"):
        empty.nearest(rows(1))
    with pytest.raises(ConfigError, match="top must be 1 or more"):
        search_gallery.nearest(rows(1), top=0)
    with pytest.raises(DataError, match="query features have 2 dimensions"):
        search_gallery.nearest(rows(1)[:, :2])
    file = search_gallery.folder / "gallery.json"
    for text, reason in (
        ('{"format": 9}', "has format 9"),
        ('{"format": 1}', "does not describe a gallery"),
        ("{", "does not describe a gallery"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=reason):
            Gallery.open(search_gallery.folder)


def test_readers_need_no_lock(search_gallery: Gallery):
    found: list[int] = []
    with search_gallery.writing():
        reader = threading.Thread(
            target=lambda: found.append(len(Gallery.open(search_gallery.folder).features))
        )
        reader.start()
        reader.join()
    assert found == [6]
