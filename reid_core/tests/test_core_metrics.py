"""Numbers that plugins measure of an evaluated model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_core import ConfigError, Evaluated, EvaluationView, Metric, Plugin, PluginError, hookimpl
from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_retrieval.results import Evaluation


def measured(
    hook: Callable[[Any, EvaluationView], Any], cache: Path, **evaluation: Any
) -> tuple[Evaluation, list[Evaluated], Recorder]:
    """Evaluate once; return what was found, and what observers saw of it."""
    seen: list[Evaluated] = []

    class Ant(Plugin):
        @hookimpl
        def reid_metrics(self, ctx: Any, evaluation: EvaluationView) -> Any:
            return hook(ctx, evaluation)

        @hookimpl
        def reid_observe(self, event: Any, ctx: Any) -> None:
            assert ctx.model is not None
            seen.append(event)

    settings = {"evaluation": evaluation}
    trainer = Recorder(tiny_assembly(["ant"], settings, cache=cache, classes={"ant": Ant}))
    found = trainer.evaluate("final")
    assert found is not None
    return found, seen, trainer


def test_the_hook_sees_features_results_and_outputs_in_evaluation_mode(reid_cache: Path) -> None:
    def hook(ctx: Any, view: EvaluationView) -> list[Metric]:
        assert not ctx.model.training
        assert not torch.is_grad_enabled()
        for split, features in (("query", view.query), ("gallery", view.gallery)):
            assert len(features) == len(getattr(view.dataset, split))
            pooled = view.outputs(split, "core/pooled")
            maps = view.outputs(split, "encoder/map")
            assert maps.ndim == 4
            np.testing.assert_allclose(maps.mean((2, 3)), pooled, rtol=1e-4, atol=1e-5)
        share = view.results["standard"]["metrics"]["mAP"]
        return [Metric("ant/half", share / 2), Metric("ant/when", float(view.when == "final"))]

    found, seen, trainer = measured(hook, reid_cache)
    expected = {"ant/half": found.results[0].mean_ap / 2, "ant/when": 1.0}
    assert found.metrics == expected
    assert [event.metrics for event in seen] == [expected]
    assert trainer.assembly.model.training, "its mode is given back"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([Metric("gnu/x", 1.0)], "'ant': metric 'gnu/x' is outside its own names"),
        ([Metric("ant/x", 1.0)] * 2, "metric 'ant/x' is returned twice"),
        ([Metric("ant/x", float("nan"))], "metric 'ant/x' is nan"),
        ([1.0], "hook reid_metrics: must return Metric, got float"),
        ({"ant/x": 1.0}, "hook reid_metrics: must return a list, got dict"),
    ],
)
def test_a_wrong_answer_is_refused(answer: Any, said: str, reid_cache: Path) -> None:
    with pytest.raises(PluginError, match=said):
        measured(lambda ctx, view: answer, reid_cache)


@pytest.mark.parametrize(
    ("split", "name", "said"),
    [
        ("query", "core/poled", "there is no output 'core/poled'; did you mean 'core/pooled'"),
        ("train", "core/pooled", "there is no split 'train'"),
    ],
)
def test_an_output_that_is_not_there_is_named(
    split: str, name: str, said: str, reid_cache: Path
) -> None:
    with pytest.raises(PluginError, match=f"'ant', hook reid_metrics: {said}"):
        measured(lambda ctx, view: view.outputs(split, name), reid_cache)


def test_a_number_of_nobody_selects_nothing(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gnu/x' is no number of this run.*ant/\.\.\.\)"):
        measured(lambda ctx, view: [], reid_cache, select_by="gnu/x")
    measured(lambda ctx, view: [], reid_cache, select_by="rank1")
