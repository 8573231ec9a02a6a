"""Several training sets in one run: people, cameras and outfits stay apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core.cli.options import to_flags
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataSet, Sample, Source
from reid_core.data.joining import joined
from reid_core.errors import DataError
from reid_core.loop.trainer import Trainer
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly
from reid_core.testing.toy.making import make_toy


def made(name: str, *labels: tuple[int, int, int], fields: tuple[str, ...] = ()) -> DataSet:
    samples = tuple(
        Sample(Path(f"{name}{row}.jpg"), *one, fields=dict.fromkeys(fields, Path("x")),
               extra={"person": one[0]})
        for row, one in enumerate(labels)
    )  # fmt: skip
    specs = {field: SHARED_FIELDS[field] for field in fields}
    query = (Sample(Path("q.jpg"), 900, 7, 5, "query"),)
    return DataSet(name, Source("main", samples, specs), query, query)


def test_numbers_are_moved_behind_those_that_are_there() -> None:
    first = made("a", (0, 0, -1), (1, 2, 3), fields=("parts", "pose"))
    second = made("b", (0, 0, 0), (-1, 1, -1), fields=("parts",))
    found, notes = joined(first, [second, made("c", (0, 0, 0), fields=("parts",))])
    assert [(s.path.name, s.pid, s.camid, s.clothes) for s in found.train.samples] == [
        ("a0.jpg", 0, 0, -1),
        ("a1.jpg", 1, 2, 3),
        # Behind the test's camera 7 and outfit 5.
        ("b0.jpg", 2, 8, 6),
        ("b1.jpg", -1, 9, -1),
        ("c0.jpg", 3, 10, 7),
    ]
    assert found.name == "a+b+c"
    assert found.query is first.query
    assert set(found.train.fields) == {"parts"}
    assert notes == ["--also b: not all training images carry pose"]
    assert "person" not in found.train.samples[2].extra
    assert joined(first, []) == (first, [])


def test_what_does_not_go_together_is_refused() -> None:
    first, second = made("a", (0, 0, 0)), made("b", (0, 0, 0))
    nobody = replace(second, train=replace(second.train, identities=False))
    with pytest.raises(DataError, match="--also b: 'b' has no identities"):
        joined(first, [nobody])
    with pytest.raises(DataError, match="--also b: it has no training images"):
        joined(first, [replace(second, train=replace(second.train, samples=()))])


def test_a_run_trains_on_all_of_them(reid_cache: Path, tmp_path: Path) -> None:
    alone = tiny_assembly(cache=reid_cache)
    root = make_toy(tmp_path, "tiny").train.samples[0].path.parent.parent
    data: dict[str, Any] = {"also": ["toy:tiny", f"folder={root}"]}
    assembly = tiny_assembly([], {"data": data}, cache=reid_cache)
    people, cameras = alone.ctx.num_identities, {s.camid for s in alone.ctx.main.samples}
    assert assembly.ctx.num_identities == 3 * people
    assert len({s.camid for s in assembly.ctx.main.samples}) == 3 * len(cameras)
    assert len(assembly.ctx.main) == 3 * len(alone.ctx.main)
    batches = np.concatenate(list(assembly.samplers["main"].epoch(0, 60))).reshape(-1)
    assert {assembly.ctx.main.samples[row].pid // people for row in batches} == {0, 1, 2}
    assert assembly.ctx.dataset.query == alone.ctx.dataset.query
    Trainer(assembly).fit()


def test_the_folder_that_is_missing_is_asked_for_by_its_option(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"--also folder: .*\(its folder: --also folder=DIR\)"):
        tiny_assembly([], {"data": {"also": ["folder"]}}, cache=reid_cache)


def test_the_command_line_takes_several() -> None:
    config = resolve(to_flags({"also": ("a", "b=photos")})).config
    assert config.data.also == ("a", f"b={Path('photos').absolute()}")
