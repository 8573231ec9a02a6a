"""k-reciprocal encoding (Zhong et al., Re-ranking Person Re-identification, CVPR 2017), sparse.

Every image is described by the images that are close to it and find it close in turn. Two such
descriptions are compared by how much they share (Jaccard). An image has some dozens of reciprocal
neighbours, so everything here is a sparse matrix: memory grows with images x neighbours, never with
images x images. Ready-made arrays of neighbours are the input; who finds them is another module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.errors import ConfigError, did_you_mean
from reid_retrieval.labels import IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Variant = Literal["zhong", "cluster_contrast"]
"""Which publication's recipe; `Neighbourhood` has the differences."""

Floats = NDArray[np.floating[Any]]

Lists = NDArray[np.signedinteger[Any]]
"""Nearest images of every image, ``N K``, the closest first."""

PairDistances = Callable[[IntArray, IntArray], Floats]
"""Squared distances of pairs of image numbers ``P``, ``P``, the first ones ascending."""

_ROWS_AT_ONCE = 4096
"""Images encoded at a time: their products hold some hundred entries per image."""

_CELLS_AT_ONCE = 1 << 20
"""Sums counted at a time, 8 MiB: rows of a block x images that they are compared to."""

_TERMS_AT_ONCE = 1 << 16
"""Weights compared at a time, about 3 MiB with their indices: what stays in the cache."""


@dataclass(frozen=True)
class Neighbourhood:
    """How large neighbourhoods are, and in whose reading.

    ``zhong`` takes ``k1`` neighbours beside the image itself, and divides a row of squared
    distances by its maximum. ``cluster_contrast`` (Dai et al., 2022, and what faiss-based code
    of the field does) counts the image among the ``k1`` and leaves unit features' squared
    distances as they are. Both halve ``k1`` to ``round(k1 / 2) + 1`` images, itself included.

    Args:
        variant: ``zhong`` or ``cluster_contrast``.
        k1: neighbours that must be mutual, at least 1.
        k2: nearest images, itself included, whose encodings are averaged; 1 leaves them alone.

    Raises:
        ConfigError: there is no such variant, or a size is not at least 1.
    """

    variant: Variant = "zhong"
    k1: int = 20
    k2: int = 6

    def __post_init__(self) -> None:
        known = get_args(Variant)
        if self.variant not in known:
            hint = did_you_mean(self.variant, known)
            raise ConfigError(
                f"unknown variant '{self.variant}' of k-reciprocal encoding{hint}; known: "
                f"{', '.join(known)}"
            )
        for name, size in (("k1", self.k1), ("k2", self.k2)):
            if size < 1:
                raise ConfigError(f"k-reciprocal encoding needs {name} of at least 1, not {size}")
            if not isinstance(size, Integral):
                raise ConfigError(f"k-reciprocal encoding needs a whole {name}, not {size}")

    @property
    def full(self) -> int:
        """Images of a neighbourhood, the image itself included."""
        return self.k1 + (self.variant == "zhong")

    @property
    def half(self) -> int:
        """Images of the smaller neighbourhood, by which it is expanded; itself included."""
        return min(round(self.k1 / 2) + 1, self.full)

    @property
    def wanted(self) -> int:
        """Nearest images that have to be known, the image itself included."""
        # The search of the other variant ends at k1, so no more than that can be averaged.
        return max(self.full, self.k2) if self.variant == "zhong" else self.full

    @property
    def normalised(self) -> bool:
        """Whether squared distances are divided by the largest of their row."""
        return self.variant == "zhong"

    @property
    def text(self) -> str:
        """The settings in a few words."""
        return f"{self.variant} k1={self.k1} k2={self.k2}"


def own_first(neighbours: Lists) -> Lists:
    """Return lists of nearest images with the image itself in front.

    Of several copies of an image, any could be found first. An image that were missing from its own
    list would have no reciprocal neighbour and no encoding, so it always leads.

    Args:
        neighbours: int ``N K``, nearest first; row ``i`` are those of image ``i``.
    """
    own = np.arange(len(neighbours), dtype=neighbours.dtype)[:, None]
    if (neighbours[:, :1] == own).all():
        return neighbours
    found = neighbours == own
    place = np.where(found.any(axis=1), found.argmax(axis=1), neighbours.shape[1] - 1)
    # Whatever stood before the image moves one place back, over where it stood.
    ahead = np.arange(1, neighbours.shape[1]) <= place[:, None]
    result = neighbours.copy()
    result[:, 1:] = np.where(ahead, neighbours[:, :-1], neighbours[:, 1:])
    result[:, :1] = own
    return result


def encode(neighbours: Lists, sizes: Neighbourhood, squared: PairDistances) -> csr_array:
    """Return the encodings ``V`` of all images, local query expansion included.

    Args:
        neighbours: int ``N K``, nearest first and the image itself in front; ``K`` is
            ``sizes.wanted``, or ``N`` where there are fewer images.
        sizes: of the neighbourhoods.
        squared: distances of pairs, divided by their row's maximum if ``sizes.normalised``.

    Returns:
        ``N N``, rows sum to 1, of the type that ``squared`` returns; indices ascending.
    """
    from scipy.sparse import csr_array

    full = _mutual(neighbours[:, : sizes.full])
    half = _mutual(neighbours[:, : sizes.half])
    blocks = [_weigh(block, start, squared) for start, block in _expand(full, half)]
    counts = np.concatenate([np.diff(indptr) for _, _, indptr in blocks])
    encoded = csr_array(
        (
            np.concatenate([data for data, _, _ in blocks]),
            np.concatenate([indices for _, indices, _ in blocks]),
            _offsets(counts),
        ),
        shape=full.shape,
    )
    averaged = neighbours[:, : sizes.k2]
    if averaged.shape[1] > 1:
        share = np.full(averaged.size, 1 / averaged.shape[1], encoded.dtype)
        encoded = _rows_of(averaged, share) @ encoded  # local query expansion
    encoded.sort_indices()
    return encoded


def _rows_of(neighbours: Lists, values: NDArray[Any]) -> csr_array:
    """Return a matrix with ``values`` at every image's neighbours, indices ascending."""
    from scipy.sparse import csr_array

    count, width = neighbours.shape
    indptr = np.arange(0, count * width + 1, width)
    # Flattened to a copy: sorting is in place, and neighbours stay in their order.
    matrix = csr_array((values, neighbours.flatten(), indptr), shape=(count, count))
    matrix.sort_indices()
    return matrix


def _mutual(neighbours: Lists) -> csr_array:
    """Return the reciprocal neighbours ``R(i, k)``, who find the image in turn, as ones."""
    near = _rows_of(neighbours, np.ones(neighbours.size, np.int32))
    mutual = near.multiply(near.T.tocsr()).tocsr()
    mutual.sort_indices()
    return mutual


def _expand(full: csr_array, half: csr_array) -> Iterator[tuple[int, csr_array]]:
    """Yield blocks of the expanded neighbourhoods ``R*(i, k1)`` and the image they begin with.

    A neighbour adds its own smaller neighbourhood where more than two thirds of that are already
    in the image's.
    """
    from scipy.sparse import csr_array

    sizes = np.diff(half.indptr)
    members = half.T.tocsr()
    for start in range(0, full.shape[0], _ROWS_AT_ONCE):
        block = full[start : start + _ROWS_AT_ONCE]
        shared = block.multiply(block @ members).tocsr()
        # In whole numbers: two thirds has no exact value in floating point.
        adds = 3 * shared.data > 2 * sizes[shared.indices]
        added = csr_array((adds.astype(np.int32), shared.indices, shared.indptr), shared.shape)
        added.eliminate_zeros()
        expanded = (block + added @ half).tocsr()
        expanded.sort_indices()
        yield start, expanded


def _weigh(
    block: csr_array, start: int, squared: PairDistances
) -> tuple[Floats, IntArray, IntArray]:
    """Return weights ``exp(-d)`` with sum 1 per row, and where they stand."""
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    weights = np.exp(-squared(rows + start, block.indices))
    sums = np.bincount(rows, weights, minlength=block.shape[0])
    weights /= sums[rows].astype(weights.dtype)
    return weights, block.indices, block.indptr


def _offsets(counts: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)])


@dataclass(frozen=True)
class SharedPairs:
    """Pairs whose encodings share something, of a block of images.

    Args:
        rows: int64 ``P``, images, from the block's first on; ascending.
        columns: int64 ``P``, whom they are compared to; ascending within a row.
        distances: float64 ``P``, their Jaccard distances, in 0 .. 1.
    """

    rows: IntArray
    columns: IntArray
    distances: NDArray[np.float64]


class Overlap:
    """Jaccard distances of encodings, only of pairs that share something.

    ``d(i, j) = 1 - s / (2 - s)`` with ``s = sum_k min(V_ik, V_jk)``, for rows that sum to 1; of all
    other pairs the distance is 1.

    Args:
        images: encodings ``M N``.
        others: encodings ``L N``, to which they are compared; None compares the images to each
            other, each pair once (``rows <= columns``).
        at_most: leaves out pairs with a larger distance.
    """

    def __init__(
        self, images: csr_array, others: csr_array | None = None, at_most: float = 1.0
    ) -> None:
        self._images = images
        columns = (images if others is None else others).tocsc()
        columns.sort_indices()
        self._columns = columns
        # Columns list their images in ascending order: where a pair counts once, an image need
        # not look at those before its own place.
        self._begins = (
            columns.indptr[images.indices] if others is not None else _places(images, columns)
        )
        self._counts = columns.indptr[images.indices + 1] - self._begins
        self._terms = _offsets(np.add.reduceat(self._counts, images.indptr[:-1]))
        self._once = others is None
        self._least = max(2 * (1 - at_most) / (2 - at_most), 0)  # d <= at_most, solved for s

    def blocks(self, start: int, stop: int) -> Iterator[SharedPairs]:
        """Yield the pairs of images ``start .. stop - 1``, some rows at a time."""
        width = self._columns.shape[0]
        while start < stop:
            first = start if self._once else 0
            by_cells = start + max(_CELLS_AT_ONCE // (width - first), 1)
            fits = np.searchsorted(self._terms, self._terms[start] + _TERMS_AT_ONCE, "right") - 1
            end = min(stop, by_cells, max(int(fits), start + 1))
            yield self._block(start, end, first)
            start = end

    def _block(self, start: int, stop: int, first: int) -> SharedPairs:
        """Return the pairs of some images with others from ``first`` on."""
        indptr = self._images.indptr[start : stop + 1]
        entries = slice(indptr[0], indptr[-1])
        counts = self._counts[entries]
        width = self._columns.shape[0] - first
        # One term for every two images with a weight in the same column.
        before = _offsets(counts)
        terms = np.repeat(self._begins[entries] - before[:-1], counts) + np.arange(before[-1])
        rows = np.repeat(np.arange(stop - start) * width - first, np.diff(indptr))
        cells = np.repeat(rows, counts) + self._columns.indices[terms]
        smaller = np.minimum(
            np.repeat(self._images.data[entries], counts), self._columns.data[terms]
        )
        sums = np.bincount(cells, smaller, minlength=(stop - start) * width)
        # Of truth values: numpy finds those of numbers ten times slower.
        found = np.flatnonzero(sums >= self._least if self._least else sums > 0)
        shared = sums[found]
        distances = np.maximum(1 - shared / (2 - shared), 0)  # rounding may leave -1e-7
        rows, columns = np.divmod(found, width)
        return SharedPairs(rows + start, columns + first, distances)


def _places(images: csr_array, columns: Any) -> IntArray:
    """Return, for every entry of the rows, where it stands among the entries of the columns."""
    from scipy.sparse import csr_array

    numbers = csr_array((np.arange(images.nnz), images.indices, images.indptr), images.shape)
    places = np.empty(images.nnz, np.int64)
    places[numbers.tocsc().data] = np.arange(images.nnz)
    return places
