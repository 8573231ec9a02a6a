"""Labels of test images, column by column: what a protocol selects by and compares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_retrieval.errors import DataError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Column = NDArray[np.int64] | NDArray[np.str_]

_WHOLE = re.compile(r"(-?\d+)\.0+")


class LabelledImage(Protocol):
    """What is known of an image, whatever else stands for it."""

    @property
    def pid(self) -> int:
        """Identity; ``-1`` in a gallery is junk to everyone."""

    @property
    def camid(self) -> int:
        """Camera."""

    @property
    def clothes(self) -> int:
        """Outfit, unique over all identities; ``-1`` where unknown."""

    @property
    def split(self) -> str:
        """The part of the data set that the image belongs to."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further labels by name."""


class Labels:
    """Labels of ``N`` images, in the order in which ties are broken.

    Args:
        pids: integers ``N``; ``-1`` in a gallery is junk to everyone.
        camids: integers ``N``; None where cameras are not known.
        clothes: integers ``N``, unique over all identities; ``-1`` or None where unknown.
        splits: text ``N``, for protocols that choose by split.
        extra: further labels by name, ``N`` values each; they are compared as text, whole numbers
            as such (``7.0`` is ``7``). One with a None or NaN is not known for every image, and
            left out.

    Whole numbers of a floating type are integers, too, as MATLAB and tables have them.

    Raises:
        DataError: the columns differ in length, or hold something else than integers.
    """

    def __init__(
        self,
        pids: ArrayLike,
        camids: ArrayLike | None = None,
        clothes: ArrayLike | None = None,
        splits: Sequence[str] | None = None,
        extra: Mapping[str, Iterable[object]] | None = None,
    ) -> None:
        self.pids = _integers("pid", pids)
        count = len(self.pids)
        known = {
            "pid": self.pids,
            "clothes": _integers("clothes", np.full(count, -1) if clothes is None else clothes),
        }
        if camids is not None:
            known["camid"] = _integers("camid", camids)
        others: dict[str, list[object]] = {
            key: list(values) for key, values in (extra or {}).items()
        }
        if splits is not None:
            others["split"] = list(splits)
        columns: dict[str, Sized] = {**others, **known}
        for key, column in columns.items():
            if len(column) != count:
                raise DataError(f"{count} pids, but {len(column)} values of label '{key}'")
        texts = {key: _texts(values) for key, values in others.items() if all(map(_known, values))}
        self._columns: dict[str, Column] = {**texts, **known}

    @classmethod
    def of(cls, labels: Labels | Mapping[str, Any] | ArrayLike) -> Labels:
        """Return labels from plain data.

        Args:
            labels: `Labels`, which are returned as they are; a mapping of names (``pid``,
                ``camid``, ``clothes``, ``split``, others) to one value per image; or the
                identities alone. Tensors of any device will do.

        Raises:
            DataError: there are no identities, or as the constructor does.

        Example:
            >>> sorted(Labels.of({"pid": [1, 2], "camid": [0, 1], "view": ["a", "b"]}).keys)
            ['camid', 'clothes', 'pid', 'view']
        """
        if isinstance(labels, Labels):
            return labels
        if not isinstance(labels, Mapping):
            return cls(_on_host(labels))
        columns = {str(key): _on_host(values) for key, values in labels.items()}
        if "pid" not in columns:
            there = ", ".join(sorted(columns)) or "empty"
            raise DataError(f"labels need the identities, 'pid'; these are {there}")
        pids, camids, clothes, splits = (
            columns.pop(key, None) for key in ("pid", "camid", "clothes", "split")
        )
        assert pids is not None
        return cls(pids, camids, clothes, splits, columns)

    @classmethod
    def of_samples(cls, samples: Sequence[LabelledImage]) -> Labels:
        """Return the labels of images, with the `extra` keys that every sample has."""
        shared = set(samples[0].extra) if samples else set()
        for sample in samples:
            shared &= set(sample.extra)
        return cls(
            [s.pid for s in samples],
            [s.camid for s in samples],
            [s.clothes for s in samples],
            [s.split for s in samples],
            {key: [s.extra[key] for s in samples] for key in sorted(shared)},
        )

    def __len__(self) -> int:
        return len(self.pids)

    @property
    def keys(self) -> frozenset[str]:
        """Names of the labels that every image has."""
        return frozenset(self._columns)

    @property
    def known(self) -> frozenset[str]:
        """Names of the labels that some image has: without ``clothes`` where no outfit is known."""
        return self.keys - {"clothes"} if (self.column("clothes") == -1).all() else self.keys

    def column(self, key: str) -> Column:
        """Return a label's values: ``pid``, ``camid``, ``clothes``, ``split`` or an extra one.

        Raises:
            DataError: these images do not all carry the label.
        """
        if key not in self._columns:
            known = ", ".join(sorted(self._columns))
            raise DataError(f"label '{key}' is not known for every image; known are {known}")
        return self._columns[key]

    def matching(self, key: str, values: Iterable[str | int]) -> BoolArray:
        """Return which images have one of ``values`` as their label ``key``."""
        column = self.column(key)
        if column.dtype.kind == "U":
            return np.isin(column, _texts(values))
        return np.isin(column, np.array([int(value) for value in values], np.int64))

    def take(self, rows: IntArray) -> Labels:
        """Return the labels of some images, in the order of ``rows``."""
        taken = Labels.__new__(Labels)
        taken._columns = {key: column[rows] for key, column in self._columns.items()}
        taken.pids = self.pids[rows]
        return taken


def _on_host(values: Any) -> Any:
    # A tensor is recognised by its methods, so that arrays are read without importing torch.
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def _integers(key: str, values: ArrayLike) -> IntArray:
    column: NDArray[Any] = np.asarray(values)
    if column.ndim != 1 or (column.size and column.dtype.kind not in "iuf"):
        shape = f"{column.dtype} of shape {column.shape}"
        raise DataError(f"label '{key}' must be one integer per image, not {shape}")
    with np.errstate(invalid="ignore"):  # NaN and what int64 does not hold, which are told below
        integers = column.astype(np.int64)
    odd = np.flatnonzero(integers != column)
    if odd.size:
        problem = f"not {column.dtype} of which row {odd[0]} is {column[odd[0]]}"
        raise DataError(f"label '{key}' must be one integer per image, {problem}")
    return integers


def _known(value: object) -> bool:
    # Unknown labels would agree with each other and silently become junk.
    return value is not None and not (isinstance(value, float | np.floating) and np.isnan(value))


def _texts(values: Iterable[object]) -> NDArray[np.str_]:
    """Return labels as they are compared: one number is one text, of whatever type it is."""
    return np.array([_text(value) for value in values], dtype=np.str_)


def _text(value: object) -> str:
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    # Tables write whole numbers so where a column has gaps elsewhere.
    written = _WHOLE.fullmatch(str(value))
    return written[1] if written else str(value)
