"""Libraries for inner products: which is taken, which never is, and that they agree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from reid_retrieval import products
from reid_retrieval.errors import ConfigError
from reid_retrieval.features import FeatureSet, FloatArray
from reid_retrieval.labels import Labels
from reid_retrieval.products import (
    ERROR_BOUND,
    HOST_LIBRARIES,
    Trial,
    chosen_library,
    fastest_library,
    full_precision,
    products_by,
    trials,
    try_out,
)
from reid_retrieval.retrieval import evaluate, evaluate_all
from reid_retrieval.similarities import (
    COSINE,
    EUCLIDEAN,
    METRICS,
    Metric,
    compare,
    compare_on_device,
)

pytestmark = pytest.mark.cuda

POSSIBLE = [name for name, trial in trials().items() if not trial.problem]
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(products.ENVIRONMENT, raising=False)
    yield
    assert torch.get_float32_matmul_precision() == "highest"


def integers(rows: int, dim: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).integers(-4, 5, (rows, dim)).astype(np.float32)


@pytest.mark.parametrize("library", POSSIBLE)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 7, 5), (70, 5000, 33), (256, 4097, 64)])
def test_products_of_integers_are_exact(library: str, size: tuple[int, int, int]) -> None:
    queries, gallery = integers(size[0], size[2], 1), integers(size[1], size[2], 2)
    out = np.full((size[0], size[1]), np.nan, np.float32)
    HOST_LIBRARIES[library](queries, gallery, out)
    assert np.array_equal(out, queries.astype(np.int64) @ gallery.astype(np.int64).T)


@pytest.mark.parametrize("library", POSSIBLE)
def test_features_may_be_read_only(library: str) -> None:
    queries, gallery = integers(4, 8, 1), integers(9, 8, 2)
    for features in (queries, gallery):
        features.flags.writeable = False
    out = np.empty((4, 9), np.float32)
    HOST_LIBRARIES[library](queries, gallery, out)
    assert np.array_equal(out, queries @ gallery.T)


def as_bfloat16(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    asked, offered = torch.from_numpy(queries).bfloat16(), torch.from_numpy(gallery).bfloat16()
    out[:] = (asked.float() @ offered.float().T).numpy()


def as_tf32(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    # 13 bits of the significand are dropped, as a tensor core reads it.
    kept = [(part.view(np.int32) & ~0x1FFF).view(np.float32) for part in (queries, gallery)]
    np.matmul(kept[0], kept[1].T, out=out)


def not_a_number(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    out[:] = np.nan


def absent(queries: FloatArray, gallery: FloatArray, out: FloatArray) -> None:
    raise RuntimeError("operator is not there\nand more")


def test_what_is_not_float32_is_refused() -> None:
    libraries = {
        "numpy": HOST_LIBRARIES["numpy"],
        "bf16": as_bfloat16,
        "tf32": as_tf32,
        "nan": not_a_number,
        "absent": absent,
    }
    found = try_out(libraries, rounds=1)
    assert found["numpy"].problem == ""
    assert found["numpy"].error < ERROR_BOUND / 4
    assert 1e-4 < found["bf16"].error < 1e-2
    assert "is above 2e-06, float32's" in found["bf16"].problem
    assert "is above 2e-06, float32's" in found["tf32"].problem
    assert "is above" in found["nan"].problem
    assert found["absent"].problem == "it fails here (operator is not there)"
    # However fast they were, none of them is taken.
    quick = {
        n: Trial(t.error, t.seconds / 1e9 * (n != "numpy"), t.problem) for n, t in found.items()
    }
    quick["numpy"] = Trial(0.0, 1.0)
    assert fastest_library(quick) == "numpy"


def test_the_fastest_is_taken_if_it_is_clearly_faster() -> None:
    alike = {"numpy": Trial(0, 1.0), "torch": Trial(0, 0.98), "onednn": Trial(0, 0.98)}
    assert fastest_library(alike) == "numpy"
    assert fastest_library({**alike, "torch": Trial(0, 0.5)}) == "torch"
    assert fastest_library({**alike, "onednn": Trial(0, 0.5)}) == "onednn"
    assert fastest_library({**alike, "torch": Trial(0, 0.5), "onednn": Trial(0, 0.49)}) == "torch"


def test_a_library_is_asked_for_named_or_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_library() == fastest_library(trials())
    monkeypatch.setenv(products.ENVIRONMENT, "torch")
    assert chosen_library() == "torch"
    with products_by("numpy"):
        assert chosen_library() == "numpy"
        with products_by(None):
            assert chosen_library() == "numpy"
        with products_by("auto"):
            assert chosen_library() == "torch"
    assert chosen_library() == "torch"
    monkeypatch.delenv(products.ENVIRONMENT)
    monkeypatch.setattr(products, "cuda_trial", lambda: Trial(1e-7, 1e-3))
    assert chosen_library(host=False) == "cuda"
    with products_by("cuda"):
        assert chosen_library() == "cuda"
    monkeypatch.setattr(products, "cuda_trial", lambda: Trial(1e-4, 1e-3, "it computes in TF32"))
    assert chosen_library(host=False) == fastest_library(trials())


def test_libraries_that_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ConfigError, match=r"unknown library 'nunpy' .* did you mean 'numpy'"),
        products_by("nunpy"),
    ):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    products.cuda_trial.cache_clear()
    monkeypatch.setenv(products.ENVIRONMENT, "cuda")
    with pytest.raises(ConfigError, match="by 'cuda' are not possible: there is no CUDA device"):
        chosen_library()
    wrong = {**trials(), "onednn": Trial(1e-3, 1.0, "its error is too large")}
    monkeypatch.setattr(products, "trials", lambda: wrong)
    with (
        pytest.raises(ConfigError, match="'onednn' are not possible: its error is too large; use"),
        products_by("onednn"),
    ):
        pass


BY_OPERATOR = hasattr(torch.backends.mkldnn, "matmul")


@pytest.mark.skipif(BY_OPERATOR, reason="this torch has a switch for every operator")
def test_an_older_torch_stays_in_float32_and_its_switch_is_set_back() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not BY_OPERATOR, reason="this torch has one switch for all operators")
@pytest.mark.parametrize("permitted", ["legacy", "by operator"])
def test_torch_stays_in_float32_and_its_switches_are_set_back(permitted: str) -> None:
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    try:
        if permitted == "legacy":
            torch.set_float32_matmul_precision("medium")
        else:
            matmul.fp32_precision = "bf16"
        loose = matmul.fp32_precision
        with full_precision(), torch.autocast("cpu", torch.bfloat16, enabled=False):
            assert matmul.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision in ("ieee", "none")
        assert matmul.fp32_precision == loose == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
        matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


def test_autocast_does_not_reach_products() -> None:
    queries = np.full((2, 4), 1 + 2**-10, np.float32)
    out = np.empty((2, 2), np.float32)
    with torch.autocast("cpu", torch.bfloat16):
        HOST_LIBRARIES["torch"](queries, queries, out)
    assert out[0, 0] == 4 * np.float32(1 + 2**-10) ** 2


def two_sides() -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(5)
    sides = [
        FeatureSet(integers(rows, 16, rows), Labels(*rng.integers(0, (9, 3), (rows, 2)).T))
        for rows in (70, 300)
    ]
    return sides[0], sides[1]


@pytest.mark.parametrize("distance", list(METRICS))
def test_scores_are_the_same_by_every_library(distance: str) -> None:
    queries, gallery = two_sides()
    results = {}
    for library in POSSIBLE:
        found = evaluate(queries, gallery, distance=distance, products=library, per_query=True)
        results[library] = found
        assert found.products == library
        assert found.to_json()["products"] == library
    plain = {library: found.to_json() | {"products": ""} for library, found in results.items()}
    assert all(found == plain["numpy"] for found in plain.values())


@pytest.mark.parametrize("metric", [COSINE, EUCLIDEAN])
@pytest.mark.parametrize("device", DEVICES)
def test_a_device_gives_the_same_similarities(metric: Metric, device: str) -> None:
    queries, gallery = (side.features for side in two_sides())
    there = compare_on_device(metric, queries, torch.from_numpy(gallery).to(device), device)
    with products_by("numpy"):
        here = compare(metric, queries, gallery)
    assert here.products == "numpy"
    for start, stop in ((0, 1), (1, 70), (69, 70)):
        out = np.empty((2, stop - start, len(gallery)), np.float32)
        here.fill(start, stop, out[0])
        there.fill(start, stop, out[1])
        assert np.array_equal(out[0], out[1])


def test_features_are_compared_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that is taken for one of a device is neither copied nor read by NumPy."""
    from reid_retrieval import features, similarities

    def on_host(rows: object) -> bool:
        return isinstance(rows, np.ndarray)

    asked = []

    def on_this_device(metric: Metric, queries: object, gallery: object, device: str) -> object:
        asked.append((queries, gallery, device))
        return compare_on_device(metric, queries, gallery, "cpu")  # type: ignore[arg-type]

    queries, gallery = two_sides()
    expected = [evaluate(queries, gallery, distance=d, products="numpy") for d in METRICS]
    if not torch.cuda.is_available():
        monkeypatch.setattr(features, "on_host", on_host)
        monkeypatch.setattr(similarities, "on_host", on_host)
        monkeypatch.setattr(similarities, "compare_on_device", on_this_device)
        monkeypatch.setattr(products, "cuda_trial", lambda: Trial(1e-7, 1e-3))
    place = DEVICES[-1]
    tensors = [torch.from_numpy(side.features).double().to(place) for side in (queries, gallery)]
    sets = [
        FeatureSet(tensor, side.labels)
        for tensor, side in zip(tensors, (queries, gallery), strict=True)
    ]
    assert isinstance(sets[0].rows, torch.Tensor)
    assert sets[0].rows.dtype == torch.float32
    assert np.array_equal(sets[0].features, queries.features)
    found = [evaluate(sets[0], sets[1], distance=d) for d in METRICS]
    assert found == expected
    for rows, offered, device in asked:
        assert rows is sets[0].rows
        assert offered is sets[1].rows
        assert device == "cuda"
    some = np.array([5, 0, 3])
    assert np.array_equal(sets[0].take(some).features, queries.features[some])


def test_arrays_are_multiplied_without_importing_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from reid_retrieval.neighbours import nearest\n"
        "from reid_retrieval.products import chosen_library\n"
        "assert nearest(np.eye(3), np.eye(3), 1).indices[:, 0].tolist() == [0, 1, 2]\n"
        "assert chosen_library() == 'numpy'\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_no_protocols_no_results() -> None:
    assert evaluate_all(*two_sides(), ()) == ()
