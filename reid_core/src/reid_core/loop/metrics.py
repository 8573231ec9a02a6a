"""Running means of a step's reports, fetched from the device only when they are wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from reid_core.contract.views import UpdateReport
from reid_core.errors import ReidError, did_you_mean


class StepMetrics:
    """Sum loss terms on the device; one copy to the host per `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._weights: dict[str, float] = {}
        self.seen: set[str] = set()
        """Names of all loss terms so far."""

    def add(self, reports: Mapping[str, UpdateReport]) -> None:
        """Add the reports of a step."""
        for update, report in reports.items():
            prefix = "" if update == "main" else f"{update}:"
            values = {f"loss/{prefix}{name}": value for name, value in report.terms.items()}
            values[f"total/{update}"] = report.total
            for name, value in values.items():
                known = self._sums.get(name)
                self._sums[name] = value if known is None else known + value
                self._counts[name] = self._counts.get(name, 0) + 1
            self._weights |= {f"weight/{prefix}{n}": w for n, w in report.weights.items()}
            self.seen |= set(report.terms)

    def take(self) -> dict[str, float]:
        """Return the means since the last call, weights included, and start anew.

        Raises:
            ReidError: a loss is not finite; the terms are named.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        values = torch.stack([self._sums[name] for name in names]).tolist()
        scalars = {n: v / self._counts[n] for n, v in zip(names, values, strict=True)}
        bad = [name for name, value in scalars.items() if not math.isfinite(value)]
        if bad:
            raise ReidError(
                f"the loss is not finite ({', '.join(bad)}): lower optim.lr, set optim.clip_norm, "
                "or use engine.precision = 'fp32'"
            )
        weights, self._weights = self._weights, {}
        self._sums, self._counts = {}, {}
        return {**scalars, **weights}


def check_loss_weights(chosen: Iterable[str], seen: set[str]) -> None:
    """Refuse weights of loss terms that no update has.

    Raises:
        ReidError: naming the term and the nearest one that exists.
    """
    for name in chosen:
        if name not in seen:
            raise ReidError(
                f"loss_weights names '{name}', but no update has this term"
                f"{did_you_mean(name, seen)} (terms: {', '.join(sorted(seen))})"
            )
