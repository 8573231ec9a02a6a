"""Features that other code has saved: every format, and what is wrong with a file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from reid_retrieval.__main__ import main
from reid_retrieval.errors import DataError
from reid_retrieval.features import FeatureSet
from reid_retrieval.files import read_features
from reid_retrieval.labels import Labels
from reid_retrieval.retrieval import evaluate

RNG = np.random.default_rng(0)
PIDS = np.array([1, 2, 3, 1, 2, 3, 3, -1])
CAMIDS = np.array([0, 1, 0, 1, 0, 1, 2, 2])
ROWS = (RNG.standard_normal((5, 8))[PIDS] + 0.9 * RNG.standard_normal((8, 8))).astype(np.float32)
"""Three queries, then five gallery images."""


def expected() -> Any:
    sets = [
        FeatureSet(ROWS[some], Labels(PIDS[some], CAMIDS[some]))
        for some in (slice(3), slice(3, None))
    ]
    return evaluate(sets[0], sets[1])


def assert_read(query: FeatureSet, gallery: FeatureSet) -> None:
    found = evaluate(query, gallery)
    assert found == expected()
    assert np.array_equal(query.features, ROWS[:3])
    assert np.array_equal(gallery.features, ROWS[3:])
    assert query.labels.column("split").tolist() == ["query"] * 3
    assert gallery.labels.column("split").tolist() == ["gallery"] * 5


SPELLINGS = [
    ("query_features", "query_pids", "query_camids"),
    ("qf", "q_pids", "q_camids"),
    ("query_f", "query_label", "query_cam"),
    ("query", "query_ids", "query_cams"),
    ("Query_Feats", "query_targets", "query_camid"),
]


@pytest.mark.parametrize("names", SPELLINGS, ids=lambda names: names[0])
def test_an_archive_of_both_sides(names: tuple[str, ...], tmp_path: Path) -> None:
    other = [name.replace("query", "gallery").replace("Query", "Gallery") for name in names]
    if names[0] == "qf":
        other = ["gf", "g_pids", "g_camids"]
    arrays = dict(zip(names, (ROWS[:3], PIDS[:3], CAMIDS[:3]), strict=True))
    arrays |= dict(zip(other, (ROWS[3:], PIDS[3:], CAMIDS[3:]), strict=True))
    np.savez(tmp_path / "both.npz", **arrays, epoch=np.array(7), features=ROWS)
    assert_read(*read_features(tmp_path / "both.npz"))


def test_labels_of_one_s_own_are_text_in_every_table(tmp_path: Path) -> None:
    write_array(tmp_path, "q", slice(3))
    write_array(tmp_path, "g", slice(3, None))
    for name, views in (("q", "01 02 03"), ("g", "01 02b 3 04 05")):
        table = tmp_path / f"{name}.csv"
        head, *lines = table.read_text("utf-8-sig").splitlines()
        rows = [
            f"{line.rpartition(',')[0]},{view}"
            for line, view in zip(lines, views.split(), strict=True)
        ]
        table.write_text("\n".join([head, *rows]) + "\n", "utf-8")
    query, gallery = read_features(tmp_path / "q.npy", tmp_path / "g.npy")
    assert query.labels.column("view").tolist() == ["01", "02", "03"]
    assert gallery.labels.column("view").tolist() == ["01", "02b", "3", "04", "05"]
    assert_read(query, gallery)


def test_labels_of_a_gallery_that_nobody_named_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"more\.csv: there is no gallery's file"):
        read_features(tmp_path / "all.npz", gallery_labels=tmp_path / "more.csv")


def test_one_archive_with_a_label_of_sides(tmp_path: Path) -> None:
    order = np.array([3, 0, 4, 1, 2, 5, 6, 7])
    splits = np.array(["query"] * 3 + ["gallery"] * 5)[order]
    np.savez(
        tmp_path / "one.npz",
        features=ROWS[order],
        pids=PIDS[order],
        camids=CAMIDS[order],
        split=splits,
    )
    assert_read(*read_features(tmp_path / "one.npz"))


def test_one_archive_per_side(tmp_path: Path) -> None:
    for name, some in (("q", slice(3)), ("g", slice(3, None))):
        np.savez(tmp_path / f"{name}.npz", feats=ROWS[some], pid=PIDS[some], camid=CAMIDS[some])
    assert_read(*read_features(tmp_path / "q.npz", tmp_path / "g.npz"))


def write_array(folder: Path, name: str, some: slice, header: str = "pid,camid,view") -> None:
    np.save(folder / f"{name}.npy", ROWS[some])
    lines = [f"{p}, {c},v{c}" for p, c in zip(PIDS[some], CAMIDS[some], strict=True)]
    (folder / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n", "utf-8-sig")


def test_arrays_with_tables(tmp_path: Path) -> None:
    write_array(tmp_path, "q", slice(3))
    write_array(tmp_path, "g", slice(3, None))
    query, gallery = read_features(tmp_path / "q.npy", tmp_path / "g.npy")
    assert_read(query, gallery)
    assert query.labels.column("view").tolist() == ["v0", "v1", "v0"]
    # The array is mapped, not read.
    assert (
        isinstance(np.asarray(gallery.rows).base, np.memmap | type(None))
        or gallery.rows.base is not None
    )
    (tmp_path / "q.csv").rename(tmp_path / "labels.csv")
    (tmp_path / "g.csv").rename(tmp_path / "more.csv")
    assert_read(
        *read_features(
            tmp_path / "q.npy",
            tmp_path / "g.npy",
            labels=tmp_path / "labels.csv",
            gallery_labels=tmp_path / "more.csv",
        )
    )


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    splits = ["query"] * 3 + ["gallery"] * 5
    number = pyarrow.float32()
    for kind in (None, pyarrow.list_(number, 8), pyarrow.large_list(number)):
        rows = pyarrow.array(
            [row.tolist() for row in ROWS], kind or pyarrow.list_(pyarrow.float32())
        )
        table = pyarrow.table({"feature": rows, "pid": PIDS, "camid": CAMIDS, "split": splits})
        parquet.write_table(table, tmp_path / "all.parquet")
        assert_read(*read_features(tmp_path / "all.parquet"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0], [1.0, 2.0]], "row 1 has 2 values, row 0 has 1"),
        # Their total is divisible by their number.
        ([[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0, 8.0]], "row 2 has 1 values, row 0 has 2"),
        ([[1.0, 2.0], [], [3.0, 4.0, 5.0, 6.0]], "row 1 has no values, row 0 has 2"),
        ([[1.0, 2.0], None], "row 1 has no values, row 0 has 2"),
        ([None, [1.0, 2.0]], "row 0 has no values$"),
    ],
    ids=str,
)
def test_lists_of_parquet_are_of_one_length(tmp_path: Path, rows: Any, message: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"feature": rows, "pid": list(range(len(rows)))})
    parquet.write_table(table, tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match=f"the lists of 'feature' differ in length: {message}"):
        read_features(tmp_path / "ragged.parquet")


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kind = pyarrow.list_(pyarrow.float32())
    table = pyarrow.table({"feature": pyarrow.array([], kind), "pid": pyarrow.array([], "int64")})
    parquet.write_table(table, tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="there are no rows"):
        read_features(tmp_path / "empty.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'reid-retrieval\[parquet\]'"):
        read_features(tmp_path / "all.parquet")


# What the code of others leaves -------------------------------------------------------------------


def test_what_torchreid_s_engine_has_in_its_hands(tmp_path: Path) -> None:
    """Six arrays, by the names of its local variables; labels as NumPy arrays."""
    arrays = {"qf": ROWS[:3], "q_pids": PIDS[:3], "q_camids": CAMIDS[:3]}
    arrays |= {"gf": ROWS[3:], "g_pids": PIDS[3:], "g_camids": CAMIDS[3:]}
    np.savez(tmp_path / "torchreid.npz", **arrays)
    assert_read(*read_features(tmp_path / "torchreid.npz"))


def test_fast_reid_s_folders_of_one_array_per_image(tmp_path: Path) -> None:
    """Arrays of 1 x D, named as the image, ``.npy`` for ``.jpg``."""
    for side, some in (("query", range(3)), ("gallery", range(3, 8))):
        (tmp_path / side).mkdir()
        for row in some:
            # Sorted by name: the number of the sequence keeps the order of the rows.
            name = f"{PIDS[row]:04d}_c{CAMIDS[row] + 1}s1_{row:06d}_00.npy"
            np.save(tmp_path / side / name, ROWS[row : row + 1])
    query, gallery = read_features(tmp_path / "query", tmp_path / "gallery")
    order = np.argsort(
        [f"{PIDS[row]:04d}_c{CAMIDS[row] + 1}" for row in range(3, 8)], kind="stable"
    )
    assert sorted(gallery.labels.pids.tolist()) == sorted(PIDS[3:].tolist())
    assert np.array_equal(gallery.features, ROWS[3:][order])
    assert query.labels.column("camid").tolist() == CAMIDS[:3].tolist()
    assert evaluate(query, gallery).mean_ap == expected().mean_ap


def test_matlab_files_of_person_reid_baseline(tmp_path: Path) -> None:
    """``pytorch_result.mat``: labels are lists, which MATLAB's format stores as rows 1 x N."""
    savemat(
        tmp_path / "pytorch_result.mat",
        {
            "query_f": ROWS[:3],
            "query_label": PIDS[:3].tolist(),
            "query_cam": (CAMIDS[:3] + 1).tolist(),
            "gallery_f": ROWS[3:],
            "gallery_label": PIDS[3:].tolist(),
            "gallery_cam": (CAMIDS[3:] + 1).tolist(),
        },
    )
    assert_read(*read_features(tmp_path / "pytorch_result.mat"))


def test_a_single_query_stays_a_row(tmp_path: Path) -> None:
    both = {"query_f": ROWS[:1], "query_label": [1], "query_cam": [0]}
    both |= {"gallery_f": ROWS[3:], "gallery_label": PIDS[3:], "gallery_cam": CAMIDS[3:]}
    savemat(tmp_path / "one.mat", both)
    query, _ = read_features(tmp_path / "one.mat")
    assert query.features.shape == (1, 8)


# What is wrong ------------------------------------------------------------------------------------


def archive(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "wrong.npz", **arrays)
    return folder / "wrong.npz"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"pids": PIDS}, "there are no features among pids"),
    ({"features": ROWS, "pids": PIDS}, "nothing says which rows are queries"),
    ({"features": ROWS, "split": ["query"] * 8}, "no gallery features, only query"),
    ({"features": ROWS, "split": ["query", "gallery"] * 4}, "the query rows have no label 'pid'"),
    ({"qf": ROWS, "q_pids": PIDS}, "no gallery features, only query"),
    ({"features": ROWS, "pids": PIDS[:3]}, "8 rows of features, but 3 of 'pid'"),
    ({"qf": ROWS, "query_features": ROWS}, "several arrays could be the query features"),
    (
        {"qf": ROWS, "q_pids": PIDS, "gf": ROWS, "g_pids": PIDS / 2},
        "gallery: label 'pid' must be one integer per image",
    ),
    (
        {"qf": np.array([object()])},
        "cannot be read: it is no file of NumPy's, or holds Python objects",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_an_archive_that_does_not_say_enough(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as found:
        read_features(archive(tmp_path, **arrays))
    assert "wrong.npz" in str(found.value)


def test_files_that_are_not_there_or_not_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_features(tmp_path / "none.npz")
    (tmp_path / "notes.txt").write_text("", "utf-8")
    with pytest.raises(DataError, match=r"cannot read '\.txt'; known are \.npz, \.npy"):
        read_features(tmp_path / "notes.txt")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match=r"broken\.npz: cannot be read"):
        read_features(tmp_path / "broken.npz")
    np.savez_compressed(tmp_path / "broken.npz", qf=ROWS)
    damaged = bytearray((tmp_path / "broken.npz").read_bytes())
    name, extra = struct.unpack("<HH", damaged[26:30])
    damaged[30 + name + extra] |= 0b110  # no block of deflated data is of that kind
    (tmp_path / "broken.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"broken\.npz: cannot be read"):
        read_features(tmp_path / "broken.npz")
    (tmp_path / "text.npz").write_text("pid,camid", "utf-8")
    with pytest.raises(DataError, match=r"text\.npz: cannot be read: it is no file of N") as caught:
        read_features(tmp_path / "text.npz")
    assert "pickle" not in str(caught.value)
    np.save(tmp_path / "array.npy", ROWS)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(DataError, match=r"array\.npz: .* one array: end its name in \.npy"):
        read_features(tmp_path / "array.npz")
    (tmp_path / "broken.mat").write_bytes(b"no")
    with pytest.raises(DataError, match=r"broken\.mat: cannot be read"):
        read_features(tmp_path / "broken.mat")
    both = archive(tmp_path, qf=ROWS, gf=ROWS, q_pids=PIDS, g_pids=PIDS)
    with pytest.raises(DataError, match="holds both sides: name it alone"):
        read_features(both, both)
    with pytest.raises(DataError, match="a table of labels belongs to an array"):
        read_features(both, labels=tmp_path / "q.csv")


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", ROWS)
    with pytest.raises(DataError, match=r"its labels are missing: .*all\.csv"):
        read_features(tmp_path / "all.npy")
    table = tmp_path / "all.csv"
    table.write_text("pid,camid\n1,0\n2\n", "utf-8")
    with pytest.raises(DataError, match=r"all\.csv, line 3: not the 2 values of the first line"):
        read_features(tmp_path / "all.npy")
    table.write_text("", "utf-8")
    with pytest.raises(DataError, match="nothing says which rows"):
        read_features(tmp_path / "all.npy")
    table.write_text("pid\n1\n", "utf-8")
    with pytest.raises(DataError, match="8 rows of features, but 1 of 'pid'"):
        read_features(tmp_path / "all.npy")
    table.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"all\.csv: cannot be read"):
        read_features(tmp_path / "all.npy")
    (tmp_path / "all.npy").write_bytes(b"no")
    with pytest.raises(DataError, match=r"all\.npy: cannot be read: it is no file of NumPy's"):
        read_features(tmp_path / "all.npy")
    (tmp_path / "all.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"all\.npy: cannot be read: \w+"):
        read_features(tmp_path / "all.npy")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there are no \.npy files"):
        read_features(tmp_path / "empty", tmp_path / "empty")
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "0001_c1.npy", ROWS[0])
    np.save(folder / "0002_c1.npy", ROWS[0, :3])
    with pytest.raises(DataError, match=r"0002_c1\.npy: 3 numbers, the files before have 8"):
        read_features(folder, folder)
    np.save(folder / "0002_c1.npy", ROWS[0])
    np.save(folder / "portrait.npy", ROWS[0])
    with pytest.raises(DataError, match=r"portrait\.npy: the name does not begin with identity"):
        read_features(folder, folder)


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Path:
    arrays = {"qf": ROWS[:3], "q_pids": PIDS[:3], "q_camids": CAMIDS[:3]}
    arrays |= {"gf": ROWS[3:], "g_pids": PIDS[3:], "g_camids": CAMIDS[3:]}
    np.savez(tmp_path / "both.npz", **arrays)
    return tmp_path / "both.npz"


def test_the_command_prints_and_writes_what_evaluate_finds(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text("ranks = [1]\nmax_rank = 3\n", "utf-8")
    file = tmp_path / "results.json"
    words = ["evaluate", str(both), "--protocol", "standard", "--protocol", str(rules)]
    assert main([*words, "--rerank", "--json", str(file)]) == 0
    stored = json.loads(file.read_text("utf-8"))
    names = [(one["protocol"], one["reranking"] != "none") for one in stored]
    assert names == [("standard", False), ("mine", False), ("standard", True), ("mine", True)]
    assert stored[0] == expected().to_json() | {"products": stored[0]["products"]}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("standard: mAP ")
    assert lines[1] == f"  {stored[0]['text']}"
    assert lines[4].startswith("standard+rerank: mAP")


def test_the_command_s_options_reach_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, some in (("q", slice(3)), ("g", slice(3, None))):
        write_array(tmp_path, name, some)
        (tmp_path / f"{name}.csv").rename(tmp_path / f"{name}-labels.csv")
    words = ["evaluate", tmp_path / "q.npy", "--gallery", tmp_path / "g.npy"]
    words += ["--labels", tmp_path / "q-labels.csv"]
    words += ["--gallery-labels", tmp_path / "g-labels.csv"]
    options = ["--distance", "euclidean", "--products", "numpy"]
    assert main([*map(str, words), *options]) == 0
    out = capsys.readouterr().out
    assert "standard: mAP" in out
    assert "; euclidean, flip off" in out
    assert main([*map(str, words), "--distance", "manhattan"]) == 2
    assert "reid-retrieval: unknown distance 'manhattan'" in capsys.readouterr().err
    assert main([*map(str, words), "--products", "abacus"]) == 2
    assert "unknown library 'abacus'" in capsys.readouterr().err


def test_a_published_name_says_by_which_rule_it_is_scored(
    both: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_retrieval.finding.metadata.entry_points", lambda group: [])
    assert main(["evaluate", str(both), "--protocol", "market1501"]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first == "market1501: reid-benchmarks is not installed; by its rule 'standard'"
    assert second.startswith("standard: mAP")
    assert main(["protocols"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "market1501: the rule 'standard'" in lines
    assert any(line.startswith("cross-clothes: cross-clothes v1: query all;") for line in lines)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes as files")
def test_pipes_are_written_to_and_stay(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "results.json"
    os.mkfifo(pipe)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(pipe.read_text("utf-8")), daemon=True)
    reader.start()
    assert main(["evaluate", str(both), "--json", str(pipe)]) == 0
    assert pipe.is_fifo()
    reader.join(10)
    (stored,) = json.loads(said[0])
    assert stored["protocol"] == "standard"
    assert not list(tmp_path.glob(".part*"))


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="has no streams as files")
@pytest.mark.parametrize("given", ["link", "-"])
def test_results_for_stdout_have_it_alone_wherever_it_goes(
    given: str, both: Path, tmp_path: Path
) -> None:
    link, out = tmp_path / "stdout", tmp_path / "out.txt"
    link.symlink_to("/dev/stdout")  # what is wrong must not replace the machine's own
    name = str(link) if given == "link" else given
    words = [sys.executable, "-m", "reid_retrieval", "evaluate", str(both), "--json", name]
    with out.open("w") as file:
        done = subprocess.run(words, check=True, stdout=file, stderr=subprocess.PIPE, text=True)
    assert link.is_symlink()
    assert "mAP" in done.stderr
    assert len(json.loads(out.read_text("utf-8"))) == 1


def test_an_interruption_is_one_line(
    both: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reid_retrieval.__main__._evaluate", interrupted)
    assert main(["evaluate", str(both)]) == 130
    assert capsys.readouterr().err == "reid-retrieval: interrupted\n"


def test_errors_are_one_line_and_exit_code_2(
    both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(both), "--protocol", "cross-clothes"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reid-retrieval: protocol 'cross-clothes' compares outfits, but 3 of 3")


def test_results_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The features are not even looked for.
    nowhere = tmp_path / "nowhere"
    for place, reason in (
        (nowhere / "results.json", f"nothing can be written to {nowhere}: No such file or direct"),
        (tmp_path, "is a folder; name a file in it"),
    ):
        assert main(["evaluate", str(tmp_path / "none.npz"), "--json", str(place)]) == 2
        said = capsys.readouterr().err
        assert f"--json {place}: {reason}" in said
        assert said.count("\n") == 1
