"""Metrics: how the inner products of features become similarities.

A room of its own, for what compares in full (`similarities`) and what screens first (`screening`)
both stand on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_retrieval.errors import ConfigError, DataError, did_you_mean
from reid_retrieval.features import FloatArray, inverse_norms, squared_norms

if TYPE_CHECKING:
    from reid_retrieval.features import Rows


@dataclass(frozen=True)
class Metric:
    """How inner products become similarities, image by image.

    Args:
        name: for the record.
        terms: of features ``N D``, one number each, float32; refuses (`DataError`) features so
            small that float32 cannot hold their products.
        apply: ``apply(products, query_terms, gallery_terms)`` turns products into similarities in
            place; arrays, or tensors of one device, the terms shaped to fit the products.
    """

    name: str
    terms: Callable[[Rows], FloatArray]
    apply: Callable[[Any, Any, Any], None]


_SMALLEST = 1e-15
"""Norm below which products of two features come near 1e-38, where float32 loses their digits."""


def _scales(features: Rows) -> FloatArray:
    squared = squared_norms(features)
    _require_not_tiny(float(squared.min(where=squared > 0, initial=np.inf)), "the smallest")
    return inverse_norms(squared).astype(np.float32)


def _half_norms(features: Rows) -> FloatArray:
    squared = squared_norms(features)
    # Beside larger ones, small features are what they are: close to nothing.
    _require_not_tiny(float(squared.max(initial=0)), "the largest")
    with np.errstate(over="ignore"):
        return (squared / 2).astype(np.float32)


def _require_not_tiny(squared: float, which: str) -> None:
    """Refuse features whose products would all be 0, and so ties, in float32.

    Raises:
        DataError: the norm is above 0 and too small.
    """
    if 0 < squared < _SMALLEST**2:
        raise DataError(
            f"{which} norm of the features is {squared**0.5:.1e}: float32 cannot tell products of "
            f"features below {_SMALLEST:.0e} apart, they are nearly zero; scale them"
        )


def _scale(products: Any, query_terms: Any, gallery_terms: Any) -> None:
    products *= query_terms
    products *= gallery_terms


def _shift(products: Any, query_terms: Any, gallery_terms: Any) -> None:
    products -= gallery_terms


COSINE = Metric("cosine", _scales, _scale)
"""The cosine, in -1 .. 1; a feature of norm 0 has cosine 0 with everything.

The product is scaled, not the features: the gallery is not copied, and features that are exact in
float32 (small integers) give results that do not depend on the block's size.
"""

EUCLIDEAN = Metric("euclidean", _half_norms, _shift)
"""The Euclidean distance of the features as they are, not normalised.

The similarity is ``q.g - |g|^2 / 2 = (|q|^2 - |q - g|^2) / 2``: it orders a query's gallery as the
distance does and needs no square root of what may round below zero.
"""

METRICS = {metric.name: metric for metric in (COSINE, EUCLIDEAN)}
"""Metrics by name."""


def metric_of(name: str) -> Metric:
    """Return a metric by name.

    Raises:
        ConfigError: there is no distance of this name.
    """
    if name not in METRICS:
        known = ", ".join(METRICS)
        raise ConfigError(f"unknown distance '{name}'{did_you_mean(name, METRICS)}; known: {known}")
    return METRICS[name]
