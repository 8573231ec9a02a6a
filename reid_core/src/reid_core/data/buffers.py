"""Batch memory that is used again: fresh memory for every batch costs more than it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.contract.fields import FieldKind, FieldSpec
from reid_core.contract.samples import Sample
from reid_core.data.decoding import origin_of, read_field
from reid_core.data.geometry import Geometry, transform_field
from reid_core.errors import DataError

_RESIZED = (FieldKind.IMAGE, FieldKind.LABELS)


@dataclass(frozen=True)
class Column:
    """Where the rows of one field go: every row has the same shape and dtype.

    Args:
        spec: the field; scalars have no column.
        shape: shape of one row.
        dtype: dtype of the rows.
        example: the file or field whose first row decided ``shape``, for messages.
    """

    spec: FieldSpec
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    example: str

    @classmethod
    def like(cls, sample: Sample, spec: FieldSpec, size: tuple[int, int]) -> Column:
        """Take shape and dtype from one sample, for a network input of ``size``."""
        value = read_field(sample.fields[spec.name], spec)
        shape = value.shape
        if spec.kind in _RESIZED:
            shape = (*shape[:-2], *size)
        example = origin_of(sample.fields[spec.name], str(sample.path))
        return cls(spec, shape, value.dtype, example)

    def store(
        self,
        sample: Sample,
        image_size: tuple[int, int],
        geometry: Geometry,
        out: NDArray[Any],
    ) -> None:
        """Read the field of a sample, apply the geometry and write it to ``out``.

        Raises:
            DataError: it cannot be read, or differs in shape or dtype from the first sample's.
        """
        value = read_field(sample.fields[self.spec.name], self.spec)
        own, wanted = value.shape, self.shape
        if self.spec.kind in _RESIZED:
            own, wanted = own[:-2], wanted[:-2]
        if own != wanted or value.dtype != self.dtype:
            where = origin_of(sample.fields[self.spec.name], str(sample.path))
            raise DataError(
                f"{where}: field '{self.spec.name}' has {value.dtype} of "
                f"shape {value.shape}, but {self.example} has {self.dtype} of shape {self.shape}; "
                "all samples of a source must agree"
            )
        transform_field(value, self.spec, image_size, geometry, out)


class Buffers:
    """Memory of one host batch: the images and all columns.

    Args:
        capacity: rows.
        size: height and width of the images.
        columns: the fields to keep.
        pinned: page-locked memory, from which a GPU copies while the host goes on.
    """

    def __init__(
        self, capacity: int, size: tuple[int, int], columns: Sequence[Column], pinned: bool
    ) -> None:
        self.capacity = capacity
        self._tensors: dict[str, Tensor] = {
            column.spec.name: torch.empty(
                (capacity, *column.shape),
                dtype=torch.from_numpy(np.empty(0, column.dtype)).dtype,
                pin_memory=pinned,
            )
            for column in columns
        }
        self._image = torch.empty((capacity, 3, *size), dtype=torch.uint8, pin_memory=pinned)
        self.image: NDArray[np.uint8] = self._image.numpy()
        self.fields: Mapping[str, NDArray[Any]] = {
            name: tensor.numpy() for name, tensor in self._tensors.items()
        }
        self._copied = torch.cuda.Event() if pinned else None

    def mark_used(self) -> None:
        """Note that what the current stream was given so far may still read this memory."""
        if self._copied is not None:
            self._copied.record()

    def wait_until_free(self) -> None:
        """Block until the device has done what was noted; called where blocking does no harm."""
        if self._copied is not None:
            self._copied.synchronize()

    def first(self, rows: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return views of the first rows: the images and the fields."""
        return self._image[:rows], {name: t[:rows] for name, t in self._tensors.items()}
