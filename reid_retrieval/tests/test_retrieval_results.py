"""Results: their names, lines and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from reid_retrieval.labels import Labels
from reid_retrieval.protocols import NO_CAMERA, STANDARD, EveryGallery, SingleShot
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


def every_gallery() -> RetrievalResult:
    protocol = replace(NO_CAMERA, ranks=(1, 2), max_rank=2, single_shot=EveryGallery())
    return evaluate_distances(DISTANCES, QUERIES, GALLERY, protocol, per_query=True)


def test_metrics_of_all_images() -> None:
    # Query 0 has matches at ranks 1 and 4, query 1 at 3 and 4, query 2 none.
    assert multi_shot().metrics() == pytest.approx(
        {
            "mAP": (3 / 4 + (1 / 3 + 2 / 4) / 2) / 2,
            "mAP_trapezoid": (((1 + 1) + (1 / 3 + 2 / 4)) / 4 + ((0 + 1 / 3) + (1 / 3 + 2 / 4)) / 4)
            / 2,
            "mINP": (2 / 4 + 2 / 4) / 2,
            "rank1": 1 / 2,
            "rank3": 1.0,
        },
        abs=1e-12,
    )


def test_metrics_of_single_images_are_called_mrr() -> None:
    # Query 0: rank 1, then rank 2; query 1: rank 2 both times.
    assert single_shot().metrics() == pytest.approx(
        {
            "MRR": (3 / 4 + 1 / 2) / 2,
            "rank1": 1 / 4,
            "rank2": 1.0,
            "MRR_std": 1 / 8,
            "rank1_std": 1 / 4,
            "rank2_std": 0.0,
        },
        abs=1e-12,
    )


def test_the_mean_over_every_gallery_has_no_spread() -> None:
    # Query 0 sees one of rows 0 and 1 (ranks 1 and 2 or, against row 2 or 3, both behind):
    # row 0 is always first, row 1 always second. Query 1: rows 2, 3 behind either of 0, 1.
    assert every_gallery().metrics() == pytest.approx(
        {"MRR": (3 / 4 + 1 / 2) / 2, "rank1": 1 / 4, "rank2": 1.0}, abs=1e-12
    )
    scores = every_gallery().per_query
    assert scores is not None
    assert scores.first_hit.tolist() == pytest.approx([1.5, 2.0])
    assert scores.average_precision_trapezoid.tolist() == pytest.approx([5 / 8, 1 / 4])


def test_one_line() -> None:
    assert multi_shot().summary() == (
        "standard: mAP 58.3, mAP(trapezoid) 50.0, mINP 50.0, R1 50.0, R3 100.0 "
        "(2/3 queries valid in 4 images, means over valid, "
        "given distances of unit core/global, flip sum, re-ranking none)"
    )
    assert single_shot().summary() == (
        "no-camera: MRR 62.5 ±12.5, R1 25.0 ±25.0, R2 100.0 ±0.0 "
        "(2/3 queries valid in 4 images, means over valid, "
        "given distances, flip off, re-ranking none, 2 galleries)"
    )
    reranked = replace(multi_shot(), reranking="k-reciprocal(20, 6, 0.3)")
    assert ", re-ranking k-reciprocal(20, 6, 0.3))" in reranked.summary()
    assert ", re-ranking none, all galleries)" in every_gallery().summary()


def test_many_ties_are_mentioned() -> None:
    tied = evaluate_distances(np.ones((3, 4)), QUERIES, GALLERY)
    assert tied.summary().endswith(", ties in 2 queries)")
    assert "ties" not in multi_shot().summary()


def test_text_says_what_the_numbers_depend_on() -> None:
    assert multi_shot().text == (
        "standard v1: query all; gallery all; multi-shot; junk same pid & same camid; "
        "pid -1 dropped; means over valid queries; given distances of unit core/global, "
        "flip sum, re-ranking none; ties by gallery index; 2/3 queries valid"
    )
    assert "single-shot x2 seed 0" in single_shot().text
    assert "; galleries given; " in single_shot().text
    assert "galleries given" not in replace(single_shot(), drawn="seed").text


def test_json() -> None:
    stored = json.loads(json.dumps(multi_shot().to_json(), allow_nan=False))
    assert stored["metrics"] == multi_shot().metrics()
    assert stored["text"] == multi_shot().text
    assert stored["cmc"] == [0.5, 0.5, 1.0, 1.0]
    assert set(stored["definitions"]) == {"mAP", "mAP_trapezoid"}
    assert (stored["valid_queries"], stored["total_queries"], stored["gallery_images"]) == (2, 3, 4)
    assert (stored["distance"], stored["reranking"]) == ("given distances", "none")
    assert (stored["ties"], stored["tied_queries"]) == ("gallery index", 0)
    assert stored["rules"] == multi_shot().protocol_text
    assert (stored["flip"], stored["fingerprint"]) == ("sum", "abc123")
    assert (stored["features"], stored["denominator"]) == ("unit core/global", "valid")
    assert (stored["trials"], stored["drawn"]) == (0, None)
    single = json.loads(json.dumps(single_shot().to_json(), allow_nan=False))
    assert set(single["definitions"]) == {"MRR"}
    assert (single["trials"], single["drawn"]) == (2, "given")
    every = json.loads(json.dumps(every_gallery().to_json(), allow_nan=False))
    assert set(every["definitions"]) == {"MRR"}
    assert (every["trials"], every["drawn"]) == (0, "every")


def test_invalid_queries_count_where_the_protocol_says_so() -> None:
    everyone = replace(STANDARD, denominator="all", ranks=(1,), max_rank=4)
    result = evaluate_distances(DISTANCES, QUERIES, GALLERY, everyone)
    assert result.mean_ap == pytest.approx(multi_shot().mean_ap * 2 / 3, abs=1e-12)
    assert result.mean_inp == pytest.approx(1 / 3, abs=1e-12)
    assert result.cmc == pytest.approx((1 / 3, 1 / 3, 2 / 3, 2 / 3), abs=1e-12)


def test_scores_of_single_queries_are_kept_on_request() -> None:
    assert multi_shot().per_query is None
    result = evaluate_distances(DISTANCES, QUERIES, GALLERY, per_query=True)
    assert result.per_query is not None
    assert result.per_query.rows.tolist() == [0, 1]
    assert result.per_query.first_hit.tolist() == [1, 3]


def test_ties_are_mentioned_from_a_twentieth_of_the_queries_on() -> None:
    few, many = (
        replace(multi_shot(), valid_queries=100, tied_queries=count).summary() for count in (5, 6)
    )
    assert "ties" not in few
    assert many.endswith(", ties in 6 queries)")
