"""Equations 8 and 9 by hand, and what they are equal to."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reid_partaware.losses import IGNORED, class_balanced_cross_entropy


def logits_of(true: list[float], labels: Tensor, classes: int = 2) -> Tensor:
    """Return logits of one row of pixels that give their labels these probabilities."""
    rows = []
    for p, label in zip(true, labels.flatten().tolist(), strict=True):
        row = torch.full((classes,), (1 - p) / (classes - 1), dtype=torch.float64)
        row[label] = p
        rows.append(row.log())
    return torch.stack(rows).T[None, :, None]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(2, 0.6931472), (3, 1.0986123), (5, 1.6094379), (8, 2.0794415)],
)
def test_even_logits_cost_the_logarithm_of_the_classes(classes: int, expected: float) -> None:
    labels = torch.randint(0, classes, (3, 4, 2), generator=torch.Generator().manual_seed(0))
    loss = class_balanced_cross_entropy(torch.zeros(3, classes, 4, 2), labels)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_equation_9_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]]])
    logits = logits_of([0.5, 0.5, 0.8, 0.1], labels)
    assert float(class_balanced_cross_entropy(logits, labels)) == pytest.approx(1.4195322, abs=1e-7)
    assert float(F.cross_entropy(logits, labels)) == pytest.approx(0.9780057, abs=1e-7)


@pytest.fixture
def case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 8, 6, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 7, (4, 6, 3), generator=generator)  # class 7 is absent
    labels[0] = 0
    return logits, labels


def test_it_is_a_cross_entropy_weighted_by_one_over_the_pixels(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    pixels = torch.bincount(labels.flatten(), minlength=8).double()
    weight = torch.where(pixels > 0, 1 / pixels, 0)
    expected = F.cross_entropy(logits, labels, weight=weight)
    assert float(class_balanced_cross_entropy(logits, labels)) == pytest.approx(float(expected))


def test_it_is_taken_over_the_batch_and_not_per_image(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    whole = class_balanced_cross_entropy(logits, labels)
    single = [class_balanced_cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in range(4)]
    assert abs(float(whole - torch.stack(single).mean())) > 1e-3


def test_enlarging_logits_and_labels_alike_changes_nothing(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    large = F.interpolate(logits, scale_factor=2, mode="nearest")
    wide = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = float(class_balanced_cross_entropy(logits, labels))
    assert float(class_balanced_cross_entropy(large, wide)) == pytest.approx(expected)


def test_every_class_present_pulls_with_the_same_mass() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]]])
    true = [0.5, 0.5, 0.8, 0.1]
    logits = logits_of(true, labels).requires_grad_()
    class_balanced_cross_entropy(logits, labels).backward()
    on_true = [-float(logits.grad[0, label, 0, i]) for i, label in enumerate([0, 0, 0, 1])]
    assert sum(on_true[:3]) == pytest.approx((0.5 + 0.5 + 0.2) / 3 / 2)
    assert on_true[3] == pytest.approx(0.9 / 2)


def test_ignored_pixels_count_for_nothing(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    some = labels.clone()
    some[:, :, 2] = IGNORED
    expected = class_balanced_cross_entropy(logits[..., :2], labels[..., :2])
    assert float(class_balanced_cross_entropy(logits, some)) == pytest.approx(float(expected))
    logits.requires_grad_()
    nothing = class_balanced_cross_entropy(logits, torch.full_like(labels, IGNORED))
    assert float(nothing.detach()) == 0
    nothing.backward()
    assert not logits.grad.any()


def test_half_precision_is_summed_in_full(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    loss = class_balanced_cross_entropy(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    exact = class_balanced_cross_entropy(logits.bfloat16().float(), labels)
    assert float(loss) == pytest.approx(float(exact), rel=1e-6)


def test_ranks_together_have_the_loss_and_gradient_of_the_whole_batch(
    case: tuple[Tensor, Tensor],
) -> None:
    logits, labels = case
    logits.requires_grad_()
    class_balanced_cross_entropy(logits, labels).backward()
    whole = logits.grad.clone()
    logits.grad = None
    # Each rank has two images; what it sums, it adds to what the other one has.
    halves = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    sums: list[list[Tensor]] = [[], []]
    for rank, (some, truth) in enumerate(halves):

        def keep(values: Tensor, rank: int = rank) -> Tensor:
            sums[rank].append(values)
            return values

        class_balanced_cross_entropy(some, truth, keep)
    others = {0: iter(sums[1]), 1: iter(sums[0])}
    losses = [
        class_balanced_cross_entropy(some, truth, lambda v, rank=rank: v + next(others[rank]))
        for rank, (some, truth) in enumerate(halves)
    ]
    assert torch.allclose(losses[0].detach(), losses[1].detach())
    losses[0].backward()
    assert torch.allclose(logits.grad, whole)
