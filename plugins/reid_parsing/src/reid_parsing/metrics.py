"""Pixel accuracy and intersection over union, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import DataError


class Confusion:
    """Count pairs of true and found classes over many label maps.

    Args:
        classes: class names in the order of their values.

    Attributes:
        counts: int64 ``K K``: rows are true classes, columns what was found.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts = np.zeros((len(self.classes), len(self.classes)), np.int64)

    def add(self, truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> None:
        """Count the pixels of one label map.

        Raises:
            DataError: sizes differ, or a label lies outside the classes.
        """
        count = len(self.classes)
        if truth.shape != found.shape:
            raise DataError(f"label maps of different sizes: {truth.shape} and {found.shape}")
        for name, labels in (("true", truth), ("found", found)):
            if labels.size and int(labels.max()) >= count:
                raise DataError(f"{name} label {labels.max()} among {count} classes")
        pairs = truth.astype(np.int64).ravel() * count + found.ravel()
        self.counts += np.bincount(pairs, minlength=count * count).reshape(count, count)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels whose class was found; NaN without pixels."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of every class; NaN where it is neither true nor found."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hit
        found: NDArray[np.float64] = np.full(len(hit), np.nan)
        np.divide(hit, union, out=found, where=union > 0)
        return found

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that are true or found; NaN without pixels."""
        known = self.iou[~np.isnan(self.iou)]
        return float(known.mean()) if len(known) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain data."""
        per_class = {
            name: None if np.isnan(value) else round(float(value), 6)
            for name, value in zip(self.classes, self.iou, strict=True)
        }
        return {
            "pixel_accuracy": round(self.pixel_accuracy, 6),
            "mean_iou": round(self.mean_iou, 6),
            "iou": per_class,
        }


class PlaceFrequency:
    """Know how often every class lies at every place: the guess that a parser must beat.

    Args:
        classes: number of classes.
        size: height and width of the grid.
    """

    def __init__(self, classes: int, size: tuple[int, int]) -> None:
        self._counts = np.zeros((classes, *size), np.int64)
        self.size = size

    def add(self, labels: NDArray[np.uint8]) -> None:
        """Count one label map of the grid's size."""
        rows, columns = np.indices(self.size)
        self._counts[labels, rows, columns] += 1

    @property
    def guess(self) -> NDArray[np.uint8]:
        """The most frequent class of every place, uint8 ``H W``."""
        frequent: NDArray[np.uint8] = self._counts.argmax(0).astype(np.uint8)
        return frequent
