"""Which vector is compared, and how the mirrored image's is added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from reid_core.config import EvaluationSection
from reid_core.contract.model import Vector
from reid_core.contract.samples import DataSet
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.extraction import extract, merge_mirrored
from reid_core.model.embedder import Embedder
from reid_core.testing.tiny import tiny_assembly
from reid_retrieval.protocols import STANDARD

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embedder(reid_cache: Path) -> Embedder:
    settings = {"model": {"neck": "fc_bn", "dim": 24}, "engine": {"channels_last": False}}
    return tiny_assembly((), {}, settings, cache=reid_cache).embedder().eval()


@pytest.mark.parametrize(
    ("given", "kept"),
    [(True, "sum"), (False, "off"), ("sum", "sum"), ("unit-sum", "unit-sum"), ("off", "off")],
)
def test_flip_says_how_it_is_merged(given: object, kept: str) -> None:
    assert EvaluationSection.model_validate({"flip": given}).flip == kept


def test_another_way_to_merge_is_refused() -> None:
    with pytest.raises(ValidationError, match="'off', 'sum' or 'unit-sum'"):
        EvaluationSection.model_validate({"flip": "mean"})


def test_mirrored_features_are_added_as_they_are_or_with_length_one() -> None:
    plain, mirrored = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]])
    assert merge_mirrored(plain, mirrored, "sum").tolist() == [[3.0, 14.0]]
    assert merge_mirrored(plain, mirrored, "unit-sum")[0].tolist() == pytest.approx([0.6, 1.8])


@pytest.mark.parametrize(("vector", "width"), [("raw", 96), ("neck", 24), ("unit", 24)])
def test_the_vector_that_is_asked_for_is_extracted(
    embedder: Embedder, toy_tiny: DataSet, vector: Vector, width: int
) -> None:
    samples = toy_tiny.query[:4]
    assert embedder.width(vector) == width
    found = extract(embedder, samples, CPU, vector=vector)
    assert found.shape == (4, width)
    unit = extract(embedder, samples, CPU)
    if vector == "unit":
        assert found.tolist() == unit.tolist()
    if vector == "neck":
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        np.testing.assert_allclose(found / lengths, unit, atol=1e-6)
    if vector != "unit":
        assert not np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-2)


def test_flip_of_raw_vectors_depends_on_how_they_are_merged(
    embedder: Embedder, toy_tiny: DataSet
) -> None:
    samples = toy_tiny.query[:4]
    off = extract(embedder, samples, CPU, vector="raw")
    summed = extract(embedder, samples, CPU, vector="raw", flip="sum")
    units = extract(embedder, samples, CPU, vector="raw", flip="unit-sum")
    mirrored = summed - off
    wanted = sum(f / np.linalg.norm(f, axis=1, keepdims=True) for f in (off, mirrored))
    np.testing.assert_allclose(units, wanted, atol=1e-5)
    assert not np.allclose(mirrored, off)


def test_results_say_which_vectors_were_compared(embedder: Embedder, toy_tiny: DataSet) -> None:
    settings = EvaluationSection(vector="raw", flip="unit-sum", distance="euclidean")
    raw = Evaluator(toy_tiny, (STANDARD,), settings, CPU).evaluate(embedder).results[0]
    assert raw.comparison == "euclidean of raw core/global, flip unit-sum, re-ranking none"
    declared = Evaluator(toy_tiny, (STANDARD,), EvaluationSection(), CPU).evaluate(embedder)
    told = declared.results[0].comparison
    assert told == "cosine of unit core/global, flip off, re-ranking none"
