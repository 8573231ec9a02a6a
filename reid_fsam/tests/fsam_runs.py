"""Tiny runs of the plugin, shared by its tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_core.loop.assembly import Assembly
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import first_forward, tiny_assembly

TINY = {"parser_data": "toy:tiny", "parser_epochs": 1, "parser_iterations": 2}
"""A parser of the plugin's stage in a second."""


def fsam(
    cache: Path,
    *others: str,
    settings: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    **sections: Any,
) -> Assembly:
    """Assemble a tiny run of the plugin, with settings over `TINY` and sections over the run's."""
    plugins = {"fsam": {**TINY, **(settings or {})}, **sections.pop("plugins", {})}
    layers = {"plugins": plugins, **sections}
    return tiny_assembly(("fsam", *others), layers, cache=cache, classes=PROBES, folder=folder)


def gradients(assembly: Assembly, *terms: str) -> dict[str, Tensor]:
    """Return the gradients of some terms, all others at weight 0 but none left out of the trace.

    Args:
        assembly: of a run whose ``loss_weights`` leave only ``terms``.
        terms: what must be left.
    """
    loss, report = first_forward(assembly)
    left = {name for name, weight in report.weights.items() if weight}
    assert left == set(terms), f"{left} have weight, not {terms}"
    loss.backward()
    return {
        name: parameter.grad
        for name, parameter in assembly.model.named_parameters()
        if parameter.grad is not None
    }


ALL = (
    "core/global/ce",
    "core/global/triplet",
    "fsam/divergence",
    "fsam/keep",
    "fsam/shape/ce",
    "fsam/shape/triplet",
    "fsam/similarity",
)


def alone(*terms: str, among: tuple[str, ...] = ALL) -> dict[str, float]:
    """Return ``loss_weights`` that leave some terms alone."""
    return {name: 0.0 for name in among if name not in terms}


def moved(found: Mapping[str, Tensor], part: str) -> float:
    """Return the largest gradient of a part of the model, by the prefix of its parameters."""
    values = [grad.abs().max() for name, grad in found.items() if name.startswith(part)]
    return float(torch.stack(values).max()) if values else 0.0
