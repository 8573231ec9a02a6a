"""``reid data check`` on the synthetic twins: what it says of public data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_twins import TWINS

from reid_core.testing.fixtures import RunReid

Doctor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def doctor(tmp_path: Path, run_reid: RunReid) -> Doctor:
    """Return a function that writes a twin, checks it and returns exit code and lines."""

    def call(
        name: str, *arguments: str, spoil: Callable[[Path], None] | None = None
    ) -> tuple[int, list[str]]:
        root = tmp_path / name.partition("/")[0]
        root.mkdir()
        TWINS[root.name](root)
        if spoil is not None:
            spoil(root)
        code, out, err = run_reid("data", "check", name, "--data-root", root, *arguments)
        return code, [" ".join(line.split()) for line in (out + err).splitlines()]

    return call


def test_a_part_of_a_data_set_is_not_taken_for_the_whole(doctor: Doctor) -> None:
    code, lines = doctor("market1501/multi-query")
    assert code == 1
    assert any(
        line.startswith(
            "problem counts query: 2 images (official: 3,368), 2 people (official: 750)"
        )
        for line in lines
    )
    assert "ok counts multi-query: 3 images, 2 people, 2 cameras" in lines
    for protocol in ("market1501", "market1501/multi-query"):
        assert any(
            line.startswith(f"ok queries {protocol}: 2 of 2 queries valid, in 5 images")
            for line in lines
        )
    assert lines[-1].startswith("market1501/multi-query: 3 problems (counts)")


def test_queries_that_cloth_changing_search_cannot_answer(doctor: Doctor) -> None:
    _, lines = doctor("ltcc", "--no-files")
    (line,) = (line for line in lines if line.startswith("note queries ltcc/cc: "))
    assert "2 of 3 queries valid" in line
    assert (
        "1 have only junk (same pid & (same camid or same clothes)): query/144_1_c10_000003.png"
    ) in line


def test_a_withdrawn_set_is_called_so_and_its_copied_queries_are_junk(doctor: Doctor) -> None:
    _, lines = doctor("occluded-duke")
    assert lines[0].startswith("note notice occluded-duke: DukeMTMC-reID was withdrawn")
    assert any(line.startswith("note duplicates 1 query images are in the") for line in lines)
    assert "ok duplicates as their own match they are junk by occluded-duke" in lines


def test_a_protocol_of_another_set_does_not_fit(doctor: Doctor) -> None:
    code, lines = doctor("market1501", "--no-files", "--protocol", "prcc/cc/multi-shot")
    assert code == 1
    assert any(
        line.startswith("problem queries protocol 'prcc/cc/multi-shot' needs the label 'camera'")
        for line in lines
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("market1501", "ok people nobody is in training and in test"),
        ("ltcc", "ok people nobody is in training and in test"),
        ("cuhk03", "ok people nobody is in training and in test"),
        (
            "celeb-reid",
            "note people training and test number their people apart, so that numbers tell nothing",
        ),
    ],
)
def test_people_are_compared_where_their_numbers_tell(doctor: Doctor, name: str, told: str) -> None:
    _, lines = doctor(name, "--no-files")
    assert told in lines


def test_somebody_in_training_and_in_test_is_found(doctor: Doctor) -> None:
    def spoil(root: Path) -> None:
        (query,) = root.glob("*/query/0003_*.jpg")
        train = query.parents[1] / "bounding_box_train" / "0003_c4s6_015641_01.jpg"
        train.write_bytes(query.read_bytes())

    _, lines = doctor("market1501", spoil=spoil)
    assert (
        "problem people 1 person is in training and in test: 3; results would be too good" in lines
    )
    assert any(
        "problem duplicates 1 training image is in test, too: bounding_box_train/0003" in line
        for line in lines
    )
