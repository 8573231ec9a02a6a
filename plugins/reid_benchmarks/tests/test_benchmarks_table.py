"""The table of data sets: official counts add up, and what is offered fits the core."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_twins import (
    CUHK03_PEOPLE,
    PROVIDERS,
    TWINS,
    cuhk03_names,
    load,
    msmt17,
    msmt17_rearranged,
    put,
)

from reid_benchmarks import Benchmarks
from reid_benchmarks.datasets.table import BENCHMARKS
from reid_benchmarks.protocols import PROTOCOLS
from reid_core.contract.samples import Counts, DataRequest
from reid_core.data.counts import counts_of
from reid_core.testing import conformance_suite
from reid_retrieval.labels import Labels
from reid_retrieval.searching import Search

test_conforms = conformance_suite("benchmarks")

VARIANTS = [(b.name, variant) for b in BENCHMARKS for variant in b.counts]


def official(name: str, variant: str = "") -> dict[str, Counts]:
    expected = PROVIDERS[name].expected
    assert expected is not None
    return dict(expected(DataRequest(name, variant or None, None, None, Path("cache"))))


@pytest.mark.parametrize(
    ("name", "variant", "images"),
    [
        ("market1501", "", 12_936 + 3_368 + 19_732 - 3_819),
        ("duke", "", 36_411),
        ("cuhk03", "detected", 14_097),
        ("cuhk03", "labeled", 14_096),
        ("msmt17", "v1+val", 126_441),
        ("msmt17", "v2", 126_441 - 2_373),
        ("prcc", "", 33_698 - 5_002),
        ("ltcc", "", 17_119),
        ("vcclothes", "", 19_060),
        ("celeb-reid", "", 34_186),
        ("celeb-reid-light", "", 10_842),
        ("partial-reid", "occluded", 600),
        ("partial-ilids", "", 238),
        ("partial-ilids", "238", 476),
        ("occluded-reid", "", 2_000),
        ("last", "test", 228_156 - 100 - 21_279),
        ("last", "val", 71_248 + 100 + 21_279),
        ("deepchange", "test", 178_407 - 4_976 - 17_865),
    ],
)
def test_official_counts_add_up(name: str, variant: str, images: int) -> None:
    assert sum(counts.images or 0 for counts in official(name, variant).values()) == images


@pytest.mark.parametrize(
    ("name", "variant", "people"),
    [
        ("market1501", "", 1_501),
        ("cuhk03", "detected", 1_467),
        ("cuhk03", "classic-labeled", 1_467),
        ("msmt17", "v1", 4_101),
        ("prcc", "", 221),
        ("ltcc", "", 152),
        ("vcclothes", "", 512),
        ("celeb-reid", "", 632 + 420),
        ("deepchange", "test", 1_121 - 150),
    ],
)
def test_official_people_add_up(name: str, variant: str, people: int) -> None:
    counts = official(name, variant)
    assert (counts["train"].people or 0) + (counts["gallery"].people or 0) == people


def test_the_table_is_sorted_and_complete() -> None:
    names = [benchmark.name for benchmark in BENCHMARKS]
    assert names == sorted(TWINS)
    offered = Benchmarks("benchmarks").reid_datasets()
    # What is nobody's benchmark comes first: images by a table.
    assert [provider.name for provider in offered] == ["index", *names]
    for provider in offered[1:]:
        assert provider.needs_root
        assert provider.layout.startswith("ROOT/")
        assert "; request: " in provider.layout
        assert provider.summary


def test_all_protocols_are_offered() -> None:
    assert list(Benchmarks("benchmarks").reid_evaluation_protocols()) == list(PROTOCOLS)


def twin_of(name: str, variant: str, root: Path) -> None:
    if variant == "rearranged":
        msmt17_rearranged(root)
    elif variant.startswith("v2"):
        msmt17(root, "v2")
    elif variant.startswith("classic"):
        put(root / f"images_{variant.partition('-')[2]}", *cuhk03_names())
        people = [list(person) for person in CUHK03_PEOPLE[1:3]]
        (root / "testsets.json").write_text(str([people]), encoding="utf-8")
    else:
        TWINS[name](root)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_the_protocols_of_a_set_find_the_labels_that_they_need(
    name: str, variant: str, tmp_path: Path
) -> None:
    twin_of(name, variant, tmp_path)
    dataset = load(name, tmp_path, variant or None)
    query, gallery = Labels.of_samples(dataset.query), Labels.of_samples(dataset.gallery)
    offered = {protocol.name: protocol for protocol in PROTOCOLS}
    assert dataset.protocols
    for protocol_name in dataset.protocols:
        search = Search(offered[protocol_name], query, gallery)
        answerable = 0
        for row in range(len(search.query_rows)):
            own, junk = search.own(row)
            answerable += bool(len(own) and not junk.all())
        assert answerable, f"{protocol_name}: no query of the twin can be answered"


def test_junk_and_distractors_count_as_nobody(tmp_path: Path) -> None:
    TWINS["market1501"](tmp_path)
    assert counts_of(load("market1501", tmp_path))["gallery"] == Counts(5, 2, 4)


def test_the_readme_has_every_set_and_every_official_count() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    lines = text.partition("## Data sets")[2].partition("\n## ")[0].splitlines()
    rows: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith(("| `", "| |")):
            name = line.split("`")[1] if line.startswith("| `") else name
            rows[name] = rows.get(name, "") + line
    del rows["--data"]
    assert sorted(rows) == sorted(TWINS)
    for benchmark in BENCHMARKS:
        for variant, splits in benchmark.counts.items():
            assert not variant or f"`{variant}`" in rows[benchmark.name]
            for counts in splits.values():
                for number in (counts.images, counts.people):
                    assert number is None or f"{number:,}" in rows[benchmark.name]
