"""Equations 8 and 9, with values worked by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import Embedded, inner_products
from reid_unsup_cc.contrast import contrast, info_nce
from reid_unsup_cc.divergence import divergences, log_distributions, self_identity

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def embedded(neck: Tensor) -> Embedded:
    return Embedded(neck, neck, F.normalize(neck, dim=1))


def printed_out(probabilities: Tensor, groups: Tensor) -> float:
    """Equation 9 as a double loop."""
    total = 0.0
    for a, b in itertools.product(range(len(groups)), repeat=2):
        if groups[a] == groups[b]:
            p, q = probabilities[a], probabilities[b]
            total += float((p * (p / q).log()).sum())
    return total / len(groups)


def test_divergences_of_the_worked_pair() -> None:
    found = divergences(torch.stack([P, Q]).log(), torch.stack([Q, P]).log())
    assert found.tolist() == pytest.approx([0.6348973, 0.6758059], abs=1e-7)


def test_one_pair_of_images() -> None:
    value = self_identity(torch.stack([P, Q]).log(), torch.tensor([0, 0]))
    assert value.item() == pytest.approx(0.6553516, abs=1e-7)


def test_one_of_five_differs() -> None:
    rows = torch.stack([P, P, Q, P, P]).log()
    value = self_identity(rows, torch.zeros(5, dtype=torch.int64))
    assert value.item() == pytest.approx(1.0485626, abs=1e-7)


def test_equal_features_give_zero_in_float32() -> None:
    rows = torch.randn(4, 2048).log_softmax(1).repeat_interleave(5, 0)
    value = self_identity(rows, torch.arange(4).repeat_interleave(5))
    assert abs(value.item()) < 1e-10


@pytest.mark.parametrize("groups", [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [3, 3, 3, 3, 0, 5]])
def test_it_is_the_double_loop(groups: list[int]) -> None:
    probabilities = torch.randn(6, 7, dtype=torch.float64).softmax(1)
    value = self_identity(probabilities.log(), torch.tensor(groups))
    assert value.item() == pytest.approx(printed_out(probabilities, torch.tensor(groups)))


def test_both_arguments_carry_gradient() -> None:
    """The gradient is that of KL(p || q) + KL(q || p), neither of them held fixed."""
    rows = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    found = self_identity(rows.log_softmax(1), torch.tensor([0, 0]))
    p, q = rows.softmax(1)
    expected = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
    assert found.item() == pytest.approx(expected.item())
    ours, theirs = (torch.autograd.grad(value, rows)[0] for value in (found, expected))
    assert torch.allclose(ours, theirs)


def test_an_image_alone_constrains_nothing() -> None:
    rows = torch.randn(3, 5).log_softmax(1)
    assert self_identity(rows, torch.arange(3)).item() == pytest.approx(0, abs=1e-9)


def test_the_law_of_the_divergence_of_unit_vectors() -> None:
    """KL is (1 - c) R^2 / (d T^2): why unit vectors at T = 1 have nearly no gradient."""
    torch.manual_seed(0)
    first = F.normalize(torch.randn(1, 2048, dtype=torch.float64), dim=1)
    other = torch.randn(1, 2048, dtype=torch.float64)
    other = F.normalize(other - (other @ first.T) * first, dim=1)
    second = 0.5 * first + 0.75**0.5 * other
    ours, theirs = (log_distributions(embedded(v), "unit", 0.05) for v in (first, second))
    assert divergences(ours, theirs).item() == pytest.approx(2.441e-4, rel=0.01)


def test_the_scale_of_batch_norm_is_no_way_around_the_constraint() -> None:
    """Behind batch norm a smaller gamma shrinks L_s, so it fades; over tau it has no part in it."""
    torch.manual_seed(0)
    rows, groups = torch.randn(6, 64, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1])
    gamma = torch.ones(64, dtype=torch.float64, requires_grad=True)
    for space, fades in (("bn", True), ("unit_tau", False)):
        value = self_identity(log_distributions(embedded(rows * gamma), space, 0.05), groups)  # type: ignore[arg-type]
        [slope] = torch.autograd.grad(value, gamma)
        # Along gamma itself: does the whole scale matter?
        assert (slope.sum().item() > 1) == fades, space
        assert fades or abs(slope.sum().item()) < 1e-9
        smaller = self_identity(log_distributions(embedded(0.5 * rows), space, 0.05), groups)  # type: ignore[arg-type]
        assert (smaller < 0.5 * value) == fades


def test_spaces() -> None:
    neck = torch.tensor([[3.0, 4.0]])
    seen = Embedded(torch.tensor([[9.0, 1.0]]), neck, F.normalize(neck, dim=1))
    for space, logits in {
        "bn": [[3.0, 4.0]],
        "unit": [[0.6, 0.8]],
        "unit_tau": [[12.0, 16.0]],
    }.items():
        found = log_distributions(seen, space, 0.05)  # type: ignore[arg-type]
        assert torch.allclose(found, torch.tensor(logits).log_softmax(1)), space


def test_temperature_one_is_the_printed_form() -> None:
    """As printed, exp(f . m) / tau over the sum of the same: tau cancels."""
    cosines, labels = torch.rand(4, 6) * 2 - 1, torch.tensor([0, 5, 2, 2])
    for tau in (0.05, 0.5):
        shares = (cosines.exp() / tau) / (cosines.exp() / tau).sum(1, keepdim=True)
        printed = -shares[torch.arange(4), labels].log().mean().item()
        assert info_nce(cosines, labels, 1.0).item() == pytest.approx(printed, rel=1e-5)
    softmax = [info_nce(cosines, labels, tau).item() for tau in (0.05, 0.5)]
    assert abs(softmax[0] - softmax[1]) > 0.1


def test_an_exact_match_among_orthonormal_memories() -> None:
    memory = torch.eye(100, dtype=torch.float64)
    cosines = inner_products(memory[:3], memory)
    value = info_nce(cosines, torch.arange(3), 0.05).item()
    assert value == pytest.approx(2.04e-7, rel=0.005)
    assert value == pytest.approx(math.log1p(99 * math.exp(-20)))


def test_equal_similarities_give_ln_n() -> None:
    value = info_nce(torch.full((3, 40), 0.3), torch.tensor([0, 1, 39]), 0.05).item()
    assert value == pytest.approx(math.log(40), rel=1e-6)


def test_two_equal_memories() -> None:
    cosines, labels = torch.rand(5, 8, dtype=torch.float64), torch.tensor([0, 1, 7, 3, 3])
    single = contrast([cosines], labels, 0.05).item()
    twice = [cosines, cosines]
    assert contrast(twice, labels, 0.05, "mean").item() == pytest.approx(single)
    assert contrast(twice, labels, 0.05, "union").item() == pytest.approx(single + math.log(2))


def test_two_memories_that_differ() -> None:
    average, hard = torch.rand(2, 5, 8, dtype=torch.float64).unbind()
    labels = torch.tensor([0, 1, 7, -1, 3])
    a, h = (info_nce(c, labels, 0.05).item() for c in (average, hard))
    assert contrast([average, hard], labels, 0.05).item() == pytest.approx((a + h) / 2)
    both, kept = torch.cat([average, hard], 1) / 0.05, labels >= 0
    found = [F.cross_entropy(both[kept], labels[kept] + shift).item() for shift in (0, 8)]
    union = contrast([average, hard], labels, 0.05, "union").item()
    assert union == pytest.approx(sum(found) / 2)


def test_rows_of_nobody_are_left_out() -> None:
    cosines = torch.rand(3, 4)
    some = info_nce(cosines, torch.tensor([1, -1, 2]), 0.05)
    assert some.item() == pytest.approx(
        info_nce(cosines[[0, 2]], torch.tensor([1, 2]), 0.05).item()
    )
    assert info_nce(cosines, torch.full((3,), -1), 0.05).item() == 0
    share = (cosines[1] / 0.05).softmax(0)[2]
    one = info_nce(cosines, torch.tensor([-1, 2, -1]), 0.05)
    assert one.item() == pytest.approx(-share.log().item(), rel=1e-5)
