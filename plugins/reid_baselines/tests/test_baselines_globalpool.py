"""GlobalPool: the core's embedding with the paper's settings, on all of its backbones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from whole_models import SIX, Run, count, whole

from reid_core import (
    ConflictError,
    CrossEntropyTriplet,
    Embedding,
    RunConfig,
    Supervision,
    TimmEncoder,
)
from reid_core.model.blocks import EmbeddingHead
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly

test_conforms = conformance_suite("globalpool")


@pytest.mark.parametrize(
    ("backbone", "channels", "identities", "parameters"),
    [
        ("resnet50", 2048, 751, 24_943_407),
        ("resnet50", 2048, 1041, 25_092_177),
        ("mobilenetv2_100", 1280, 1041, 3_414_801),
        ("densenet121", 1024, 1041, 8_013_713),
    ],
)
def test_the_cores_parts_make_the_papers_models(
    backbone: str, channels: int, identities: int, parameters: int
) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(backbone, (256, 128))
        wants = Supervision(triplet=None, classifier_bias=True)
        embedding = Embedding(
            "core/global", "core/pooled", neck="fc_bn_relu", dim=512, supervision=wants
        )
        head = EmbeddingHead(embedding, channels)
        criterion = CrossEntropyTriplet(embedding, 512, identities, RunConfig().identity)
    assert encoder.taps[-1].channels == channels
    assert encoder.taps[-1].stride == 16
    assert count(encoder) + count(head) + count(criterion) == parameters


@pytest.mark.parametrize(
    ("backbone", "shape"), [("mobilenetv2_100", (1280, 16, 8)), ("densenet121", (1024, 16, 8))]
)
def test_what_is_pooled_is_rectified(backbone: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder(backbone, (256, 128)).eval()
    with torch.no_grad():
        feature = encoder(3 * torch.randn(1, 3, 256, 128))["encoder/map"]
    assert tuple(feature.shape[1:]) == shape
    assert feature.min() == 0 < feature.max()


def test_a_run_has_the_paper_s_model(tmp_path: Path) -> None:
    assembly = whole(tmp_path, ("globalpool",), 751, (64, 32))
    assert count(assembly.model) == 24_943_407
    assert assembly.embedder().dim == 512


def test_the_feature_is_the_rectified_embedding_of_the_maximum(reid_cache: Path) -> None:
    run = Run(reid_cache, ("globalpool",))
    assert set(run.step()["main"].terms) == {"core/global/ce"}
    embedder = run.assembly.embedder().eval()
    image = torch.rand(3, 3, 96, 32)
    with torch.no_grad():
        normalised = (image - embedder.mean) / embedder.std
        vectors = embedder.vectors(normalised)["core/global"]
        pooled = embedder.encoder(normalised)["encoder/map"].amax((2, 3))
    assert torch.equal(vectors.raw, pooled)
    assert vectors.neck.shape == (3, 512)
    assert vectors.neck.min() == 0


@pytest.mark.parametrize("other", ["pcb", "mgn"])
def test_it_does_not_go_without_effect_beside_another_embedding(
    reid_cache: Path, other: str
) -> None:
    with pytest.raises(ConflictError, match=rf"'globalpool'.*'{other}' replaces.*leave one"):
        tiny_assembly(("globalpool", other), SIX, cache=reid_cache)
