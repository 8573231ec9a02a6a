"""Stored results: what is kept of every query, and how it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_core.contract.samples import DataSet, Sample, Source
from reid_core.evaluation.records import (
    image_names,
    plain_results,
    read_results,
    results_text,
    stored_results,
)
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import STANDARD, SingleShot
from reid_retrieval.results import Evaluation, Provenance
from reid_retrieval.retrieval import evaluate_all


def small(tmp_path: Path) -> tuple[DataSet, FeatureSet, FeatureSet]:
    """Two queries and five gallery images on a line; the gallery has one camera less than people.

    Query 0 (pid 7, at 0 degrees) ranks gallery rows 1, 0, 2, 4; row 3 is junk, of its own camera.
    Query 1 (pid 8) ranks row 4 first.
    """
    query = [Sample(tmp_path / "query" / f"{n}.png", pid, 0, 3) for n, pid in enumerate((7, 8))]
    people = [(9, 1), (7, 1), (7, 2), (7, 0), (8, 2)]
    gallery = [
        Sample(tmp_path / "gallery" / "c" / f"{n}.png", pid, camera)
        for n, (pid, camera) in enumerate(people)
    ]
    angles = np.radians([0, 90]), np.radians([10, 5, 20, 1, 80])
    sides = [
        FeatureSet(np.stack([np.cos(a), np.sin(a)], 1).astype(np.float32), Labels.of_samples(s))
        for a, s in zip(angles, (query, gallery), strict=True)
    ]
    dataset = DataSet("small", Source("main", ()), tuple(query), tuple(gallery))
    return dataset, sides[0], sides[1]


def test_every_query_keeps_its_scores_and_the_files_found_first(tmp_path: Path) -> None:
    dataset, queries, gallery = small(tmp_path)
    protocols = [STANDARD, replace(STANDARD, name="shots", single_shot=SingleShot(trials=2))]
    results = evaluate_all(queries, gallery, protocols, per_query=True, heads=3)
    standard, shots = stored_results(Evaluation(results, queries, gallery), dataset)
    assert standard["version"] == 2
    assert standard["rules"] == STANDARD.text
    first, second = standard["queries"]
    assert first == {
        "file": "query/0.png", "pid": 7, "camid": 0, "clothes": 3, "rank": 1,
        "AP": round((1 + 2 / 3) / 2, 6),
        "first": ["gallery/c/1.png", "gallery/c/0.png", "gallery/c/2.png"],
        "matches": [1, 3], "cameras": {"1": 1, "2": 3},
    }  # fmt: skip
    assert (second["rank"], second["AP"], second["cameras"]) == (1, 1.0, {"2": 1})
    # Of several galleries the first one is listed, and the scores are means over them.
    assert len(shots["queries"]) == 2
    assert shots["queries"][1]["first"][0] == "gallery/c/4.png"


def test_results_without_heads_store_no_queries(tmp_path: Path) -> None:
    dataset, queries, gallery = small(tmp_path)
    results = evaluate_all(queries, gallery, [STANDARD], per_query=True)
    (stored,) = stored_results(Evaluation(results, queries, gallery), dataset)
    assert stored["queries"] == []


def test_files_of_one_folder_are_named_alone(tmp_path: Path) -> None:
    one = Sample(tmp_path / "a.png", 0, 0)
    assert image_names(DataSet("one", Source("main", ()), (one,), (one,)), [one]) == ["a.png"]


def test_a_record_stands_on_one_line() -> None:
    content = {"short": [1, 2], "queries": [{"file": "é.png", "AP": 0.5}] * 30, "none": []}
    text = results_text(content)
    assert json.loads(text) == content
    assert text.splitlines().count('    {"file": "é.png", "AP": 0.5},') == 29
    assert '  "short": [1, 2],' in text.splitlines()


def test_results_come_back_from_plain_data(tmp_path: Path) -> None:
    _, queries, gallery = small(tmp_path)
    protocols = [STANDARD, replace(STANDARD, name="shots", single_shot=SingleShot(trials=2))]
    results = evaluate_all(queries, gallery, protocols, provenance=Provenance("sum", "f", "unit"))
    assert results[1].spread is not None
    assert read_results(json.loads(json.dumps(plain_results(results)))) == results
