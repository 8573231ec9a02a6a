"""AGW: non-local blocks and weighted triplets against loops, their places, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whole_models import Run, count

from reid_baselines.agw_modules import NonLocal, NonLocalEncoder, weighted_triplet
from reid_core import ConfigError, ConflictError, TimmEncoder
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly

SMALL: dict[str, Any] = {"model": {"backbone": "test_resnet"}}

test_conforms = conformance_suite("agw", SMALL)


def test_a_block_adds_what_all_places_hold() -> None:
    torch.manual_seed(0)
    block = NonLocal(6, 2).eval()
    feature = torch.randn(2, 6, 3, 2)
    assert torch.equal(block(feature), feature), "it begins as the identity"
    torch.nn.init.normal_(block.norm.weight)
    flat = feature.flatten(2).transpose(1, 2)  # B places C

    def linear(layer: torch.nn.Conv2d, rows: Tensor) -> Tensor:
        return rows @ layer.weight.flatten(1).T + layer.bias

    with torch.no_grad():
        found = block(feature)
        for image, places in zip(found, flat, strict=True):
            theta, phi, g = (linear(part, places) for part in (block.theta, block.phi, block.g))
            mixed = torch.stack(
                [sum((theta[i] @ phi[j]) * g[j] for j in range(6)) / 6 for i in range(6)]
            )
            norm = block.norm
            added = linear(block.out, mixed) / (1 + norm.eps) ** 0.5 * norm.weight + norm.bias
            wanted = places + added
            assert torch.allclose(image.flatten(1).T, wanted, atol=1e-5)


def test_the_paper_s_blocks_are_behind_the_last_blocks_of_two_stages() -> None:
    with torch.device("meta"):
        plain = TimmEncoder("resnet50", (256, 128), 1)
        encoder = NonLocalEncoder("resnet50", (256, 128), 1)
    names = [name for name, module in encoder.named_modules() if isinstance(module, NonLocal)]
    places = ("layer2.2", "layer2.3", "layer3.3", "layer3.4", "layer3.5")
    assert names == [f"trunk.{place}.1" for place in places]
    # Three times C to 1, 1 to C, a norm: 4 C + 3 + C + 2 C.
    assert count(encoder) - count(plain) == 2 * (7 * 512 + 3) + 3 * (7 * 1024 + 3)
    assert encoder.taps == plain.taps
    wide = {"blocks": (0, 0, 1, 0), "channels": None}
    with torch.device("meta"):
        encoder = NonLocalEncoder("resnet50", (256, 128), 1, **wide)
    inner = 512
    assert count(encoder) - count(plain) == 4 * 1024 * inner + 3 * inner + 3 * 1024


def loops(vectors: Tensor, labels: list[int]) -> float:
    """Return the weighted regularised triplet loss anchor by anchor."""
    values = []
    for anchor, label in enumerate(labels):
        same, other = [], []
        for row, theirs in enumerate(labels):
            if row == anchor or -1 in (label, theirs):
                continue
            distance = float((vectors[anchor] - vectors[row]).norm())
            (same if theirs == label else other).append(distance)
        if same and other:
            far = sum(d * math.exp(d) for d in same) / sum(math.exp(d) for d in same)
            near = sum(d * math.exp(-d) for d in other) / sum(math.exp(-d) for d in other)
            values.append(math.log1p(math.exp(far - near)))
    return sum(values) / len(values)


def test_the_triplet_loss_weighs_all_pairs() -> None:
    vectors = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = [0, 0, 0, 1, 1, 2, -1, -1]
    found = weighted_triplet(vectors, torch.tensor(labels))
    assert found.item() == pytest.approx(loops(vectors.detach(), labels), rel=1e-5)
    found.backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()
    assert weighted_triplet(vectors, torch.arange(8)).item() == 0


def test_a_run_pools_by_gem_and_has_no_hardest_triplets(reid_cache: Path) -> None:
    run = Run(reid_cache, ("agw",), SMALL)
    assert isinstance(run.model.encoder, NonLocalEncoder)
    assert run.model.branches["core/pool"].kind == "gem"
    (main,) = run.assembly.parts.plan.updates
    step, terms = run.assembly.parts.forward.terms(main, run.trainer.batches(run.streams))
    assert set(terms) == {"agw/triplet", "core/global/ce"}
    raw = step.main.output("deployed:raw").detach()
    expected = loops(raw, step.main.batch.pid.tolist())
    assert terms["agw/triplet"].value.item() == pytest.approx(expected, rel=1e-3)


def test_settings_turn_each_part_off(reid_cache: Path) -> None:
    off = {"plugins": {"agw": {"blocks": [0, 0, 0, 0], "triplet_weight": 0.0}}}
    run = Run(reid_cache, ("agw",), off, {"model": {"pooling": "avg"}})
    assert type(run.model.encoder) is TimmEncoder
    assert set(run.step()["main"].terms) == {"core/global/ce", "core/global/triplet"}


def test_what_is_no_resnet_is_refused_by_name(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"'agw' .* ResNet, and 'test_convnext' is none.*blocks="):
        tiny_assembly(("agw",), {"model": {"backbone": "test_convnext"}}, cache=reid_cache)
    with pytest.raises(ConflictError, match=r"'agw' .*'osnet_x0_25' is an encoder of another"):
        tiny_assembly(("agw",), {"model": {"backbone": "osnet_x0_25"}}, cache=reid_cache)


def test_the_recipe_is_the_bag_of_tricks_with_three_more() -> None:
    ours = resolve({}, recipe="agw/market1501").config
    theirs = resolve({}, recipe="bot/market1501").config
    assert (ours.model.pooling, ours.schedule.epochs) == ("gem", 160)
    assert ours.identity.triplet_weight == 0
    assert ours.plugins["agw"] == {"blocks": [0, 2, 3, 0], "channels": 1, "triplet_weight": 1.0}
    assert ours.plugins["bot"] == theirs.plugins["bot"]
    assert (ours.optim, ours.augment, ours.data) == (theirs.optim, theirs.augment, theirs.data)
