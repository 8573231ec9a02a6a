"""Matrices of whole numbers in MATLAB files, as some data sets list their tracks and people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import DataError, reason_of


def read_matrix(path: Path, name: str, columns: int | None = None) -> NDArray[np.int64]:
    """Return a matrix of whole numbers.

    Args:
        path: a MATLAB file before 7.3.
        name: of the matrix in it.
        columns: how many it must have; None takes any.

    Raises:
        DataError: the file is missing or damaged, or holds something else.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with path.open("rb") as file:
            found = np.asarray(loadmat(file)[name])
        matrix = found.astype(np.int64)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the copy is incomplete") from None
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError) as error:
        reason = reason_of(error, 100)
        raise DataError(f"{path}: no matrix '{name}' ({reason}); extract the file again") from None
    whole = found.dtype.kind in "iuf" and bool((matrix == found).all())
    if not whole or matrix.ndim != 2 or not matrix.size or columns not in (None, matrix.shape[1]):
        shape = " x ".join(map(str, found.shape))
        raise DataError(
            f"{path}: '{name}' is {shape} of {found.dtype}, not whole numbers in rows of "
            f"{columns or 'any length'}; extract the file again"
        )
    return matrix
