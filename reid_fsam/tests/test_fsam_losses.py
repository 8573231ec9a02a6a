"""The losses: hand-computed values, invariances, and where gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reid_core import batch_hard_triplet
from reid_fsam.losses import (
    dense_similarity,
    divergence,
    mask_drift,
    mutual_divergence,
    similarity_matrix,
)
from reid_fsam.settings import Norm

P_A, P_S = (0.7, 0.2, 0.1), (0.2, 0.3, 0.5)


def logits(probabilities: tuple[float, ...]) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log().requires_grad_(True)


def features(blocks: int, batch: int = 6, seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, 5 + block, generator=random, dtype=torch.float64)
        for block in range(blocks)
    ]


@pytest.mark.parametrize(("norm", "expected"), [("fro", 16 * 2**0.5), ("sq", 32.0), ("mean", 8.0)])
def test_all_sixteen_pairs_of_blocks_count(norm: Norm, expected: float) -> None:
    # Two rows: cosines 0 in the appearance stream, 1 in the shape stream; 16 pairs of blocks.
    apart, equal = torch.eye(2), torch.ones(2, 3)
    assert float(dense_similarity([apart] * 4, [equal] * 4, norm)) == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["fro", "sq", "mean"])
def test_equal_similarities_cost_nothing_and_have_no_gradient(norm: Norm) -> None:
    ours = features(1)[0].requires_grad_(True)
    loss = dense_similarity([ours], [ours.detach()], norm)
    loss.backward()
    assert loss.item() == 0
    assert ours.grad is not None
    assert torch.equal(ours.grad, torch.zeros_like(ours)), "a root of 0 has no derivative"


@pytest.mark.parametrize("norm", ["fro", "sq", "mean"])
def test_neither_scale_nor_order_of_rows_matters(norm: Norm) -> None:
    ours, theirs = features(4), features(4, seed=1)
    plain = dense_similarity(ours, theirs, norm)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.allclose(dense_similarity([3 * x for x in ours], theirs, norm), plain)
    mixed = dense_similarity([x[order] for x in ours], [x[order] for x in theirs], norm)
    assert torch.allclose(mixed, plain)


def test_similarities_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = similarity_matrix(features(1)[0].bfloat16())
    assert found.dtype == torch.float32
    assert torch.allclose(found.diagonal(), torch.ones(6))


def test_divergences_have_their_values() -> None:
    ours, theirs = logits(P_A), logits(P_S)
    assert divergence(ours, theirs).item() == pytest.approx(0.6348973, abs=1e-7)
    assert divergence(theirs, ours).item() == pytest.approx(0.6758059, abs=1e-7)
    for detach in (False, True):
        assert mutual_divergence(ours, theirs, detach).item() == pytest.approx(1.3107033, abs=2e-7)


def test_divergence_sums_over_classes_and_averages_over_rows() -> None:
    ours, theirs = logits(P_A), logits(P_S)
    twice = mutual_divergence(torch.cat([ours, ours]), torch.cat([theirs, theirs]))
    assert torch.allclose(twice, mutual_divergence(ours, theirs))


@pytest.mark.parametrize(
    ("detach", "expected"), [(False, (0.9325, -0.3081, -0.6244)), (True, (0.5, -0.1, -0.4))]
)
def test_detaching_changes_the_gradient(detach: bool, expected: tuple[float, ...]) -> None:
    ours, theirs = logits(P_A), logits(P_S)
    mutual_divergence(ours, theirs, detach).backward()
    assert ours.grad is not None
    assert ours.grad[0].tolist() == pytest.approx(expected, abs=5e-5)
    if detach:
        assert theirs.grad is not None
        assert theirs.grad[0].tolist() == pytest.approx([-0.5, 0.1, 0.4], abs=1e-9)


def test_drift_divides_by_pixels_not_by_channels() -> None:
    uniform = torch.full((2, 7, 4, 3), 1 / 7)
    certain = torch.zeros(2, 7, 4, 3)
    certain[:, 2] = 1
    assert mask_drift(uniform, certain).tolist() == pytest.approx([6 / 7] * 2)
    other = certain.roll(1, dims=1)
    assert mask_drift(other, certain).tolist() == [2.0, 2.0], "the largest of probabilities"


@pytest.mark.parametrize(("margin", "expected"), [(0.3, 0.9527756), (0.1, 0.8527756)])
def test_the_core_s_triplet_is_the_paper_s(margin: float, expected: float) -> None:
    points = torch.tensor([[0.0, 0], [1, 0], [0, 2], [3, 0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert batch_hard_triplet(points, labels, margin).item() == pytest.approx(expected, abs=1e-6)
