"""Poolings, necks and the core's identity criterion."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reid_core.config import IdentitySection
from reid_core.contract.criterion import IdentityCriterion
from reid_core.contract.model import Embedding, Supervision
from reid_core.contract.views import Embedded
from reid_core.errors import DeclarationError
from reid_core.model.blocks import EmbeddingHead, GlobalPool, build_neck
from reid_core.model.criteria import CrossEntropyTriplet


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def embedding(**options: Any) -> Embedding:
    return Embedding("core/global", "core/pooled", **options)


def embedded(raw: torch.Tensor, neck: torch.Tensor | None = None) -> Embedded:
    neck = raw if neck is None else neck
    return Embedded(raw, neck, F.normalize(neck, dim=1))


def criterion(
    supervision: Supervision | None = None, dim: int = 4, identities: int = 3, **settings: Any
) -> CrossEntropyTriplet:
    declared = embedding(supervision=supervision or Supervision())
    return CrossEntropyTriplet(declared, dim, identities, IdentitySection(**settings))


def test_pooling_takes_the_mean_or_the_maximum() -> None:
    feature = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -2.0], [-3.0, -6.0]]]])
    assert GlobalPool("avg")(feature).tolist() == [[3.0, -3.0]]
    assert GlobalPool("max")(feature).tolist() == [[6.0, -1.0]]
    assert GlobalPool("max").deploy_spec()["kwargs"] == {"kind": "max"}


@pytest.mark.parametrize(
    ("kind", "dim", "out", "parameters"),
    [
        ("none", None, 6, 0),
        ("bn", None, 6, 12),
        ("fc", 4, 4, 24),
        ("fc", None, 6, 36),
        ("fc_bn", 4, 4, 24 + 4 + 8),
        ("fc_bn_relu", 4, 4, 24 + 4 + 8),
    ],
)
def test_necks_have_their_shapes(kind: str, dim: int | None, out: int, parameters: int) -> None:
    head = EmbeddingHead(embedding(neck=kind, dim=dim), 6)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert (head.channels, head.dim) == (6, out)
    for raw in (torch.randn(5, 6), torch.randn(5, 6, 1, 1)):
        vectors = head(raw)
        assert vectors.raw.shape == (5, 6)
        assert vectors.neck.shape == vectors.unit.shape == (5, out)
        assert torch.allclose(vectors.unit.norm(dim=1)[vectors.neck.any(1)], torch.ones(()))


def test_a_neck_may_be_a_module_that_says_its_length() -> None:
    head = EmbeddingHead(embedding(neck=nn.Linear(6, 2), dim=2), 6)
    assert head.dim == 2
    assert head(torch.randn(3, 6)).unit.shape == (3, 2)


def test_the_bias_of_a_bnneck_stays_zero() -> None:
    neck = build_neck("bn", 6, None)
    assert isinstance(neck, nn.BatchNorm1d)
    assert not neck.bias.requires_grad
    assert neck.weight.requires_grad
    assert not neck.bias.any()


def test_a_relu_neck_is_not_negative_and_an_unknown_one_is_refused() -> None:
    assert (build_neck("fc_bn_relu", 6, 4)(torch.randn(8, 6)) >= 0).all()
    with pytest.raises(DeclarationError, match=r"neck = 'layer' is none of none, bn, fc, fc_bn,"):
        embedding(neck="layer")


def test_a_vector_of_zeros_has_a_finite_unit_vector() -> None:
    unit = EmbeddingHead(embedding(neck="none"), 3)(torch.zeros(2, 3)).unit
    assert torch.equal(unit, torch.zeros(2, 3))


def test_the_classifier_is_linear_without_bias_and_starts_small() -> None:
    made = criterion(dim=2048, identities=751)
    assert sum(p.numel() for p in made.parameters()) == 1_538_048
    assert made.classifier.bias is None
    assert made.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    biased = criterion(Supervision(classifier_bias=True), 8, 5)
    assert biased.classifier.bias.tolist() == [0.0] * 5


def test_the_first_cross_entropy_is_near_ln_k() -> None:
    vectors = torch.randn(16, 2048, generator=torch.Generator().manual_seed(0))
    found = criterion(dim=2048, identities=751, triplet_weight=0)(
        embedded(vectors), torch.arange(16)
    )
    assert found.terms["ce"].item() == pytest.approx(math.log(751), abs=5e-2)
    assert found.logits.shape == (16, 751)


def test_terms_are_those_that_the_embedding_wants() -> None:
    vectors, labels = embedded(torch.randn(4, 4)), torch.tensor([0, 0, 1, 1])
    assert set(criterion()(vectors, labels).terms) == {"ce", "triplet"}
    assert set(criterion(Supervision(triplet=None))(vectors, labels).terms) == {"ce"}
    assert set(criterion(Supervision(cross_entropy=None))(vectors, labels).terms) == {"triplet"}
    assert set(criterion(triplet_weight=0)(vectors, labels).terms) == {"ce"}


def test_the_classifier_of_an_embedding_that_is_not_classified_does_not_lie_idle() -> None:
    made = criterion(Supervision(cross_entropy=None))
    found = made(embedded(torch.randn(4, 4)), torch.tensor([0, 0, 1, 1]))
    sum(found.terms.values()).requires_grad_().backward()
    idle = [name for name, p in made.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@pytest.mark.parametrize("which", ["raw", "neck", "unit"])
def test_each_term_reads_the_vector_that_the_embedding_names(which: str) -> None:
    vectors = Embedded(*(torch.randn(4, 4, requires_grad=True) for _ in range(3)))
    made = criterion(Supervision(cross_entropy=which, triplet=which))  # type: ignore[arg-type]
    found = made(vectors, torch.tensor([0, 0, 1, 1]))
    for term in found.terms.values():
        grads = torch.autograd.grad(
            term, [vectors.raw, vectors.neck, vectors.unit], allow_unused=True, retain_graph=True
        )
        reached = {n for n, g in zip(("raw", "neck", "unit"), grads, strict=True) if g is not None}
        assert reached == {which}


def test_the_embeddings_wishes_rule_over_the_settings() -> None:
    made = criterion(Supervision(label_smoothing=0.2, margin=1.0), label_smoothing=0.1, margin=0.3)
    assert (made.smoothing, made.margin) == (0.2, 1.0)
    plain = criterion(label_smoothing=0.1, margin=0.5)
    assert (plain.smoothing, plain.margin) == (0.1, 0.5)
    nothing = criterion(Supervision(label_smoothing=0.0, margin=0.0), label_smoothing=0.1)
    assert (nothing.smoothing, nothing.margin) == (0.0, 0.0)


def test_the_settings_weigh_the_terms() -> None:
    vectors, labels = embedded(torch.randn(4, 4)), torch.tensor([0, 0, 1, 1])
    plain, weighed = criterion(), criterion(ce_weight=0.5, triplet_weight=2.0)
    weighed.load_state_dict(plain.state_dict())
    before, after = plain(vectors, labels), weighed(vectors, labels)
    assert after.terms == before.terms, "logs show a term before its weight"
    assert (before.weights, after.weights) == (
        {"ce": 1.0, "triplet": 1.0},
        {"ce": 0.5, "triplet": 2.0},
    )


def test_smoothing_reaches_the_loss_and_is_torchs() -> None:
    made = criterion(label_smoothing=0.1)
    vectors, labels = embedded(torch.randn(6, 4)), torch.tensor([0, 0, 1, 1, 2, 2])
    expected = F.cross_entropy(made.classifier(vectors.neck), labels, label_smoothing=0.1)
    assert made(vectors, labels).terms["ce"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_dropout_stands_before_the_classifier_in_training_only() -> None:
    made = criterion(Supervision(dropout=0.5), dim=64)
    vectors = embedded(torch.ones(4, 64))
    assert not torch.equal(made.logits(vectors), made.logits(vectors))
    made.eval()
    assert torch.equal(made.logits(vectors), made.classifier(vectors.neck))


def test_a_row_with_soft_targets_is_nobodys_positive() -> None:
    raw = torch.tensor([[0.0], [1.0], [5.0], [6.0], [99.0]])
    made = criterion(dim=1)
    soft = torch.zeros(5, 3)
    soft[4] = torch.tensor([0.5, 0.5, 0.0])
    labels = torch.tensor([0, 0, 1, 1, 0])
    found = made(embedded(raw), labels, soft).terms["triplet"]
    without = made(embedded(raw[:4]), labels[:4]).terms["triplet"]
    assert found.item() == pytest.approx(without.item(), abs=1e-6)
    assert made(embedded(raw), labels).terms["triplet"].item() > found.item() + 1


def test_a_criterion_must_define_what_it_computes() -> None:
    bare = IdentityCriterion(embedding())
    with pytest.raises(TypeError, match="IdentityCriterion must define forward"):
        bare(embedded(torch.zeros(1, 2)), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(TypeError, match="IdentityCriterion must define logits"):
        bare.logits(embedded(torch.zeros(1, 2)))
