"""Scores of a training loop's own features: update, compute, reset, as torchmetrics has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FloatArray, as_float32
from reid_retrieval.public import evaluate
from reid_retrieval.results import RetrievalResult

if TYPE_CHECKING:
    from reid_retrieval.features import FeatureArray
    from reid_retrieval.precision import Precision
    from reid_retrieval.public import ProtocolSource
    from reid_retrieval.similarities import SimilarityMaker

Side = Literal["query", "gallery"]


class RetrievalMetric:
    """Collect features batch by batch, and score them exactly.

    The features of an epoch are kept on the host, in float32; scoring them needs about 100 MB more,
    whatever their number. Of several processes, each collects its own part and one merges them.

    Args:
        protocol, distance, rerank, precision: as for [evaluate][reid_retrieval.public.evaluate].

    Example:
        >>> metric = RetrievalMetric("no-camera")
        >>> metric.update("gallery", [[1.0, 0.0], [0.0, 1.0]], pid=[1, 2])
        >>> metric.update("query", [[0.9, 0.1]], pid=[1])
        >>> metric.compute().metrics()["rank1"]
        1.0
        >>> metric.reset()
    """

    def __init__(
        self,
        protocol: ProtocolSource | list[Any] | tuple[ProtocolSource, ...] = "standard",
        *,
        distance: str | SimilarityMaker = "cosine",
        rerank: bool | Mapping[str, Any] = False,
        precision: Precision = "auto",
    ) -> None:
        self._protocol = protocol
        self._options: dict[str, Any] = {
            "distance": distance,
            "rerank": rerank,
            "precision": precision,
        }
        self.reset()

    def reset(self) -> None:
        """Forget everything that was collected."""
        self._sides: dict[str, _Collected] = {"query": _Collected(), "gallery": _Collected()}

    def update(self, side: Side, features: FeatureArray | ArrayLike, **labels: ArrayLike) -> None:
        """Add a batch of images.

        Args:
            side: ``query`` or ``gallery``.
            features: ``n D``, array or tensor of any device; copied.
            labels: ``n`` values each, arrays, tensors or sequences: ``pid``, and what the protocol
                compares (``camid``, ``clothes``, ...); the same names in every batch of a side.

        Raises:
            ConfigError: there is no such side.
            DataError: labels and features do not fit each other or the batches before.
        """
        if side not in self._sides:
            raise ConfigError(f"there are the sides query and gallery, not '{side}'")
        given: Any = features
        rows = as_float32(given if hasattr(given, "shape") else np.asarray(given))
        self._sides[side].add(side, rows, {key: _column(v) for key, v in labels.items()})

    def merge(self, others: Iterable[RetrievalMetric]) -> None:
        """Add what other processes have collected, in their order; they are left as they are."""
        for other in others:
            for side, found in other._sides.items():
                if len(found):
                    self._sides[side].add(side, found.features, found.labels())

    def compute(self) -> RetrievalResult | tuple[RetrievalResult, ...]:
        """Return the scores of all that was collected.

        Returns:
            As of [evaluate][reid_retrieval.public.evaluate]: one result, or a tuple where several
            protocols are asked for. ``result.metrics()`` has plain numbers for a logger.

        Raises:
            DataError: a side is empty, or as `evaluate` does.
        """
        query, gallery = self._sides["query"], self._sides["gallery"]
        for side, found in self._sides.items():
            if not len(found):
                raise DataError(f"no {side} features were collected: call update('{side}', ...)")
        return evaluate(
            query.features,
            gallery.features,
            query.labels(),
            gallery.labels(),
            self._protocol,
            **self._options,
        )


class _Collected:
    """Rows that grow: memory doubles where it does not suffice, so that adding stays cheap."""

    def __init__(self) -> None:
        self._rows: FloatArray = np.empty((0, 0), np.float32)
        self._count = 0
        self._labels: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def features(self) -> FloatArray:
        return self._rows[: self._count]

    def labels(self) -> dict[str, Any]:
        return {key: np.concatenate(parts) for key, parts in self._labels.items()}

    def add(self, side: str, rows: FloatArray, labels: Mapping[str, Any]) -> None:
        if "pid" not in labels:
            raise DataError(f"a batch of the {side} side has no label 'pid'")
        for key, values in labels.items():
            if values.shape != (len(rows),):
                raise DataError(
                    f"{len(rows)} rows of features, but label '{key}' of shape {values.shape}"
                )
        if self._count and labels.keys() != self._labels.keys():
            raise DataError(
                f"batches of the {side} side carried {', '.join(sorted(self._labels))}, this one "
                f"carries {', '.join(sorted(labels))}"
            )
        if self._count and rows.shape[1] != self._rows.shape[1]:
            raise DataError(
                f"features of the {side} side had {self._rows.shape[1]} dimensions, these have "
                f"{rows.shape[1]}"
            )
        needed = self._count + len(rows)
        if not self._count or needed > len(self._rows):
            larger = np.empty((max(needed, 2 * self._count), rows.shape[1]), np.float32)
            if self._count:
                larger[: self._count] = self._rows[: self._count]
            self._rows = larger
        self._rows[self._count : needed] = rows
        self._count = needed
        for key, values in labels.items():
            self._labels.setdefault(key, []).append(values)


def _column(values: Any) -> Any:
    # A tensor is recognised by its methods, so that arrays are collected without importing torch.
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.array(values)
