"""A ``.npy`` file of float32 rows that grows in place and is never half a file to its readers."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from reid_core import DataError
from reid_core.images import one_line


def create(path: Path, dim: int) -> None:
    """Write a file without rows."""
    path.write_bytes(_header(0, dim))


def append(path: Path, count: int, rows: NDArray[np.float32]) -> None:
    """Write rows behind the first ``count``; whatever an interrupted writer left there goes.

    NumPy's header keeps room for its shape to grow. It is changed last: until then a reader finds
    the rows that there were.

    Args:
        path: the file.
        count: rows that are valid.
        rows: float32 ``n D``.
    """
    dim = rows.shape[1]
    begin = len(_header(count, dim))
    with path.open("r+b") as file:
        file.write(_header(count, dim))
        file.truncate(begin + count * dim * 4)
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(rows, "<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        file.write(_header(count + len(rows), dim))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, count: int, dim: int) -> NDArray[np.float32]:
    """Return the first ``count`` rows, memory-mapped: nothing is read before it is looked at.

    Raises:
        DataError: the file is missing, is no array of this width, or has fewer rows.
    """
    try:
        if count == 0:
            return np.empty((0, dim), np.float32)
        rows: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as vectors ({one_line(error)})") from error
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != dim or len(rows) < count:
        raise DataError(
            f"{path}: holds {rows.dtype} {rows.shape}, but the gallery says {count} rows of {dim} "
            "float32 values; embed into a new folder"
        )
    return rows[:count]


def _header(count: int, dim: int) -> bytes:
    memory = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
    npy.write_array_header_1_0(memory, shape)
    return memory.getvalue()
