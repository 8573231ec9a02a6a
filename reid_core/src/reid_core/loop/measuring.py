"""What plugins measure of an evaluated model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from reid_core.contract.names import check_owned
from reid_core.contract.views import EvaluationView
from reid_core.errors import PluginError
from reid_core.evaluation.evaluating import Evaluator
from reid_core.loop.assembly import Assembly
from reid_core.model.modes import evaluating
from reid_retrieval.results import Evaluation


def measure(
    assembly: Assembly,
    evaluator: Evaluator,
    when: str,
    evaluation: Evaluation,
    results: Mapping[str, Mapping[str, Any]],
) -> dict[str, float]:
    """Return the numbers of all plugins by name; the assembly notes of which less is better.

    Args:
        assembly: the run, its model as it was evaluated.
        evaluator: what evaluated it.
        when: which evaluation of the run this is.
        evaluation: features.
        results: what is stored under each protocol.

    Raises:
        PluginError: a foreign name, a name twice, or a number that is not finite.
    """
    if not assembly.calls.implementers("reid_metrics"):
        return {}
    view = EvaluationView(
        when,
        evaluator.dataset,
        evaluation.query.features,
        evaluation.gallery.features,
        results,
        partial(evaluator.output, assembly.model),
    )
    found: dict[str, float] = {}
    with evaluating(assembly.model), torch.inference_mode():
        for owner, metric in assembly.calls.metrics(assembly.ctx, view):
            check_owned(owner, "metric", metric.name)
            value = float(metric.value)
            if metric.name in found or not math.isfinite(value):
                wrong = "is returned twice" if metric.name in found else f"is {value}"
                raise PluginError(f"plugin '{owner}': metric '{metric.name}' {wrong}")
            found[metric.name] = value
            if metric.smaller_is_better:
                assembly.smaller_is_better.add(metric.name)
    return found


def all_metrics(
    evaluators: Sequence[Evaluator], evaluations: Sequence[Evaluation]
) -> dict[str, float]:
    """Return what plugins measured on all test sets, ``DATA/`` in front where there are several."""
    return {
        f"{evaluator.label}/{name}" if evaluator.label else name: value
        for evaluator, one in zip(evaluators, evaluations, strict=False)
        for name, value in one.metrics.items()
    }
