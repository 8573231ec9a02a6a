"""What other engines answer from a gallery is what the gallery itself answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core import CheckpointError, ConfigError, DataError, Embedder, NoEncoder
from reid_core.testing.fixtures import RunReid
from reid_search.engines import exporting
from reid_search.engines.exporting import export_index
from reid_search.engines.qdrant import Address, opened, recall
from reid_search.gallery.gallery import Found, Gallery, model_of
from reid_search.models import OpenModel


@pytest.fixture
def gallery(tmp_path: Path, search_model: OpenModel) -> Gallery:
    """Return a gallery of forty vectors that are not one long."""
    gallery = Gallery.create(tmp_path / "gallery", search_model)
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    gallery.append(vectors, [{"path": f"/p/{n}.jpg", "pid": n} for n in range(40)])
    return gallery


def queries() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("engine", ["faiss", "usearch"])
def test_an_exported_index_answers_as_the_gallery(gallery: Gallery, tmp_path: Path, engine: str):
    package = pytest.importorskip(exporting.PACKAGES[engine])
    path = tmp_path / f"people.{engine}"
    table = export_index(gallery, engine, path)
    asked = unit(queries())
    if engine == "faiss":
        similarities, rows = package.read_index(str(path)).search(asked, 5)
    else:
        matches = package.Index.restore(str(path)).search(asked, 5, exact=True)
        similarities, rows = 1 - matches.distances, matches.keys
    expected = gallery.nearest(queries(), 5)
    assert [[f.row for f in found] for found in expected] == rows.tolist()
    assert np.allclose([[f.similarity for f in found] for found in expected], similarities,
                       atol=1e-5)  # fmt: skip
    items = [json.loads(line) for line in table.read_text().splitlines()]
    assert items == list(gallery.items())
    assert {p.name for p in tmp_path.glob("*people*")} == {path.name, table.name}


def test_another_gallery_of_the_same_embedder_takes_the_place_of_the_first(
    gallery: Gallery, tmp_path: Path, search_model: OpenModel
):
    pytest.importorskip("qdrant_client")
    other = Gallery.create(tmp_path / "other", search_model)
    vectors = np.random.default_rng(2).standard_normal((41, 3)).astype(np.float32)
    other.append(vectors, [{"path": f"/o/{n}.jpg"} for n in range(41)])
    with opened(f"qdrant://{tmp_path}/db/people") as collection:
        assert collection.fill(gallery) == 40
        assert collection.fill(other) == 41
        found = collection.nearest(queries(), 5)
    expected = other.nearest(queries(), 5)
    assert [[f.item for f in a] for a in found] == [[f.item for f in a] for a in expected]


def test_a_collection_answers_as_the_gallery(gallery: Gallery, tmp_path: Path):
    pytest.importorskip("qdrant_client")
    address = f"qdrant://{tmp_path}/db/people"
    expected = gallery.nearest(queries(), 5)
    with opened(address) as collection:
        assert collection.fill(gallery) == 40
        found = collection.nearest(queries(), 5)
    assert [[(f.row, f.item) for f in answers] for answers in found] == [
        [(f.row, f.item) for f in answers] for answers in expected
    ]
    assert np.allclose([[f.similarity for f in a] for a in found],
                       [[f.similarity for f in a] for a in expected], atol=1e-5)  # fmt: skip
    assert recall(found, expected) == 1
    # What is new is sent, and no more; rows that move are sent again.
    gallery.append(queries(), [{"path": f"/q/{n}.jpg"} for n in range(5)])
    with opened(address) as collection:
        assert collection.fill(gallery) == 5
        assert collection.fill(gallery) == 0
        (answer,) = collection.nearest(queries()[:1], 1)
        assert answer[0].item == {"path": "/q/0.jpg"}
        assert gallery.remove(lambda item: item["path"] == "/p/3.jpg") == 1
        assert collection.fill(gallery) == 44
        found = collection.nearest(queries(), 44)
    assert sorted(f.row for f in found[0]) == list(range(44))
    assert recall(found, gallery.nearest(queries(), 44)) == 1


def test_items_that_changed_are_sent_with_the_same_vectors(
    gallery: Gallery, tmp_path: Path, search_model: OpenModel
):
    pytest.importorskip("qdrant_client")
    moved = Gallery.create(tmp_path / "moved", search_model)
    items = [{"path": f"/new/{n}.jpg", "camera": "gate"} for n in range(40)]
    moved.append(np.asarray(gallery.features), items)
    with opened(f"qdrant://{tmp_path}/db/people") as collection:
        collection.fill(gallery)
        assert collection.fill(moved) == 40
        (answer,) = collection.nearest(queries()[:1], 1)
        assert collection.fill(moved) == 0
    assert answer[0].item == moved.nearest(queries()[:1], 1)[0][0].item


def stop(count: int) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_filling_of_a_collection_goes_on(
    gallery: Gallery, tmp_path: Path, search_model: OpenModel, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("qdrant_client")
    monkeypatch.setattr("reid_search.engines.qdrant._AT_ONCE", 2)
    other = Gallery.create(tmp_path / "other", search_model)
    other.append(queries(), [{"path": f"/o/{n}.jpg"} for n in range(5)])

    def answers(of: Gallery) -> None:
        expected = of.nearest(queries(), len(of))
        found = collection.nearest(queries(), 99)
        assert [[f.item for f in a] for a in found] == [[f.item for f in a] for a in expected]

    with opened(f"qdrant://{tmp_path}/db/people") as collection:
        with pytest.raises(KeyboardInterrupt):
            collection.fill(other, stop)
        assert collection.fill(other) == 5
        answers(other)
        # Another gallery takes its place, but is stopped: the first one has to be sent again.
        with pytest.raises(KeyboardInterrupt):
            collection.fill(gallery, stop)
        assert collection.fill(other) == 5
        answers(other)
        # Of rows that were sent in part and then removed, none answers.
        other.append(-queries(), [{"path": f"/gone/{n}.jpg"} for n in range(5)])
        with pytest.raises(KeyboardInterrupt):
            collection.fill(other, stop)
        other.remove(lambda item: item["path"].startswith("/gone"))
        collection.fill(other)
        answers(other)


def test_names_that_are_no_text_are_exported(gallery: Gallery, tmp_path: Path):
    odd = "/p/caf\udce9.jpg"
    gallery.append(queries()[:1], [{"path": odd}])
    if importlib.util.find_spec("faiss") is not None:
        table = export_index(gallery, "faiss", tmp_path / "people.faiss")
        assert json.loads(table.read_text("utf-8").splitlines()[-1]) == {"path": odd}
    models: Any = pytest.importorskip("qdrant_client.models")
    with opened(f"qdrant://{tmp_path}/db/people") as collection:
        collection.fill(gallery)
        ((found,),) = collection.nearest(queries()[:1], 1)
        assert collection.fill(gallery) == 0
    assert found.item == {"path": "/p/caf?.jpg"}
    # What a server is sent.
    models.PointStruct(id=1, vector=[1.0], payload=found.item).model_dump_json()


def test_rows_that_move_while_they_are_sent_are_sent_again(gallery: Gallery, tmp_path: Path):
    pytest.importorskip("qdrant_client")

    def remove(count: int) -> None:
        Gallery.open(gallery.folder).remove(lambda item: item["pid"] == 0)

    with opened(f"qdrant://{tmp_path}/db/people") as collection:
        with pytest.raises(DataError, match="rows were removed while it was read"):
            collection.fill(gallery, remove)
        assert collection.fill(gallery) == 39
        found = collection.nearest(queries(), 99)
    assert all(len(answer) == 39 for answer in found)
    assert 0 not in [f.item["pid"] for f in found[0]]


def test_a_collection_of_another_embedder_is_refused(
    gallery: Gallery, tmp_path: Path, search_model: OpenModel
):
    models: Any = pytest.importorskip("qdrant_client.models")
    other = Gallery.create(
        tmp_path / "other", model_of(Embedder.from_encoder(NoEncoder(), (32, 32)))
    )
    with opened(f"qdrant://{tmp_path}/db/people") as collection:
        collection.fill(gallery)
        with pytest.raises(CheckpointError, match="those of the collection 'people'"):
            collection.fill(other)
        client = collection._client
        for name, size in (("wide", 4), ("strange", 3)):
            vectors = models.VectorParams(size=size, distance=models.Distance.COSINE)
            client.create_collection(name, vectors_config=vectors)
        client.upsert("strange", [models.PointStruct(id=1, vector=[1, 0, 0], payload={})])
        collection._name = "wide"
        with pytest.raises(DataError, match="'wide' takes vectors of 4 values and Cosine"):
            collection.fill(gallery)
        collection._name = "strange"
        with pytest.raises(CheckpointError, match="an embedder that it does not name"):
            collection.fill(gallery)


def test_addresses_are_of_a_server_or_of_a_folder():
    assert Address.parse("qdrant://box/people") == Address("box", 6333, "", "people")
    assert Address.parse("qdrant://box:7/people") == Address("box", 7, "", "people")
    assert Address.parse("qdrant:///var/db/people") == Address("", 0, "/var/db", "people")
    for text in ("qdrant://box", "box/people", "qdrant://box/a/b", "qdrant:///people"):
        with pytest.raises(ConfigError, match=r"expected qdrant://HOST\[:PORT\]/COLLECTION"):
            Address.parse(text)


def test_a_server_that_does_not_answer_is_named(gallery: Gallery):
    pytest.importorskip("qdrant_client")
    with (
        pytest.raises(ConfigError, match=r"qdrant://127\.0\.0\.1:9/x: Qdrant does not answer"),
        opened("qdrant://127.0.0.1:9/x") as collection,
    ):
        collection.fill(gallery)


def test_recall_counts_answers_in_any_order():
    def found(*rows: int) -> list[Found]:
        return [Found(row, 0.5, {}) for row in rows]

    assert recall([found(2, 1), found(5, 6)], [found(1, 2), found(6, 7)]) == 0.75
    assert recall([], []) == 1


def test_an_engine_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(exporting.PACKAGES, "faiss", "faiss_that_is_not_there")
    with pytest.raises(ConfigError, match=r"pip install 'reid-search\[faiss\]'"):
        exporting.require_engine("faiss")


def test_the_command_asks_an_engine(
    run_reid: RunReid, search_gallery: Gallery, search_photos: Path, tmp_path: Path
):
    pytest.importorskip("qdrant_client")
    folder, query = search_gallery.folder, search_photos / "2.png"
    address = f"qdrant://{tmp_path}/db/people"
    code, out, err = run_reid("search", folder, "--export", "qdrant", "--out", address)
    assert (code, out) == (0, f"{address}: 6 rows, 6 of them new\n"), err
    code, plain, _ = run_reid("search", folder, query, "--top", 3)
    code, out, err = run_reid("search", folder, query, "--top", 3, "--engine", address)
    assert (code, out) == (0, plain)
    assert f"{address}: 0 rows sent; recall of the exact search at 3: 1.0000" in err
    code, out, err = run_reid(
        "search", folder, query, "--engine", address, "--indexed", "--threshold", 0.99999
    )
    assert len(out.splitlines()) == 2


def test_the_command_exports(run_reid: RunReid, search_gallery: Gallery, tmp_path: Path):
    faiss = pytest.importorskip("faiss")
    path = tmp_path / "out" / "people.faiss"
    folder = search_gallery.folder
    code, out, err = run_reid("search", folder, "--export", "faiss", "--out", path)
    told = f"{path}: 6 rows; their items: {path.parent}/people.items.jsonl\n"
    assert (code, out) == (0, told), err
    assert faiss.read_index(str(path)).ntotal == 6


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "name pictures to look for behind the gallery, or --export"),
        (("--export", "faiss"), "--export ENGINE and --out belong together"),
        (("q.png", "--export", "faiss", "--out", "a.faiss"), "without any QUERY"),
        (("--export", "faiss", "--out", "a.txt"), "must end in .faiss or .index"),
        (("--export", "qdrant", "--out", "a.txt"), "a.txt: expected qdrant://"),
        (("q.png", "--indexed"), "--indexed says how an --engine searches"),
        (("q.png", "--engine", "http://x"), "http://x: expected qdrant://"),
        (("--out", "a.faiss"), "--export ENGINE and --out belong together"),
        (("--export", "faiss", "--out", "a.faiss", "--top", "3"), "whole; leave out --top"),
        (("--export", "faiss", "--out", "a.faiss", "--json"), "whole; leave out --json"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything(
    run_reid: RunReid, arguments: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: Any
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_reid("search", "gone", *arguments)
    assert (code, out) == (2, "")
    assert reason in err
    assert list(tmp_path.iterdir()) == []
