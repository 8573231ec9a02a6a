"""Losses, labels and weights against values by hand."""

import math

import pytest
import torch
from torch import nn

from reid_core import LinearRamp, identity_cross_entropy
from reid_dgnet.labels import flip_ensemble, primary_targets
from reid_dgnet.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    reconstruction,
    soft_label_divergence,
)
from reid_dgnet.networks.discriminator import Discriminator
from reid_dgnet.settings import DgnetSettings


def test_reconstruction_is_the_mean_error_and_its_target_gets_no_gradient():
    found, target = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    value = reconstruction(found, target * 2)
    assert value.item() == 2
    value.backward()
    assert target.grad is None
    assert torch.allclose(found.grad, torch.full((2, 3), -1 / 6))


def test_losses_of_a_discriminator_that_says_nothing():
    network = Discriminator(2, 1)
    for critic in network.critics:
        nn.init.zeros_(critic.layers[-1].weight)
    image = torch.randn(2, 3, 32, 24, requires_grad=True)
    scores = network(image)
    assert discriminator_loss(scores, scores, "lsgan").item() == 3
    assert generator_loss(scores, "lsgan").item() == 6
    assert gradient_penalty(scores, image).item() == 0


def test_logarithmic_losses_of_a_discriminator_that_says_nothing():
    scores = [torch.zeros(2, 1, 3, 2)] * 3
    assert discriminator_loss(scores, scores, "nsgan").item() == pytest.approx(6 * math.log(2))
    assert generator_loss(scores, "nsgan").item() == pytest.approx(3 * math.log(2))


def test_the_penalty_of_a_linear_critic():
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    scores = [(0.5 * images).sum((1, 2, 3))]
    assert 0.01 * gradient_penalty(scores, images).item() == pytest.approx(0.12)
    assert 0.01 * gradient_penalty(scores * 3, images).item() == pytest.approx(0.36)


def test_the_penalty_s_gradient_reaches_the_critic():
    critic = nn.Linear(4, 1)
    images = torch.randn(2, 4, requires_grad=True)
    gradient_penalty([critic(images)], images).backward()
    assert torch.allclose(critic.weight.grad, 2 * critic.weight)


def test_fresh_classifiers_cost_the_logarithm_of_the_classes():
    logits, labels = torch.zeros(4, 751), torch.arange(4)
    value = identity_cross_entropy(logits, labels).item()
    assert value == pytest.approx(6.6214, abs=1e-4)
    # Two directions of real images, and as many of positives; half as much for generated ones.
    assert 2 * value == pytest.approx(13.243, abs=1e-3)
    assert 0.5 * 2 * value == pytest.approx(6.6214, abs=1e-3)


def test_divergence_sums_over_classes_and_averages_over_rows():
    q = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.3, 0.5]]).log_softmax(1)
    logits = torch.stack([logits[0], q[1].log()])
    # The first row: 2 * 0.5 log(0.5 / (1/3)); the second is equal.
    assert soft_label_divergence(logits, q).item() == pytest.approx(math.log(1.5) / 2)
    assert soft_label_divergence(q[1:].log(), q[1:]).item() == pytest.approx(0, abs=1e-7)


def test_divergence_is_computed_in_float32():
    logits = torch.tensor([[3.0, -3.0]], dtype=torch.bfloat16)
    assert soft_label_divergence(logits, torch.tensor([[0.5, 0.5]])).dtype == torch.float32


def test_flip_ensembles_are_distributions_that_do_not_mind_mirroring():
    one, two = torch.randn(3, 5), torch.randn(3, 5)
    found = flip_ensemble(one, two)
    assert torch.allclose(found.sum(1), torch.ones(3))
    assert torch.equal(found, flip_ensemble(two, one))


def test_label_styles():
    soft = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6]])
    appearance, structure = torch.tensor([1, 0]), torch.tensor([2, 1])

    def targets(style):
        return primary_targets(style, soft, appearance, structure, 3)

    assert torch.equal(targets("soft"), soft)
    assert targets("hard").tolist() == [[1, 0, 0], [0, 0, 1]]
    assert targets("appearance").tolist() == [[0, 1, 0], [1, 0, 0]]
    assert torch.allclose(targets("uniform"), torch.full((2, 3), 1 / 3))
    expected = torch.tensor([[0, 0.4, 0.6], [0.25, 0.75, 0]])
    assert torch.allclose(targets("masked"), expected)


def test_a_row_without_identity_has_no_label():
    found = primary_targets("appearance", None, torch.tensor([-1]), torch.tensor([0]), 2)
    assert found.tolist() == [[0, 0]]


def test_weights_rise_as_in_the_paper():
    settings = DgnetSettings(warmup_begin=30_000, warmup_rate=0.0005)
    primary, code = settings.ramp(2.0), settings.ramp(1.0)
    fine = settings.ramp(2.0, 0.2)
    iterations = (30_000, 30_001, 30_002, 32_000, 34_000, 99_999)
    assert [primary.at(i) for i in iterations] == pytest.approx([0, 0.0005, 0.001, 1, 2, 2])
    assert [code.at(i) for i in iterations] == pytest.approx([0, 0.0005, 0.001, 1, 1, 1])
    assert [fine.at(i) for i in iterations] == pytest.approx([0, 1e-4, 2e-4, 0.2, 0.4, 0.4])
    assert isinstance(primary, LinearRamp)
    assert settings.ramp(0.0) == settings.ramp(2.0, 0.0) == 0.0
