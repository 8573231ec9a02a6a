"""Exact nearest neighbours against a full stable sort, their memory, and what they refuse."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from reid_retrieval import blocks, neighbours
from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.features import FloatArray
from reid_retrieval.neighbours import Gallery, Neighbours, Precision, nearest

pytestmark = pytest.mark.cuda

DEVICES = [None, torch.device("cpu")]
if torch.cuda.is_available():
    DEVICES.append(torch.device("cuda"))

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide even small problems into many blocks."""
    monkeypatch.setattr(neighbours, "QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(neighbours, "GALLERY_AT_ONCE", 100)


def sorted_similarities(
    queries: FloatArray, gallery: FloatArray, distance: str, own: bool = False
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return all similarities in float64, and the gallery in a full stable order."""
    asked, offered = queries.astype(np.float64), gallery.astype(np.float64)
    found = asked @ offered.T
    if distance == "cosine":
        norms = [np.linalg.norm(side, axis=1) for side in (asked, offered)]
        scales = [np.divide(1, n, out=np.zeros_like(n), where=n > 0) for n in norms]
        # The last roundings of float32, so that what ties there ties here.
        found = found.astype(np.float32) * scales[0].astype(np.float32)[:, None]
        found = found * scales[1].astype(np.float32)
    else:
        found = found - (offered**2).sum(axis=1) / 2
    order = np.argsort(-found, axis=1, kind="stable")
    if own:
        order = np.array([row[row != i] for i, row in enumerate(order)])
    return found, order


def assert_exact(
    found: Neighbours, queries: FloatArray, gallery: FloatArray, distance: str, own: bool = False
) -> None:
    similarities, order = sorted_similarities(queries, gallery, distance, own)
    expected = order[:, : found.indices.shape[1]]
    assert found.indices.dtype == np.int32
    assert found.similarities.dtype == np.float32
    assert np.array_equal(found.indices, expected)
    assert np.array_equal(found.similarities, np.take_along_axis(similarities, expected, axis=1))


def integers(rows: int, dim: int, seed: int, largest: int = 3) -> FloatArray:
    rng = np.random.default_rng(seed)
    return rng.integers(-largest, largest + 1, (rows, dim)).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 21, 90, 101, 330])
@pytest.mark.usefixtures("small_blocks")
def test_equals_a_full_stable_sort(
    k: int,
    distance: str,
    precision: Precision,
    device: torch.device | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "_device_for", lambda queries, gallery: device)
    # Most of these tie, and some are zero.
    queries, gallery = integers(20, 5, 1, 1), integers(330, 5, 2, 1)
    queries[0], gallery[7] = 0, 0
    found = nearest(queries, gallery, k, distance=distance, precision=precision)
    assert_exact(found, queries, gallery, distance)
    assert found.lowest is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 9999),
    rows=st.integers(1, 40),
    dim=st.integers(1, 20),
    share=st.floats(0, 1),
    distance=st.sampled_from(["cosine", "euclidean"]),
    precision=st.sampled_from(PRECISIONS),
)
def test_any_size_excluding_itself_or_not(
    seed: int, rows: int, dim: int, share: float, distance: str, precision: Precision
) -> None:
    features = integers(rows + 1, dim, seed)
    k = 1 + int(share * (rows - 1))
    found = nearest(
        features, features, k, distance=distance, precision=precision, exclude_self=True
    )
    assert_exact(found, features, features, distance, own=True)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_screening_loses_no_neighbour(distance: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    # Close together, so that bfloat16 alone puts most of them in a wrong order.
    centre = rng.standard_normal(64)
    gallery = scale * (centre + 0.03 * rng.standard_normal((9000, 64))).astype(np.float32)
    queries = scale * (centre + 0.03 * rng.standard_normal((40, 64))).astype(np.float32)
    exact = nearest(queries, gallery, 10, distance=distance)
    screened = nearest(queries, gallery, 10, distance=distance, precision="bf16")
    tolerance = 1e-6 if distance == "cosine" else 2e-6 * scale**2 * float(centre @ centre)
    assert np.allclose(exact.similarities, screened.similarities, rtol=0, atol=tolerance)
    for row, other in zip(exact.indices, screened.indices, strict=True):
        assert len(set(row) & set(other)) >= 9  # the last one may be as close as the next
    rounded = [torch.from_numpy(side).bfloat16().float().numpy() for side in (queries, gallery)]
    alone = nearest(rounded[0], rounded[1], 10, distance=distance)
    assert (alone.indices != exact.indices).mean() > 0.4


def test_products_worse_than_bfloat16_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((5, 32)), rng.standard_normal((500, 32))
    screened = blocks.ScreenedBlocks.similarities
    calls = []

    def worse(self: blocks.ScreenedBlocks, some: slice) -> Any:
        calls.append(some)
        return screened(self, some) * np.float32(1.05)

    monkeypatch.setattr(blocks.ScreenedBlocks, "similarities", worse)
    found = nearest(queries, gallery, 5, precision="bf16")
    assert calls
    plain = nearest(queries, gallery, 5)
    assert np.array_equal(found.indices, plain.indices)
    assert np.array_equal(found.similarities, plain.similarities)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.usefixtures("small_blocks")
def test_a_gallery_in_the_order_of_similarity(descending: bool, precision: Precision) -> None:
    # Every block beats all before it, or none does.
    gallery = np.arange(1, 1001, dtype=np.float32)[:: -1 if descending else 1, None]
    gallery = np.concatenate([gallery, np.full_like(gallery, 100)], axis=1)
    queries = np.array([[1, 0], [0, 1], [-1, 2]], np.float32)
    for distance in ("cosine", "euclidean"):
        found = nearest(queries, gallery, 5, distance=distance, precision=precision)
        assert_exact(found, queries, gallery, distance)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("small_blocks")
def test_blocks_on_another_device_never_meet_the_host_s(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("reid_core")
    from reid_core.testing.elsewhere import ELSEWHERE, elsewhere

    monkeypatch.setattr(neighbours, "_device_for", lambda queries, gallery: ELSEWHERE)
    queries, gallery = integers(20, 5, 1, 1), integers(330, 5, 2, 1)
    with elsewhere():
        for distance in ("cosine", "euclidean"):
            found = nearest(queries, gallery, 21, distance=distance, precision=precision)
            assert_exact(found, queries, gallery, distance)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_lowest_is_the_similarity_of_the_furthest(
    device: torch.device | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_device_for", lambda queries, gallery: device)
    queries, gallery = integers(20, 6, 3), integers(250, 6, 4)
    for distance in ("cosine", "euclidean"):
        similarities, _ = sorted_similarities(queries, gallery, distance)
        found = nearest(queries, gallery, 3, distance=distance, lowest=True)
        assert found.lowest is not None
        assert np.array_equal(found.lowest, similarities.min(axis=1))


@pytest.mark.parametrize("library", ["numpy", "torch", "onednn"])
def test_every_library_finds_the_same(library: str) -> None:
    queries, gallery = integers(30, 8, 5), integers(400, 8, 6)
    assert_exact(nearest(queries, gallery, 9, products=library), queries, gallery, "cosine")


def test_every_kind_of_array(tmp_path: Path) -> None:
    queries, gallery = integers(11, 6, 7), integers(300, 6, 8)
    np.save(tmp_path / "gallery.npy", gallery.astype(np.float16))
    forms: list[Any] = [
        gallery.astype(np.float64),
        gallery.astype(np.int8),
        np.asfortranarray(gallery),
        np.repeat(gallery, 2, axis=0)[::2],
        torch.from_numpy(gallery).half(),
        torch.from_numpy(gallery).t().contiguous().t(),
        torch.from_numpy(gallery).requires_grad_(),
        np.load(tmp_path / "gallery.npy", mmap_mode="r"),
    ]
    for form in forms:
        for precision in PRECISIONS:
            found = nearest(queries, form, 8, precision=precision)
            assert_exact(found, queries, gallery, "cosine")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_memory_mapped_gallery_is_never_in_memory(tmp_path: Path, precision: Precision) -> None:
    rows, dim = 40_000, 64
    gallery = np.lib.format.open_memmap(
        tmp_path / "gallery.npy", mode="w+", dtype=np.float32, shape=(rows, dim)
    )
    for start in range(0, rows, 8000):
        gallery[start : start + 8000] = integers(8000, dim, start)
    gallery.flush()
    queries = gallery[[3, 20_000, 39_999]] * 2
    tracemalloc.start()
    try:
        mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
        found = nearest(queries, mapped, 2, precision=precision)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.indices[:, 0].tolist() == [3, 20_000, 39_999]
    assert peak < rows * dim * 4 / 2


def test_no_array_of_all_queries_and_all_gallery_images() -> None:
    features = integers(6000, 8, 9)
    tracemalloc.start()
    try:
        nearest(features, features, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6000 * 6000 * 4 / 2


FEATURES = np.ones((4, 3))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite(broken: float, precision: Precision) -> None:
    bad = FEATURES.copy()
    bad[2:, 1] = broken
    with pytest.raises(DataError, match="query features are not finite: 2 of 4 rows"):
        nearest(bad, FEATURES, 1, precision=precision)
    with pytest.raises(DataError, match=r"gallery features are not finite: .* row 2"):
        nearest(FEATURES, bad, 1, precision=precision)


@pytest.mark.usefixtures("small_blocks")
def test_a_bad_row_of_a_later_block_keeps_its_number() -> None:
    bad = integers(250, 3, 1)
    bad[207] = np.nan
    with pytest.raises(DataError, match=r"1 of 50 rows from row 200 on .* is row 207"):
        nearest(FEATURES, bad, 1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_that_float32_cannot_compare(precision: Precision) -> None:
    with pytest.raises(DataError, match=r"queries 0 to 3 are not finite: .* too large"):
        nearest(FEATURES * 1e30, FEATURES * 1e30, 1, precision=precision)
    for tiny in (1e-42, 1e-38, 1e-20):
        with pytest.raises(DataError, match=r"the smallest norm .* nearly zero; scale them"):
            nearest(FEATURES, FEATURES * tiny, 1, precision=precision)
        with pytest.raises(DataError, match=r"the largest norm .* nearly zero; scale them"):
            nearest(
                *(FEATURES * tiny, FEATURES * tiny, 1), distance="euclidean", precision=precision
            )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_image_that_float32_cannot_compare_and_nobody_is_close_to(precision: Precision) -> None:
    gallery = np.append(FEATURES, -1e38 * FEATURES[:1], axis=0)
    with pytest.raises(DataError, match=r"queries 0 to 3 are not finite: .* too large"):
        nearest(9 * FEATURES, gallery, 1, precision=precision)
    assert nearest(FEATURES[:0], FEATURES, 1, precision=precision).indices.shape == (0, 1)


def test_what_does_not_fit() -> None:
    with pytest.raises(DataError, match=r"3 dimensions, the gallery has shape \(4, 2\)"):
        nearest(FEATURES, np.ones((4, 2)), 1)
    with pytest.raises(DataError, match=r"the gallery has shape \(3,\)"):
        nearest(FEATURES, np.ones(3), 1)
    with pytest.raises(DataError, match="1 neighbours cannot be found among 0 gallery images"):
        nearest(FEATURES, np.ones((0, 3)), 1)
    with pytest.raises(DataError, match="5 neighbours cannot be found among 4 gallery images"):
        nearest(FEATURES, FEATURES, 5)
    with pytest.raises(DataError, match=r"4 neighbours .* among 3 other gallery images"):
        nearest(FEATURES, FEATURES, 4, exclude_self=True)
    with pytest.raises(DataError, match=r"k, must be a whole number, not 2\.5"):
        nearest(np.eye(4), np.eye(4), 2.5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 neighbours cannot be found"):
        nearest(FEATURES, FEATURES, 0)
    with pytest.raises(DataError, match="4 queries are not the 2 gallery images themselves"):
        nearest(FEATURES, FEATURES[:2], 1, exclude_self=True)
    with pytest.raises(ConfigError, match="unknown distance 'cosin'; did you mean 'cosine'"):
        nearest(FEATURES, FEATURES, 1, distance="cosin")
    with pytest.raises(ConfigError, match=r"unknown precision 'fp16'.* known: auto, fp32, bf16"):
        nearest(FEATURES, FEATURES, 1, precision="fp16")  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("small_blocks")
def test_a_prepared_gallery_is_not_prepared_again(
    precision: Precision, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = integers(330, 5, 2)
    prepared = Gallery(gallery, distance=distance, precision=precision)
    assert len(prepared) == 330
    prepare = blocks.Images.prepared
    rows = []

    def counting(features: FloatArray, *others: Any) -> blocks.Images:
        rows.append(len(features))
        return prepare(features, *others)

    monkeypatch.setattr(blocks.Images, "prepared", counting)
    for seed in (1, 2):
        queries = integers(20, 5, seed)
        assert_exact(prepared.nearest(queries, 9), queries, gallery, distance)
    assert rows == [20, 20]
    own = prepared.nearest(gallery, 3, exclude_self=True)
    assert_exact(own, gallery, gallery, distance, own=True)
    with pytest.raises(DataError, match="gallery features are not finite"):
        Gallery(gallery * np.nan)


def test_a_gallery_of_one_image_and_no_queries() -> None:
    found = nearest(FEATURES, FEATURES[:1], 1)
    assert found.indices.tolist() == [[0]] * 4
    none = nearest(np.ones((0, 3)), FEATURES, 2)
    assert none.indices.shape == none.similarities.shape == (0, 2)
