"""Identity losses against hand-computed values, torch, and a plain loop over anchors."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor

from reid_core.model.losses import batch_hard_triplet, identity_cross_entropy
from reid_core.model.precision import full_precision, inner_products

POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
IDS = torch.tensor([0, 0, 1, 1])


def naive_triplet(vectors: Tensor, labels: Tensor, margin: float, soft: bool = False) -> float:
    losses = []
    for i, label in enumerate(labels.tolist()):
        distances = [math.dist(vectors[i].tolist(), other.tolist()) for other in vectors]
        same = [d for j, d in enumerate(distances) if labels[j] == label and j != i]
        other = [d for j, d in enumerate(distances) if labels[j] != label and labels[j] >= 0]
        if label < 0 or not other:
            continue
        gap = max(same, default=0.0) - min(other)
        losses.append(math.log1p(math.exp(gap)) if soft else max(0.0, gap + margin))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize(("margin", "value"), [(0.3, 0.9527756), (0.1, 0.8527756)])
def test_triplet_of_four_points(margin: float, value: float) -> None:
    # Anchors: 1 - 2, 1 - 2, sqrt(13) - 2, sqrt(13) - 2, each plus the margin.
    assert batch_hard_triplet(POINTS, IDS, margin).item() == pytest.approx(value, abs=1e-6)
    assert value == pytest.approx((0 + 0 + 2 * (math.sqrt(13) - 2 + margin)) / 4, abs=1e-7)


def test_triplet_of_equal_embeddings_is_the_margin() -> None:
    vectors = torch.ones(8, 5, requires_grad=True)
    loss = batch_hard_triplet(vectors, torch.arange(8) // 4, 0.3)
    assert loss.item() == pytest.approx(0.3, abs=1e-6)
    loss.backward()
    assert torch.isfinite(vectors.grad).all()


def test_triplet_of_collapsed_classes_at_distance_one_is_zero() -> None:
    vectors = torch.tensor([[0.0], [0.0], [1.0], [1.0]], requires_grad=True)
    loss = batch_hard_triplet(vectors, IDS, 0.3)
    assert loss.item() == 0.0
    loss.backward()
    assert torch.isfinite(vectors.grad).all()


def hardest(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the farthest positive and the nearest negative of every row, in float64."""
    distances = torch.cdist(vectors.double(), vectors.double())
    same = labels[:, None] == labels[None, :]
    positive = distances.masked_fill(~same, -1).argmax(1)
    return positive, distances.masked_fill(same, torch.inf).argmin(1)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_mixed_precision_mines_what_float32_mines(kind: torch.dtype) -> None:
    # Features of norm 26 whose distances differ by less than what bfloat16 keeps of their squares.
    draw = torch.Generator().manual_seed(0)
    vectors = 26 / 16 * (1 + 0.02 * torch.randn(32, 256, generator=draw))
    vectors, labels = vectors.to(kind), torch.arange(32) // 4
    positive, negative = hardest(vectors, labels)
    exact = vectors.double()
    gaps = (exact - exact[positive]).norm(dim=1) - (exact - exact[negative]).norm(dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = batch_hard_triplet(vectors, labels, margin=0.3)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((gaps + 0.3).clamp(min=0).mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_products_of_features_ignore_mixed_precision(kind: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    rows, others = (torch.randn(n, 64, generator=draw).to(kind) for n in (5, 7))
    with torch.autocast("cpu", torch.bfloat16):
        found, own = inner_products(rows, others), inner_products(rows)
        with full_precision(rows):
            assert (rows.float() @ others.float().T).dtype == torch.float32
    wanted = torch.float64 if kind == torch.float64 else torch.float32
    assert found.dtype == own.dtype == wanted
    assert torch.allclose(found.double(), rows.double() @ others.double().T, atol=1e-4)
    assert torch.allclose(own.double(), rows.double() @ rows.double().T, atol=1e-4)


def test_soft_margin_of_equal_embeddings_is_ln_2() -> None:
    loss = batch_hard_triplet(torch.zeros(4, 3), IDS, soft_margin=True)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_triplet_gradient_pulls_the_positive_and_pushes_the_negative() -> None:
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1])
    # Anchor 0: 1 - 1 + m; anchor 1: 1 - sqrt(2) + m < 0; anchor 2, its own positive: 0 - 1 + m < 0.
    batch_hard_triplet(vectors, labels, 0.3).backward()
    expected = torch.tensor([[-1.0, 1.0], [1.0, 0.0], [0.0, -1.0]]) / 3
    assert torch.allclose(vectors.grad, expected, atol=1e-6)


def test_rows_without_identity_change_nothing() -> None:
    alone = batch_hard_triplet(POINTS, IDS)
    more = torch.cat([POINTS, torch.tensor([[0.1, 0.1], [9.0, 9.0]])]).requires_grad_()
    joined = batch_hard_triplet(more, torch.tensor([0, 0, 1, 1, -1, -1]))
    assert joined.item() == pytest.approx(alone.item(), abs=1e-6)
    joined.backward()
    assert torch.equal(more.grad[4:], torch.zeros(2, 2))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [-1, -1, -1, -1], [0, 0, -1, -1]])
def test_without_a_negative_the_loss_is_zero_and_keeps_its_graph(labels: list[int]) -> None:
    vectors = POINTS.clone().requires_grad_()
    loss = batch_hard_triplet(vectors, torch.tensor(labels))
    assert loss.item() == 0.0
    loss.backward()
    assert torch.equal(vectors.grad, torch.zeros(4, 2))


def test_low_precision_is_computed_in_float32() -> None:
    loss = batch_hard_triplet(POINTS.bfloat16(), IDS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.9527756, abs=1e-6)
    assert identity_cross_entropy(torch.zeros(2, 3).bfloat16(), IDS[:2]).dtype == torch.float32


@st.composite
def labelled_points(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    rows = draw(st.integers(2, 9))
    columns = draw(st.integers(1, 3))
    # Small integers: their Gram matrix is exact, so that ties are ties for both.
    number = st.integers(-4, 4)
    values = draw(
        st.lists(st.lists(number, min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    )
    labels = draw(st.lists(st.integers(-1, 3), min_size=rows, max_size=rows))
    return torch.tensor(values, dtype=torch.float32), torch.tensor(labels)


@settings(max_examples=150, deadline=None)
@given(labelled_points(), st.sampled_from([0.0, 0.1, 0.3, 1.0]), st.booleans())
def test_the_vectorised_triplet_is_the_plain_loop(
    case: tuple[Tensor, Tensor], margin: float, soft: bool
) -> None:
    vectors, labels = case
    vectors = vectors.requires_grad_()
    loss = batch_hard_triplet(vectors, labels, margin, soft)
    assert loss.item() == pytest.approx(naive_triplet(vectors, labels, margin, soft), abs=2e-6)
    loss.backward()
    assert torch.isfinite(vectors.grad).all()


@settings(max_examples=60, deadline=None)
@given(labelled_points(), st.randoms(use_true_random=False))
def test_the_triplet_does_not_depend_on_the_order_of_rows(
    case: tuple[Tensor, Tensor], random: object
) -> None:
    vectors, labels = case
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = batch_hard_triplet(vectors[order], labels[order])
    assert moved.item() == pytest.approx(
        batch_hard_triplet(vectors, labels).item(), rel=1e-6, abs=5e-6
    )


@pytest.mark.parametrize("classes", [2, 751, 767])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_uniform_logits_is_ln_k(classes: int, smoothing: float) -> None:
    loss = identity_cross_entropy(torch.zeros(4, classes), torch.tensor([0, 1, 0, 1]), smoothing)
    assert loss.item() == pytest.approx(math.log(classes), abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert identity_cross_entropy(logits, labels, smoothing).item() == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_smoothing_spreads_over_all_classes() -> None:
    # K = 2, logits 0 and ln 3: p = 1/4, 3/4; targets 0.95, 0.05.
    logits = torch.tensor([[0.0, math.log(3)]])
    expected = -0.95 * math.log(0.25) - 0.05 * math.log(0.75)
    assert identity_cross_entropy(logits, torch.tensor([0]), 0.1).item() == pytest.approx(expected)


def test_cross_entropy_leaves_rows_without_identity_out() -> None:
    logits = torch.tensor([[1.0, 0.0], [5.0, -3.0], [0.0, 2.0]], requires_grad=True)
    loss = identity_cross_entropy(logits, torch.tensor([0, -1, 1]), 0.1)
    kept = identity_cross_entropy(logits[[0, 2]], torch.tensor([0, 1]), 0.1)
    assert loss.item() == pytest.approx(kept.item())
    loss.backward()
    assert torch.equal(logits.grad[1], torch.zeros(2))
    none = identity_cross_entropy(logits, torch.full((3,), -1))
    assert none.item() == 0.0
    assert none.requires_grad


def test_soft_targets_replace_labels_where_they_are_given() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, math.log(3)]])
    soft = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])
    # Row 0: -(ln 0.75 + ln 0.25) / 2; row 1: its label, ln 2; row 2: neither label nor target.
    expected = (-(math.log(0.75) + math.log(0.25)) / 2 + math.log(2)) / 2
    loss = identity_cross_entropy(logits, torch.tensor([-1, 1, -1]), 0.0, soft)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_one_hot_soft_targets_are_labels() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 1, 1])
    soft = F.one_hot(labels, 3).float()
    assert torch.allclose(
        identity_cross_entropy(logits, torch.full((4,), -1), 0.1, soft),
        identity_cross_entropy(logits, labels),
    )
