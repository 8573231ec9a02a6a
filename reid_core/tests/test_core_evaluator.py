"""What a run asks of retrieval: its library, re-ranking beside the plain result, its own errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from reid_core.cli.run import gains
from reid_core.config import EvaluationSection
from reid_core.contract.samples import DataSet
from reid_core.errors import ConfigError, DataError, own_errors
from reid_core.evaluation.evaluating import Evaluator
from reid_core.loop.trainer import Trainer
from reid_core.testing.tiny import tiny_assembly
from reid_retrieval import errors, products
from reid_retrieval.products import HOST_LIBRARIES, trials
from reid_retrieval.protocols import CROSS_CLOTHES, STANDARD
from reid_retrieval.reranking import k_reciprocal

POSSIBLE = [library for library in HOST_LIBRARIES if not trials()[library].problem]


@pytest.mark.parametrize("library", [*POSSIBLE, "auto"])
def test_a_run_multiplies_by_the_library_of_its_settings(
    library: str, toy_tiny: DataSet, reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(products.ENVIRONMENT, "torch")  # counts where the settings say nothing
    embedder = tiny_assembly((), {}, cache=reid_cache).embedder()
    chosen = EvaluationSection.model_validate({"products": library})
    evaluator = Evaluator(toy_tiny, (STANDARD,), chosen, torch.device("cpu"))
    (result,) = evaluator.evaluate(embedder).results
    assert result.products == ("torch" if library == "auto" else library)
    with pytest.raises(ValidationError, match="'numpy', 'torch', 'onednn' or 'cuda'"):
        EvaluationSection.model_validate({"products": "blas"})


def test_evaluation_reports_both_results(reid_cache: Path) -> None:
    evaluation = {
        "protocols": ["standard", "no-camera"],
        "reranking": "k_reciprocal",
        "reranking_k1": 4,
        "reranking_k2": 2,
        "reranking_lambda": 0.5,
    }
    trainer = Trainer(tiny_assembly((), {"evaluation": evaluation}, cache=reid_cache))
    events: list[Any] = []
    trainer.emit = events.append  # type: ignore[method-assign]
    found = trainer.evaluate("end")
    assert found is not None
    names = ["standard", "no-camera", "standard+rerank", "no-camera+rerank"]
    assert [result.label for result in found.results] == names
    assert list(events[0].results) == names
    assert [result.protocol for result in found.results] == ["standard", "no-camera"] * 2
    text = "k-reciprocal zhong k1=4 k2=2 lambda=0.5"
    assert [result.reranking for result in found.results] == ["none", "none", text, text]
    assert found.results[0].metrics() != found.results[2].metrics()
    assert gains(found.results, found.results)[2].startswith("standard+rerank: rank-1")


def test_what_retrieval_refuses_is_an_error_of_the_core(toy_tiny: DataSet) -> None:
    naked = replace(toy_tiny, query=tuple(replace(s, clothes=-1) for s in toy_tiny.query))
    settings = EvaluationSection()
    evaluator = Evaluator(naked, (CROSS_CLOTHES,), settings, torch.device("cpu"))
    with pytest.raises(
        DataError, match=r"compares outfits, but .* query images have none"
    ) as found:
        evaluator.check()
    assert isinstance(found.value.__cause__, errors.DataError)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(errors.DataError, DataError), (errors.ConfigError, ConfigError)],
)
def test_errors_keep_their_text(theirs: type[Exception], ours: type[Exception]) -> None:
    with pytest.raises(ours, match=r"^what and where$"), own_errors():
        raise theirs("what and where")


def test_both_rankings_compare_by_the_distance_of_the_settings(toy_tiny: DataSet) -> None:
    """By re-ranking's own definition, on features whose lengths matter."""
    settings = EvaluationSection(
        distance="euclidean", reranking="k_reciprocal", reranking_k1=5, reranking_k2=3
    )
    evaluator = Evaluator(toy_tiny, (STANDARD,), settings, torch.device("cpu"))
    plain, reranked = evaluator._comparisons()
    assert plain == "euclidean"
    rng = np.random.default_rng(0)
    query, gallery = (
        rng.normal(size=(n, 4)).astype(np.float32) * rng.uniform(0.2, 5, (n, 1)).astype(np.float32)
        for n in (6, 20)
    )

    def similarities(make: Any) -> NDArray[np.float32]:
        out = np.empty((len(query), len(gallery)), np.float32)
        make(query, gallery).fill(0, len(query), out)
        return out

    found, cosine = (
        similarities(k_reciprocal(k1=5, k2=3, weight=0.3, distance=distance))
        for distance in ("euclidean", "cosine")
    )
    np.testing.assert_array_equal(similarities(reranked), found)
    assert not np.allclose(found, cosine)
