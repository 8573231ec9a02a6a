"""Results as a table for the terminal."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from reid_core.evaluation.tables import results_table
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import NO_CAMERA, STANDARD, SingleShot
from reid_retrieval.results import Provenance, RetrievalResult
from reid_retrieval.retrieval import evaluate_distances

QUERIES = Labels([1, 2, 9], [0, 0, 0])
GALLERY = Labels([1, 1, 2, 2], [1, 1, 1, 1])
DISTANCES = [[0.1, 0.4, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]


def multi_shot() -> RetrievalResult:
    protocol = replace(STANDARD, ranks=(1, 3), max_rank=4)
    provenance = Provenance("sum", "abc123", "unit core/global")
    return evaluate_distances(DISTANCES, QUERIES, GALLERY, protocol, provenance=provenance)


def single_shot() -> RetrievalResult:
    protocol = replace(NO_CAMERA, ranks=(1, 2), max_rank=2, single_shot=SingleShot(2))
    draws = [[0, 2], [1, 2]]
    return evaluate_distances(DISTANCES, QUERIES, GALLERY, protocol, draws=draws)


def shown(results: list[RetrievalResult]) -> list[str]:
    """Return the lines of a table in a terminal of 80 columns, spaces made single."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results_table(results))
    return [" ".join(line.split()) for line in capture.get().splitlines() if line.strip()]


def test_table_of_both_kinds() -> None:
    reranked = replace(multi_shot(), protocol="[again]", reranking="k-reciprocal")
    title, header, _, *rows = shown([multi_shot(), single_shot(), reranked])
    assert title == "Evaluation"
    assert header == "protocol mAP MRR trap. mINP R1 R2 R3"
    text = " ".join(rows)
    for row in (
        "standard 58.3 50.0 50.0 50.0 100.0 2/3 in 4, given distances of unit core/global, "
        "flip sum, re-ranking none",
        "no-camera 62.5 25.0 100.0 2/3 in 4, given distances, flip ±12.5 ±25.0 ±0.0 off, "
        "re-ranking none",
        "[again]+rerank 58.3 50.0 50.0 50.0 100.0 2/3 in 4, given distances of unit core/global, "
        "flip sum, re-ranking k-reciprocal",
    ):
        assert row in text
    assert rows[-3:] == [
        "valid/total queries in gallery images; means over valid queries",
        "mAP: precision at each match (step); trap.: the same by the trapezoid rule",
        "MRR: mean of 1 / rank of the only match; not to be read against mAP",
    ]


def test_what_all_results_share_is_said_once_below_the_table() -> None:
    _, _, _, *rows = shown([multi_shot(), multi_shot()])
    assert rows == [
        *("standard 58.3 50.0 50.0 50.0 100.0", "2/3 in 4") * 2,
        "given distances of unit core/global, flip sum, re-ranking none",
        "valid/total queries in gallery images; means over valid queries",
        "mAP: precision at each match (step); trap.: the same by the trapezoid rule",
    ]


def test_table_cuts_no_number_at_80_columns() -> None:
    protocol = replace(STANDARD, name="a/protocol/with/a/rather/long/name/single-shot@10")
    long = evaluate_distances(DISTANCES, QUERIES, GALLERY, protocol)
    _, header, _, *rows = shown([replace(long, gallery_images=82161), single_shot()])
    assert header == "protocol mAP MRR trap. mINP R1 R2 R5 R10 R20"
    assert rows[0].endswith(" 58.3 50.0 50.0 50.0 100.0 100.0 100.0")
    assert not any("…" in row for row in rows)


def test_table_without_single_shot_has_no_mrr() -> None:
    assert shown([multi_shot()])[1] == "protocol mAP trap. mINP R1 R3"
    assert shown([single_shot()])[1] == "protocol MRR R1 R2"
