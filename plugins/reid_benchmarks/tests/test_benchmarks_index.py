"""The data set `index`: what columns mean, what is refused, and that nothing outside is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from reid_benchmarks.datasets.index import COLUMNS, load_index
from reid_core import DataError, DataSet
from reid_core.contract.samples import DataRequest
from reid_core.images import read_image
from reid_core.testing.fixtures import RunReid

FUZZ = settings(max_examples=int(os.environ.get("REID_FUZZ_EXAMPLES", "30")), deadline=None)


def load(root: Path, text: str | bytes | None = None) -> DataSet:
    if text is not None:
        content = text if isinstance(text, bytes) else text.encode("utf-8")
        (root / "index.csv").write_bytes(content)
    return load_index(DataRequest("index", None, None, root, root / "cache"))


def test_columns_become_samples(tmp_path: Path) -> None:
    data = load(
        tmp_path,
        "path,pid,camid,clothes,split,pose\n"
        "a/1.jpg,70,3,2,train,4\nb.png,12,115,,train,5\n"
        "q.jpg,9,0,1,query,\ng.jpg,-1,,,gallery,\n",
    )
    train = [(s.path, s.pid, s.camid, s.clothes, s.fields["pose"]) for s in data.train.samples]
    assert train == [
        (tmp_path / "a/1.jpg", 1, 3, 0, 4),
        (tmp_path / "b.png", 0, 115, -1, 5),
    ]
    assert [(s.pid, s.camid, s.split) for s in data.query] == [(9, 0, "query")]
    assert [(s.pid, s.camid, s.split) for s in data.gallery] == [(-1, 0, "gallery")]
    assert (set(data.train.fields), set(data.query_fields)) == ({"pose"}, set())


def test_outfits_are_numbered_over_all_people(tmp_path: Path) -> None:
    data = load(
        tmp_path,
        "path,pid,clothes,split\n"
        "1.jpg,7,1,\n2.jpg,7,3,\n3.jpg,5,1,\n4.jpg,5,-1,\n5.jpg,-1,1,\n6.jpg,5,1,\n"
        "7.jpg,7,1,query\n8.jpg,9,1,gallery\n9.jpg,-1,1,gallery\n",
    )
    # Of 5, then of 7; test goes on, and whoever is nobody wears nothing known.
    assert [s.clothes for s in data.train.samples] == [1, 2, 0, -1, -1, 0]
    assert [s.clothes for s in (*data.query, *data.gallery)] == [3, 4, -1]


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    table = {"path": ["1.jpg", "2.jpg"], "pid": [5, 3], "parts": ["1.png", "2.png"]}
    pq.write_table(pa.table(table), tmp_path / "other" / "index.parquet")
    ours = load(tmp_path, "path,pid,parts\n1.jpg,5,1.png\n2.jpg,3,2.png\n").train
    theirs = load(tmp_path / "other").train
    assert [s.pid for s in theirs.samples] == [s.pid for s in ours.samples] == [1, 0]
    assert theirs.samples[0].fields == {"parts": tmp_path / "other" / "1.png"}
    assert theirs.fields == ours.fields


def test_boxes_are_cut_out_once(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    text = "path,pid,left,top,width,height\nframe.png,1,4,5,6,7\nframe.png,2,-2,15,6,50\n"
    first, second = load(tmp_path, text).train.samples
    np.testing.assert_array_equal(read_image(first.path), pixels[5:12, 4:10])
    np.testing.assert_array_equal(read_image(second.path), pixels[15:, :4])
    written = first.path.stat().st_mtime_ns
    assert load(tmp_path).train.samples[0].path.stat().st_mtime_ns == written


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_keep_their_bytes(tmp_path: Path) -> None:
    data = load(tmp_path, b"path,pid\n\xd6\xd0.jpg,1\n")
    assert os.fsencode(data.train.samples[0].path.name) == b"\xd6\xd0.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,pid\n../secret.jpg,1\n", r"line 2: path '\.\./secret\.jpg' leads out of"),
        ("path,pid\n/etc/passwd,1\n", "line 2: path '/etc/passwd' leads out of"),
        ("path,pid\nC:\\x.jpg,1\n", "line 2: path .* leads out of"),
        ("path,pid,parts\na.jpg,1,../b.png\n", "line 2: parts: path .* leads out of"),
        ("path,pid\n,1\n", "line 2: path None is no name of a file"),
        ("path,pid\na.jpg,alice\n", "line 2: pid 'alice' is no whole number"),
        ("path,pid\na.jpg,1.5\n", "line 2: pid '1.5' is no whole number"),
        ("path,pid\na.jpg,\n", "line 2: pid None is no whole number"),
        ("path,pid,split\na.jpg,1,test\n", "line 2: split 'test' is none of train, query"),
        (
            "path,pid,left,top,width,height\na.jpg,1,2,3,,4\n",
            "line 2: a box needs left, top, width, height; width is empty",
        ),
        ("path,pid,left\na.jpg,1,2\n", "line 2: a box needs .*; top is empty"),
        ("path,pid,cam\na.jpg,1,2\n", "there is no column 'cam'; did you mean 'camid'"),
        ("path,pid\na.jpg,1,2\n", "there is no column 'a column without a name'"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_there_is_one_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither is there"):
        load(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"index\.parquet: cannot be read"):
        load(tmp_path)
    with pytest.raises(DataError, match="both are there"):
        load(tmp_path, "path,pid\n")


def test_a_test_set_alone_is_checked(run_reid: RunReid, tmp_path: Path) -> None:
    Image.new("RGB", (8, 16)).save(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text("path,pid,split\na.png,1,gallery\n")
    code, out, err = run_reid("data", "check", "index", "--data-root", tmp_path)
    assert code == 0, err
    assert "1 image can be read" in out


CELLS = st.one_of(
    st.text(max_size=8), st.sampled_from(["..", "/", "a.jpg", "-1", str(2**64), "nan", "\0", "1e9"])
)


@FUZZ
@given(
    st.lists(st.sampled_from(COLUMNS) | st.text(max_size=5), max_size=5),
    st.lists(st.lists(CELLS, max_size=6), max_size=4),
)
def test_any_table_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, columns: list[str], rows: list[list[str]]
) -> None:
    root = tmp_path_factory.getbasetemp()
    text = "\n".join(",".join(cells) for cells in [columns, *rows])
    try:
        data = load(root, text.encode("utf-8", "surrogatepass"))
    except DataError as error:
        problem = str(error)
        assert "\n" not in problem
        return
    for sample in (*data.train.samples, *data.query, *data.gallery):
        assert sample.path.resolve().is_relative_to(root.resolve())


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "parquet").mkdir(exist_ok=True)
    (root / "parquet" / "index.parquet").write_bytes(b"PAR1" + content + b"PAR1")
    with pytest.raises(DataError):
        load(root / "parquet")
    try:
        load(root, content)
    except DataError as error:
        problem = str(error)
        assert "\n" not in problem
