"""Features of test images together with their labels, ready for retrieval."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.errors import DataError
from reid_retrieval.labels import IntArray, Labels

if TYPE_CHECKING:
    from torch import Tensor

    FeatureArray = NDArray[Any] | Tensor
    Rows = NDArray[np.float32] | Tensor

FloatArray = NDArray[np.float32]

_ROWS_AT_ONCE = 256
"""Rows whose norms are computed in float64 at a time: 4 MiB at 2048 dimensions."""


class FeatureSet:
    """Features of ``N`` images and their labels.

    Args:
        features: ``N D``, a tensor of any device or an array, of any floating or integer type;
            kept C-contiguous in float32, without a copy where it already is. What lies on another
            device stays there and is compared there.
        labels: of the same ``N`` images.

    Raises:
        DataError: ``features`` is not ``N D``, or there are not as many labels.
    """

    def __init__(self, features: FeatureArray, labels: Labels) -> None:
        self.rows = as_rows(features)
        self.labels = labels
        if len(labels) != len(self.rows):
            raise DataError(f"{len(self.rows)} rows of features, but labels of {len(labels)}")

    @property
    def features(self) -> FloatArray:
        """The features on the host, ``N D``; a copy only where they lie on another device."""
        return as_float32(self.rows)

    @classmethod
    def of_parts(
        cls,
        parts: Sequence[FeatureArray],
        labels: Labels,
        weights: Sequence[float] | None = None,
    ) -> FeatureSet:
        """Join several embeddings of the same images into one feature.

        Every part is L2-normalised, scaled by the square root of its weight and appended, so the
        inner product of two joined features is the weighted sum of the parts' cosines.

        Args:
            parts: ``N D_i`` each.
            labels: of the ``N`` images.
            weights: one per part, not negative; None weighs all parts alike.

        Raises:
            DataError: parts and weights do not fit each other, a weight is negative, or a part is
                not finite.
        """
        scales = [1.0] * len(parts) if weights is None else list(weights)
        if not parts or len(scales) != len(parts) or min(scales) < 0:
            raise DataError(f"{len(parts)} parts cannot be joined with weights {scales}")
        joined = []
        for number, (part, weight) in enumerate(zip(parts, scales, strict=True)):
            rows = as_float32(part)
            if len(rows) != len(labels):
                raise DataError(f"part {number} has {len(rows)} rows, but labels of {len(labels)}")
            require_finite(rows, f"part {number}")
            scale = np.sqrt(weight) * inverse_norms(squared_norms(rows))
            joined.append(rows * scale.astype(np.float32)[:, None])
        return cls(np.concatenate(joined, axis=1), labels)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray) -> FeatureSet:
        """Return some images in the order of ``rows``; the set itself if these are all of it."""
        if len(rows) == len(self) and bool((rows == np.arange(len(self))).all()):
            return self
        return FeatureSet(taken(self.rows, rows), self.labels.take(rows))


def as_float32(features: FeatureArray) -> FloatArray:
    """Return features ``N D`` as a C-contiguous float32 array on the host.

    Raises:
        DataError: the array has not two dimensions, or no numbers in it; finite numbers of it are
            too large or too small for float32.
    """
    # A tensor is recognised by its methods, so that arrays are evaluated without importing torch.
    if not isinstance(features, np.ndarray) and hasattr(features, "detach"):
        features = features.detach().float().cpu().numpy()
    array: NDArray[Any] = np.asarray(features)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise DataError(
            f"features must be numbers of shape N x D, not {array.dtype} of shape {array.shape}"
        )
    with np.errstate(over="ignore"):
        rows: FloatArray = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4 and array.size:
        _require_held(array, rows)
    return rows


def _require_held(given: NDArray[Any], rows: FloatArray) -> None:
    """Refuse finite numbers that became infinite in float32, and rows that became zero."""
    if not np.isfinite([rows.min(), rows.max()]).all():
        largest = max(abs(float(given.min())), abs(float(given.max())))
        if np.isfinite(largest):
            raise DataError(f"features of {largest:.1e} are too large for float32; scale them")
    empty = np.flatnonzero(~rows.any(axis=1))
    lost = empty[given[empty].any(axis=1)]
    if len(lost):
        raise DataError(
            f"{len(lost)} of {len(rows)} features, the first in row {lost[0]}, become zero in "
            "float32, they are nearly zero; scale them"
        )


def as_rows(features: FeatureArray) -> Rows:
    """Return features ``N D`` C-contiguous in float32, on the device where they are.

    Raises:
        DataError: as `as_float32` does.
    """
    if on_host(features):
        return as_float32(features)
    tensor = cast("Tensor", features).detach()
    if tensor.ndim != 2 or tensor.shape[1] == 0 or tensor.is_complex():
        raise DataError(
            f"features must be numbers of shape N x D, not {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    return tensor.float().contiguous()


def on_host(features: FeatureArray) -> bool:
    """Return whether features are an array, or a tensor on the CPU."""
    device = getattr(features, "device", None)
    return isinstance(features, np.ndarray) or getattr(device, "type", "cpu") == "cpu"


def taken(features: Rows, rows: IntArray) -> Rows:
    """Return some rows of features, on the device where they are."""
    if isinstance(features, np.ndarray):
        return features[rows]
    import torch

    return features[torch.from_numpy(rows).to(features.device)]


def require_finite(features: Rows, name: str, first: int = 0) -> None:
    """Refuse features that are NaN or infinite.

    Args:
        features: float32 ``N D``.
        name: what these are, for the error: ``query`` or ``gallery``.
        first: number of their first row, where they are a block of more.

    Raises:
        DataError: names how many rows are affected, and the first.
    """
    # The extremes of a block carry every NaN and infinity, and need no array of its size.
    if not len(features) or np.isfinite([float(features.min()), float(features.max())]).all():
        return
    bad = np.flatnonzero(~np.isfinite(as_float32(features)).all(axis=1))
    rows = f"{len(features)} rows" + (f" from row {first} on" if first else "")
    raise DataError(
        f"{name} features are not finite: {bad.size} of {rows} hold NaN or "
        f"infinity, the first is row {first + bad[0]}; the model has diverged or an image is broken"
    )


def require_fitting(queries: FeatureSet, gallery: FeatureSet) -> None:
    """Refuse features that cannot be compared.

    Args:
        queries, gallery: of one model; rows as the caller has them, which the error names.

    Raises:
        DataError: their vectors are of different lengths, or hold NaN or infinity.
    """
    width, other = queries.rows.shape[1], gallery.rows.shape[1]
    if width != other:
        raise DataError(
            f"query features have {width} dimensions, gallery features {other}: they must come "
            "from one model"
        )
    require_finite(queries.rows, "query")
    require_finite(gallery.rows, "gallery")


def warn_of_zeros(features: Rows, name: str) -> None:
    """Tell of features of zeros, which have no direction and so no cosine of their own.

    Args:
        features: float32 ``N D``, rows as the caller has them.
        name: what these are: ``query`` or ``gallery``.
    """
    some: Any = features.any(1)
    zero = np.flatnonzero(~(some if isinstance(some, np.ndarray) else some.cpu().numpy()))
    if len(zero):
        warnings.warn(
            f"{len(zero)} of {len(features)} {name} features, the first in row {zero[0]}, are "
            "zeros: without a direction, their cosine with everything counts as 0; see to the "
            "model or the image",
            stacklevel=2,
        )


def squared_norms(features: Rows) -> NDArray[np.float64]:
    """Return the squared L2 norms ``N`` of features ``N D``, summed in float64."""
    norms = np.empty(len(features), np.float64)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        if isinstance(features, np.ndarray):
            rows = features[start:stop].astype(np.float64)
            norms[start:stop] = np.einsum("nd,nd->n", rows, rows)
        else:
            norms[start:stop] = features[start:stop].double().square().sum(1).cpu().numpy()
    return norms


def inverse_norms(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``1 / norm`` of squared norms, and 0 where the norm is 0."""
    norms = np.sqrt(squared)
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
