"""The losses: hand-computed values, the specification's fixtures, and the sampling of triples."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from reid_core import batch_hard_triplet, identity_cross_entropy
from reid_san.losses import (
    Triples,
    fixed_triples,
    map_distance,
    random_triples,
    reconstruction,
    triplet_reid,
)

IDS = torch.arange(2).repeat_interleave(4)


def fixture() -> torch.Tensor:
    """Maps 8 x 16 x 4 x 2 of the specification's noise."""
    j = torch.arange(8 * 16 * 4 * 2, dtype=torch.int64)
    hashed = (7919 * j + 104729 * j * j + 12345) % 1000003
    return (0.2 * (2 * hashed.double() / 1000003 - 1)).view(8, 16, 4, 2)


# The third value of the code's norm is printed as 0.29520844 in the specification, against its own
# rule that the two norms differ by the 16 channels: 0.3 - (0.3 - 0.22331837) / 16.
@pytest.mark.parametrize(
    ("norm", "wanted"),
    [
        ("chw", (0.30059291, 0.29741360, 0.29520740, 0.30512143)),
        ("hw", (0.30948662, 0.25861754, 0.22331837, 0.38194288)),
    ],
)
def test_the_specification_s_fixture(norm: str, wanted: tuple[float, ...]) -> None:
    maps = fixture()
    for block, expected in enumerate(wanted, start=1):
        triples = fixed_triples(8, 4, block, "cpu")
        rows = [int(r) for r in (triples.anchor, triples.positive, triples.negative)]
        assert rows == [[0, 1, 4], [1, 2, 5], [2, 3, 6], [3, 0, 4]][block - 1]
        found = triplet_reid(maps, triples, 0.3, norm, "mean")
        assert float(found) == pytest.approx(expected, abs=2e-7)


def test_the_fixed_triples_of_a_whole_batch() -> None:
    first = fixed_triples(64, 4, 1, "cpu")
    assert first.anchor.tolist() == list(range(0, 60, 4)), "the last person is no anchor"
    assert torch.equal(first.positive, first.anchor + 1)
    assert torch.equal(first.negative, first.anchor + 4)
    fourth = fixed_triples(64, 4, 4, "cpu")
    assert torch.equal(fourth.anchor % 4, torch.full((15,), 3))
    assert torch.equal(fourth.positive, fourth.anchor - 3)
    assert torch.equal(fourth.negative, fourth.anchor + 1)


@pytest.mark.parametrize("channels", [256, 64, 32, 16])
def test_the_paper_s_distance_is_the_code_s_times_the_channels(channels: int) -> None:
    maps = torch.randn(4, channels, 4, 2)
    first, second = torch.tensor([0, 1]), torch.tensor([2, 3])
    paper, code = (map_distance(maps, first, second, norm) for norm in ("hw", "chw"))
    torch.testing.assert_close(paper, channels * code)


def test_a_distance_is_the_mean_over_places_of_squared_distances() -> None:
    maps = torch.zeros(2, 3, 2, 2)
    maps[1, :, 0, 0] = torch.tensor([1.0, 2.0, 2.0])
    assert float(map_distance(maps, torch.tensor([0]), torch.tensor([1]), "hw")) == 9 / 4


def test_distances_of_half_precision_maps_are_summed_in_float32() -> None:
    maps = 20 * torch.randn(2, 256, 32, 16, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([0]), torch.tensor([1])
    exact = map_distance(maps.half().double(), *rows, "hw")
    found = map_distance(maps.half(), *rows, "hw")
    assert found.dtype == torch.float32
    assert float(found) > torch.finfo(torch.float16).max, "no half could hold it"
    assert float(found) == pytest.approx(float(exact), rel=1e-5)


def test_equal_maps_cost_the_margin_and_far_negatives_nothing() -> None:
    triples = fixed_triples(8, 4, 1, "cpu")
    same = torch.ones(8, 2, 2, 2)
    assert float(triplet_reid(same, triples, 0.3, "hw", "mean")) == pytest.approx(0.3)
    far = same.clone()
    far[4:] += 10
    assert float(triplet_reid(far, triples, 0.3, "hw", "mean")) == 0


def test_the_official_total_at_the_beginning_is_eighteen() -> None:
    maps = [1e-3 * torch.randn(64, c, 4, 2) for c in (256, 64, 32, 16)]
    blocks = enumerate(maps, start=1)
    total = sum(
        float(triplet_reid(m, fixed_triples(64, 4, b, "cpu"), 0.3, "chw", "sum")) for b, m in blocks
    )
    assert total == pytest.approx(18.0, abs=0.01)
    few = triplet_reid(maps[0][:16], fixed_triples(16, 4, 1, "cpu"), 0.3, "chw", "sum")
    assert float(few) == pytest.approx(0.9, abs=1e-3)


def test_random_triples_are_of_one_person_and_of_another() -> None:
    labels = torch.arange(16).repeat_interleave(4)[torch.randperm(64)]
    triples = random_triples(labels)
    anchor = labels[triples.anchor]
    assert torch.equal(triples.anchor, torch.arange(64))
    assert bool((labels[triples.positive] == anchor).all())
    assert bool((labels[triples.negative] != anchor).all())
    assert bool((triples.positive != triples.anchor).all())
    assert triples.valid.tolist() == [1.0] * 64


def test_random_triples_are_drawn_evenly() -> None:
    torch.manual_seed(0)
    drawn = [random_triples(IDS) for _ in range(900)]
    positives = torch.stack([t.positive[0] for t in drawn]).bincount(minlength=8).tolist()
    negatives = torch.stack([t.negative[0] for t in drawn]).bincount(minlength=8).tolist()
    assert positives[0] == 0
    assert min(positives[1:4]) > 240
    assert positives[4:] == [0] * 4
    assert negatives[:4] == [0] * 4
    assert min(negatives[4:]) > 170


def test_anchors_without_a_positive_or_an_identity_do_not_count() -> None:
    labels = torch.tensor([0, 0, 1, -1, -1])
    assert random_triples(labels).valid.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    maps = torch.randn(5, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    chosen = Triples(
        torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([2, 2]), torch.ones(2)
    )
    all_rows = triplet_reid(maps, random_triples(labels), 0.3, "hw", "mean")
    assert float(all_rows) == pytest.approx(float(triplet_reid(maps, chosen, 0.3, "hw", "mean")))
    nobody = triplet_reid(maps, random_triples(torch.full((5,), -1)), 0.3, "hw", "mean")
    assert float(nobody) == 0


def test_one_seed_draws_the_same_triples() -> None:
    first, second = (
        random_triples(IDS, torch.Generator().manual_seed(3)).positive for _ in range(2)
    )
    assert torch.equal(first, second)


def test_the_reconstruction_is_the_mean_absolute_error() -> None:
    found = torch.tensor([[-1.0, 0.5]], dtype=torch.bfloat16)
    value = reconstruction(found, torch.tensor([[1.0, 0.0]]))
    assert value.dtype == torch.float32
    assert float(value) == 1.25


def test_smoothed_cross_entropy_is_the_library_s() -> None:
    logits, labels = torch.randn(6, 767), torch.arange(6)
    found = identity_cross_entropy(logits, labels, 0.1)
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, label_smoothing=0.1))
    even = identity_cross_entropy(torch.zeros(2, 767), torch.tensor([0, 1]), 0.1)
    assert float(even) == pytest.approx(math.log(767), abs=1e-5)


def test_the_batch_hard_triplet_of_collapsed_features() -> None:
    same = batch_hard_triplet(torch.ones(8, 4), IDS, 0.3)
    assert float(same) == pytest.approx(0.3, abs=1e-5)
    apart = torch.zeros(8, 4)
    apart[4:, 0] = 1
    assert float(batch_hard_triplet(apart, IDS, 0.3)) == 0
