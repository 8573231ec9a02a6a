"""The encoder E with its embedding: sizes, unit length, and generalised-mean pooling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_core import Embedding, GlobalPool, TimmEncoder
from reid_core.model.blocks import EmbeddingHead
from reid_unsup_cc.pooling import GeneralisedMean

EMBEDDING = Embedding("core/global", "core/pooled", neck="bn")


def counted(*modules: nn.Module) -> tuple[int, int]:
    parameters = [p for module in modules for p in module.parameters()]
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(p.numel() for p in parameters), trainable


def test_parameters_of_the_paper_s_encoder() -> None:
    encoder, head = TimmEncoder("resnet50", (256, 128), 1, False), EmbeddingHead(EMBEDDING, 2048)
    assert counted(encoder, GlobalPool("avg"), head) == (23_512_128, 23_510_080)
    assert counted(encoder, GeneralisedMean(), head) == (23_512_129, 23_510_081)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pool", [GlobalPool("avg"), GeneralisedMean()])
def test_features_have_length_one(training: bool, pool: nn.Module) -> None:
    head = EmbeddingHead(EMBEDDING, 16).train(training)
    unit = head(pool(torch.rand(4, 16, 8, 4))).unit
    assert unit.norm(dim=1).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def test_generalised_means() -> None:
    feature = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    pool = GeneralisedMean()
    assert pool(feature).item() == pytest.approx(25 ** (1 / 3)), "p = 3 at the start"
    for exponent, wanted in ((1.0, 2.5), (60.0, pytest.approx(4, rel=0.03))):
        torch.nn.init.constant_(pool.exponent, exponent)
        assert pool(feature).item() == wanted


def test_the_exponent_is_learned_and_deployed() -> None:
    pool = GeneralisedMean()
    pool(torch.rand(2, 3, 4, 4)).sum().backward()
    assert pool.exponent.grad is not None
    assert pool.deploy_spec() == GlobalPool("gem").deploy_spec()
    assert pool(torch.zeros(1, 2, 4, 4)).tolist() == [[pytest.approx(1e-6), pytest.approx(1e-6)]]
