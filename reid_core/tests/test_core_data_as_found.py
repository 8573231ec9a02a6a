"""Data as people have them: names of any bytes, strange numbers, one person."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reid_core.contract.samples import DataProvider, DataRequest, DataSet, Sample, Source
from reid_core.data.counts import load_counted
from reid_core.errors import ConfigError, DataError, ReidError
from reid_core.runs.resolve import resolve
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import TINY, tiny_assembly

GBK = b"\xd6\xd0\xce\xc4"
"""Two Chinese characters as GBK writes them: no UTF-8."""


def write_people(root: Path, people: int = 4, cameras: int = 2, suffix: bytes = b"") -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "query", "gallery"):
        (root / split).mkdir(parents=True)
        for pid in range(1, people + 1):
            for camera in range(1, cameras + 1):
                name = f"{pid}_c{camera}_".encode() + suffix + b".png"
                pixels = rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)
                with open(os.fsencode(root / split) + b"/" + name, "wb") as file:
                    Image.fromarray(pixels).save(file, "PNG")
    return root


def words(root: Path) -> list[str | Path]:
    settings = [
        f"{section}.{key}={str(value).lower()}"
        for section, values in TINY.items()
        for key, value in values.items()
        if (section, key) not in {("data", "name"), ("schedule", "epochs")}
    ]
    flat = [word for setting in settings for word in ("-s", setting)]
    return ["--data", "folder", "--data-root", root, "--epochs", "1", *flat]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_a_tree_of_names_that_are_no_text_trains_and_evaluates(
    run_reid: RunReid, tmp_path: Path
) -> None:
    root = write_people(tmp_path / os.fsdecode(GBK), suffix=GBK)
    out = tmp_path / "run"
    code, _, err = run_reid("run", *words(root), "--out", out)
    assert code == 0, err
    assert (out / "embedder.safetensors").is_file()
    assert os.fsencode(root) in (out / "config.toml").read_bytes()
    queries = json.loads((out / "results.json").read_text("utf-8"))["results"][0]["queries"]
    assert os.fsencode(queries[0]["file"]) == b"query/1_c1_" + GBK + b".png"
    assert resolve(recipe=str(out / "config.toml")).config.data.root == root


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_that_are_no_text_are_printed_as_the_bytes_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from io import BytesIO, TextIOWrapper

    from reid_core.cli import main

    pytest.importorskip("reid_benchmarks")  # reid data check
    root = write_people(tmp_path / "data", suffix=GBK)
    next(root.glob("train/*")).write_bytes(b"no image")
    raw = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, "utf-8", write_through=True))
    monkeypatch.setattr(sys, "argv", ["reid", "data", "check", "folder", "--data-root", str(root)])
    with pytest.raises(SystemExit):
        main()
    assert GBK + b".png: cannot be read" in raw.getvalue()


def loaded(*samples: Sample) -> DataSet:
    dataset = DataSet("zoo", Source("main", samples))
    found = load_counted(
        DataProvider("zoo", lambda request: dataset), DataRequest("zoo", None, None, None, Path())
    )
    assert isinstance(found, DataSet)
    return found


@pytest.mark.parametrize("name", ["pid", "camid", "clothes"])
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.5, "0001", None])
def test_labels_that_no_array_holds_are_one_line(name: str, value: Any) -> None:
    fine = Sample(Path("a.jpg"), 2**63 - 1, 0)
    assert loaded(fine).train.samples == (fine,)
    # A distractor of a benchmark: nobody's picture, a negative to every query.
    assert loaded(replace(fine, pid=-2)).train.samples[0].pid == -2
    bad: dict[str, Any] = {name: value}
    with pytest.raises(DataError, match=rf"^b\.jpg: {name} .* is no whole number from -2"):
        loaded(fine, replace(fine, path=Path("b.jpg"), **bad))


def test_an_outfit_that_two_people_wear_is_one_line() -> None:
    first = Sample(Path("a.jpg"), 0, 0, 3, extra={"person": 70})
    unknown = [replace(first, pid=pid, clothes=-1) for pid in (0, 1)]
    assert loaded(first, replace(first, camid=1), *unknown).train.samples[0] == first
    problem = r"^'zoo': outfit 3 is worn by person 70 \(a\.jpg\) and person 1 \(b\.jpg\); number"
    with pytest.raises(DataError, match=problem):
        loaded(first, Sample(Path("b.jpg"), 1, 0, 3))


def test_identities_of_the_folder_may_be_as_long_as_numbers_get(
    run_reid: RunReid, tmp_path: Path
) -> None:
    root = write_people(tmp_path)
    for split in ("query", "gallery"):
        (root / split / f"{2**63}_c1.png").write_bytes((root / "train" / "1_c1_.png").read_bytes())
    code, _, err = run_reid("run", *words(root), "--out", tmp_path / "run")
    assert code == 2
    assert f"pid {2**63} is no whole number" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"batch_size": 2},
            ConfigError,
            r"2 images per identity .* -s data\.batch_size=4 is the least",
        ),
        ({"batch_size": 2, "sampler": "pairs"}, ConfigError, r"'pairs'\) shows one person"),
        ({"batch_size": 1, "sampler": "random"}, ConfigError, r"batches of 1 row of source 'main'"),
    ],
)
def test_batches_of_one_person_or_one_row_are_refused(
    reid_cache: Path, settings: dict[str, Any], error: type[ReidError], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_assembly([], {"data": settings}, cache=reid_cache)


def test_a_single_person_is_refused(reid_cache: Path, tmp_path: Path) -> None:
    root = write_people(tmp_path, people=1, cameras=8)
    data = {"name": "folder", "root": str(root), "sampler": "random"}
    with pytest.raises(DataError, match="all training images of 'folder' show one person"):
        tiny_assembly([], {"data": data}, cache=reid_cache)


def write_alone(root: Path, splits: tuple[str, ...]) -> Path:
    write_people(root)
    for split in {"train", "query", "gallery"} - set(splits):
        shutil.rmtree(root / split)
    return root


@pytest.mark.parametrize("splits", [("query", "gallery"), ("gallery",)])
def test_a_test_set_alone_is_checked_and_shown(
    run_reid: RunReid, tmp_path: Path, splits: tuple[str, ...]
) -> None:
    pytest.importorskip("reid_benchmarks")
    root = write_alone(tmp_path / "data", splits)
    code, out, err = run_reid("data", "check", "folder", "--data-root", root)
    assert code == 0, err
    assert f"{8 * len(splits)} images can be read" in out
    code, _, err = run_reid(
        "data", "show", "folder", "--data-root", root, "-o", tmp_path / "sheet.png"
    )
    assert code == 0, err


@pytest.mark.parametrize("splits", [("query", "gallery"), ("gallery",)])
def test_a_test_set_alone_is_not_trained_on(
    run_reid: RunReid, tmp_path: Path, splits: tuple[str, ...]
) -> None:
    root = write_alone(tmp_path / "data", splits)
    code, _, err = run_reid("run", *words(root), "--out", tmp_path / "run")
    assert code == 2
    assert "has no training images" in err
    assert err.count("\n") == 1
