"""Similarities of some queries to a block of the gallery: in float32, or screened in bfloat16.

A screened block is wrong by at most a margin that is computed from the very features, so whatever
could be among the closest is known, and only that is compared in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.features import FloatArray, squared_norms
from reid_retrieval.labels import IntArray
from reid_retrieval.metrics import COSINE, Metric
from reid_retrieval.products import full_precision, host_multiply, tensor_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_GROUP = 16
"""Similarities that are represented by their largest in the first look at a block."""

_ROWS_AT_ONCE = 256
"""Images rounded to bfloat16 at once: what stays in the cache."""

_FINITE = 1e38
"""Numbers that cannot be larger than this are finite, and so are sums of a few of them."""

BFLOAT16 = 2.0**-8
"""Relative error of a number rounded to bfloat16, which has 8 significant bits."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of a block that may be among the closest.

    Args:
        rows: int64 ``P``, queries of the chunk, ascending.
        columns: int64 ``P``, images of the block, ascending within a row.
        similarities: float32 ``P``.
    """

    rows: IntArray
    columns: IntArray
    similarities: FloatArray


@dataclass(frozen=True)
class Rounded:
    """Features in bfloat16.

    Args:
        features: bfloat16 ``n D``, on the host.
        sizes: float64 ``n``, at least the norms of the features that were rounded.
        losses: float64 ``n``, at least the norms of what rounding took away.
    """

    features: Tensor
    sizes: NDArray[np.float64]
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """A block of the gallery, or all queries, ready to be compared.

    Args:
        features: float32 ``n D``, finite.
        terms: of the metric, float32 ``n``.
        rounded: for screening.
    """

    features: FloatArray
    terms: FloatArray
    rounded: Rounded | None = None

    @classmethod
    def prepared(cls, features: FloatArray, metric: Metric, screened: bool) -> Images:
        """Return features with what the metric, and screening, need of them."""
        with np.errstate(over="ignore", invalid="ignore"):  # refused where they are compared
            terms = metric.terms(features)
            return cls(features, terms, _rounded(features, terms, metric) if screened else None)

    @property
    def in_bfloat16(self) -> Rounded:
        """The rounded features, of images that were prepared for screening."""
        assert self.rounded is not None
        return self.rounded


def _rounded(features: FloatArray, terms: FloatArray, metric: Metric) -> Rounded:
    import torch

    unit = metric is COSINE
    rounded = torch.empty(features.shape, dtype=torch.bfloat16, device="cpu")
    losses = np.empty(len(features), np.float64)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        rows = features[some] * (terms[some, None] if unit else np.float32(1))
        rounded[some] = tensor_of(rows)
        rows -= rounded[some].float().numpy()
        losses[some] = np.einsum("nd,nd->n", rows, rows)
    # What float32 loses in the sums is far below these shares.
    sizes = np.full(len(features), 1.001) if unit else 1.001 * np.sqrt(squared_norms(features))
    return Rounded(rounded, sizes, 1.001 * np.sqrt(losses))


class MarginExceededError(Exception):
    """A screened similarity is, or could be, further off than the arithmetic of bfloat16 allows."""


class Blocks:
    """Compare queries to one block of the gallery after the other, in float32.

    Args:
        queries: all of them.
        metric: of the comparison.
        rows, columns: size of the largest block.
        device: where to compare; None means NumPy arrays on the host.
    """

    def __init__(
        self,
        queries: Images,
        metric: Metric,
        rows: int,
        columns: int,
        device: torch.device | None = None,
    ) -> None:
        self._queries = queries
        self._metric = metric
        self._device = device
        self._asked = self._place(queries.features)
        self._terms = self._place(queries.terms)
        self._cells = self._place(np.empty(rows * columns, np.float32))
        self._multiply = host_multiply() if device is None else self._multiply_there

    def _place(self, array: FloatArray) -> Any:
        return array if self._device is None else tensor_of(array).to(self._device)

    def _multiply_there(self, queries: Any, gallery: Any, out: Any) -> None:
        import torch

        with torch.inference_mode(), full_precision():
            torch.mm(queries, gallery.t(), out=out)

    def turn_to(self, images: Images) -> None:
        """Make this the block that queries are compared to."""
        self._images = images
        self._offered = self._place(images.features)
        self._offered_terms = self._place(images.terms)

    def similarities(self, some: slice) -> Any:
        """Return the similarities of some queries to the block, in memory that is used again."""
        asked = self._asked[some]
        block = self._room(len(asked))
        self._multiply(asked, self._offered, block)
        self._metric.apply(block, self._terms[some][:, None], self._offered_terms)
        return block

    def _room(self, rows: int) -> Any:
        width = len(self._images.features)
        return self._cells[: rows * width].reshape(rows, width)

    def lowest(self, some: slice, block: Any, least: FloatArray, so_far: FloatArray) -> FloatArray:
        """Return the similarity of the least close image up to this block.

        Args:
            some: which queries.
            block: their similarities.
            least: float32, the least of every row.
            so_far: float32, of the blocks before.
        """
        return np.minimum(so_far, least)

    def candidates(self, some: slice, block: Any, closest: FloatArray, k: int) -> Candidates:
        """Return the images of a block that are closer than the ``k``-th closest so far.

        Args:
            some: which queries.
            block: their similarities.
            closest: float32, similarity of the ``k``-th closest image so far; ``-inf`` where there
                are not as many.
            k: how many are wanted.
        """
        # The block's images come later in the gallery and lose ties.
        least = np.nextafter(closest, np.float32(np.inf))
        cells = cells_reaching(block, least, k)
        rows, columns = np.divmod(cells, block.shape[1])
        return Candidates(rows, columns, values_at(block, cells))


class ScreenedBlocks(Blocks):
    """Compare in bfloat16 first, and in float32 what the margin (`margins`) leaves in doubt."""

    def __init__(
        self,
        queries: Images,
        metric: Metric,
        rows: int,
        columns: int,
        device: torch.device | None = None,
    ) -> None:
        import torch

        super().__init__(queries, metric, rows, columns, device)
        self._there = device or torch.device("cpu")
        self._share = share_of(metric)
        self._screened = queries.in_bfloat16.features.to(self._there)
        self._products = torch.empty(rows * columns, dtype=torch.bfloat16, device=self._there)

    def turn_to(self, images: Images) -> None:
        """Make this the block that queries are compared to.

        Raises:
            MarginExceededError: a similarity in float32 need not be finite.
        """
        if not surely_finite(self._queries, images, self._metric):
            raise MarginExceededError
        self._images = images
        self._offered_terms = self._place(images.terms)
        self._offered = images.in_bfloat16.features.to(self._there)
        self._margin = margins(self._queries, images, self._metric)

    def similarities(self, some: slice) -> Any:
        """Return the screened similarities of some queries to the block."""
        asked = self._screened[some]
        block = self._room(len(asked))
        products = self._products[: block.shape[0] * block.shape[1]].view(block.shape)
        multiply_rounded(asked, self._offered, products)
        (tensor_of(block) if self._device is None else block).copy_(products)
        if self._metric is not COSINE:
            self._metric.apply(block, None, self._offered_terms)
        return block

    def candidates(self, some: slice, block: Any, closest: FloatArray, k: int) -> Candidates:
        """Return the images that may be closer than the ``k``-th closest so far, in float32.

        Raises:
            MarginExceededError: the products were not computed as bfloat16's should be.
        """
        margin, share = self._margin[some], self._share

        def reaching(similarity: FloatArray) -> FloatArray:
            """Return the least screened value that can belong to a similarity."""
            least = similarity - margin
            return np.asarray(
                np.where(least > 0, least / (1 + share), least / (1 - share)), np.float32
            )

        def surely(largest: FloatArray) -> FloatArray:
            """Return the least screened value that can matter beside ``k`` screened ones."""
            return reaching(np.asarray(largest - share * np.abs(largest) - margin, np.float32))

        cells = cells_reaching(block, reaching(closest), k, surely)
        rows, columns = np.divmod(cells, block.shape[1])
        return Candidates(rows, columns, self._compared(some, block, cells))

    def lowest(self, some: slice, block: Any, least: FloatArray, so_far: FloatArray) -> FloatArray:
        """Return the similarity of the least close image up to this block, in float32.

        Raises:
            MarginExceededError: the products were not computed as bfloat16's should be.
        """
        margin, share = self._margin[some], self._share
        bound = np.minimum(so_far, least + margin + share * np.abs(least)) + margin
        bound = np.where(bound > 0, bound / (1 - share), bound / (1 + share))
        cells = _cells_to(block, np.nextafter(bound.astype(np.float32), np.float32(np.inf)))
        found = so_far.copy()
        np.minimum.at(found, cells // block.shape[1], self._compared(some, block, cells))
        return found

    def _compared(self, some: slice, block: Any, cells: IntArray) -> FloatArray:
        """Return the similarities of cells of a block in float32."""
        rows, columns = np.divmod(cells, block.shape[1])
        values = pairs_similarities(
            self._queries, rows + some.start, self._images, columns, self._metric
        )
        screened = values_at(block, cells)
        require_within(values, screened, self._margin[some][rows] + self._share * np.abs(screened))
        return values


def pairs_similarities(
    queries: Images, asked: IntArray, gallery: Images, offered: IntArray, metric: Metric
) -> FloatArray:
    """Return the similarities of pairs of images in float32: equal rows, equal similarities.

    Args:
        queries, gallery: all images.
        asked: int ``P``, rows of ``queries``, ascending.
        offered: int ``P``, rows of ``gallery``, ascending where ``asked`` does not change.
        metric: of the comparison.

    Returns:
        float32 ``P``.
    """
    import torch
    from scipy.sparse import csr_array

    if not len(asked):
        return np.empty(0, np.float32)
    first, last = int(asked[0]), int(asked[-1]) + 1
    starts = np.searchsorted(asked, np.arange(first, last + 1))
    shape = (last - first, len(gallery.features))
    # Image by image, so that each is read once: its queries stay in the cache.
    numbered = np.arange(len(asked), dtype=np.int32)
    by_image = csr_array((numbered, offered.astype(np.int32), starts), shape).tocsc()
    wanted, numbers = by_image.data, by_image.indices
    some, others = tensor_of(gallery.features), tensor_of(queries.features[first:last])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse tensors new
        places = torch.sparse_csr_tensor(
            torch.from_numpy(by_image.indptr),
            torch.from_numpy(numbers),
            torch.zeros(len(asked), dtype=torch.float32, device="cpu"),
            (shape[1], shape[0]),
            device="cpu",
            check_invariants=False,
        )
        found = torch.sparse.sampled_addmm(places, some, others.t(), beta=0)
    products = np.empty(len(asked), np.float32)
    products[wanted] = found.values().numpy()
    metric.apply(products, queries.terms[asked], gallery.terms[offered])
    return products


def require_within(
    values: FloatArray, screened: FloatArray, margin: NDArray[np.floating[Any]]
) -> None:
    """Refuse screened similarities that are further off than they can be.

    Raises:
        MarginExceededError: the products were not computed as bfloat16's should be.
    """
    if not (np.abs(values - screened) <= margin).all():
        raise MarginExceededError


def share_of(metric: Metric) -> np.float32:
    """Return what a screened similarity's own rounding can take, as a share of it."""
    return np.float32(BFLOAT16 if metric is COSINE else 0)


def largest_products(queries: Images, gallery: Images) -> NDArray[np.float64]:
    """Return what no product of a query, rounded or not, exceeds, ``Q``."""
    asked, offered = queries.in_bfloat16, gallery.in_bfloat16
    size, loss = float(offered.sizes.max()), float(offered.losses.max())
    return (asked.sizes + asked.losses) * (size + loss)


def surely_finite(queries: Images, gallery: Images, metric: Metric) -> bool:
    """Return whether all similarities are finite in float32: few screened ones are looked at there.

    Where it cannot be told, everything is to be compared in float32, which refuses what is not.
    """
    if metric is COSINE:
        # Float32 multiplies the features as they are; what they are scaled by tells how long.
        terms = queries.terms, gallery.terms
        least = [float(some.min(where=some > 0, initial=np.inf)) for some in terms]
        bounds = [1 / (least[0] * least[1]), *(float(some.max(initial=0)) for some in terms)]
    else:
        largest = largest_products(queries, gallery)
        bounds = [float(largest.max(initial=0)), float(gallery.terms.max())]
    return all(bound < _FINITE for bound in bounds)


def margins(queries: Images, gallery: Images, metric: Metric) -> FloatArray:
    """Return by how much screened similarities can be off, beside their own rounding, ``Q``.

    With the rounded features ``q'`` and ``g'``, ``q.g - q'.g' = q'.(g - g') + (q - q').g``, so the
    error is at most ``|q'| |g - g'| + |q - q'| |g|`` (Cauchy-Schwarz), and what the sum in float32
    can lose.
    """
    asked, offered = queries.in_bfloat16, gallery.in_bfloat16
    size, loss = float(offered.sizes.max()), float(offered.losses.max())
    largest = largest_products(queries, gallery)
    margin = (asked.sizes + asked.losses) * loss + asked.losses * size
    # A sum of D terms in float32 errs by less than D 2^-23 of the norms; terms add little.
    margin += (gallery.features.shape[1] + 16) * 2.0**-23 * largest
    if metric is not COSINE:
        # The shift hides how large the product was that was rounded.
        margin += BFLOAT16 * largest + 2.0**-22 * (largest + size**2)
    return np.asarray(margin.astype(np.float32))


def multiply_rounded(queries: Tensor, gallery: Tensor, out: Tensor) -> None:
    """Write the products of rounded features, as bfloat16 has them.

    Args:
        queries, gallery: bfloat16 ``n D`` and ``G D``.
        out: bfloat16 ``n G``.
    """
    import torch

    with torch.inference_mode():
        torch.mm(queries, gallery.t(), out=out)


def cells_reaching(
    block: Any,
    least: FloatArray,
    k: int,
    allow: Callable[[FloatArray], FloatArray] = lambda largest: largest,
) -> IntArray:
    """Return the cells of a block that reach a value per row, in reading order.

    Where that would be many, rows are also held to what their own ``k``-th largest value asks for.

    Args:
        block: ``n G``, array or tensor.
        least: float32 ``n``; ``-inf`` and what is close to it asks for nothing.
        k: how many of a row are wanted.
        allow: makes the ``k``-th largest values, float32 ``n``, what has to be reached for them.
    """
    if least.min() > np.finfo(np.float32).min:
        cells = _cells_from(block, least)
        if len(cells) <= len(block) * 2 * k:
            return cells
    return _cells_from(block, np.maximum(least, allow(_kth_largest_at_least(block, k))))


def _cells_from(block: Any, least: FloatArray) -> IntArray:
    if isinstance(block, np.ndarray):
        return np.flatnonzero(block >= least[:, None])
    reached = block >= tensor_of(least).to(block.device)[:, None]
    return np.asarray(reached.view(-1).nonzero()[:, 0].cpu().numpy())


def _cells_to(block: Any, most: FloatArray) -> IntArray:
    if isinstance(block, np.ndarray):
        return np.flatnonzero(block <= most[:, None])
    reached = block <= tensor_of(most).to(block.device)[:, None]
    return np.asarray(reached.view(-1).nonzero()[:, 0].cpu().numpy())


def _kth_largest_at_least(block: Any, k: int) -> FloatArray:
    """Return, for every row, a value that at least ``k`` of its entries reach."""
    count, width = block.shape
    groups = width // _GROUP
    if groups >= 2 * k:
        # The k-th largest of maxima of disjoint groups: k groups have an entry that reaches it.
        grouped = block[:, : groups * _GROUP].reshape(count, _GROUP, groups)
        block = grouped.max(axis=1) if isinstance(block, np.ndarray) else grouped.amax(1)
    place = block.shape[1] - min(k, width)
    if isinstance(block, np.ndarray):
        return np.asarray(np.partition(block, place, axis=1)[:, place])
    return np.asarray(block.kthvalue(place + 1, dim=1).values.cpu().numpy())


def values_at(block: Any, cells: IntArray) -> FloatArray:
    """Return the values of cells of a block, float32 on the host."""
    if isinstance(block, np.ndarray):
        return np.asarray(block.reshape(-1)[cells])
    import torch

    return np.asarray(block.view(-1)[torch.from_numpy(cells).to(block.device)].cpu().numpy())
