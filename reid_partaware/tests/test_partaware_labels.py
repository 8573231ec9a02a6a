"""Labels for a head: granularity, resizing and erasing."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from reid_parsing.lookup import GRANULARITIES
from reid_partaware.labels import part_targets, without_erased
from reid_partaware.losses import IGNORED

SEVEN = torch.arange(8)
TABLES = {
    "foreground": (0, 1, 1, 1, 1, 1, 1, 1),
    "two": (0, 1, 1, 1, 1, 2, 2, 2),
    "four": (0, 1, 2, 2, 2, 3, 4, 4),
    "seven": (0, 1, 2, 3, 4, 5, 6, 7),
}


@pytest.mark.parametrize("granularity", TABLES)
def test_the_tables_are_those_of_section_iv_f(granularity: str) -> None:
    assert GRANULARITIES[granularity] == TABLES[granularity]


def labels(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 8, (2, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("granularity", TABLES)
def test_mirroring_before_or_after_the_table_is_the_same(granularity: str) -> None:
    table, parts = torch.tensor(TABLES[granularity]), labels(64, 32)
    after = part_targets(parts, (64, 32), table).flip(2)
    assert torch.equal(part_targets(parts.flip(2), (64, 32), table), after)
    assert torch.equal(after.flip(2), table[parts.long()])


@settings(max_examples=40, deadline=None)
@given(
    present=st.sets(st.integers(0, 7), min_size=1),
    size=st.tuples(st.integers(1, 48), st.integers(1, 24)),
    resizing=st.sampled_from(["nearest-exact", "nearest"]),
    seed=st.integers(0, 99),
)
def test_resizing_never_makes_a_class(
    present: set[int], size: tuple[int, int], resizing: str, seed: int
) -> None:
    some = torch.tensor(sorted(present), dtype=torch.uint8)
    parts = some[
        torch.randint(0, len(some), (1, 32, 16), generator=torch.Generator().manual_seed(seed))
    ]
    found = part_targets(parts, size, SEVEN, resizing)
    assert found.shape == (1, *size)
    assert set(found.flatten().tolist()) <= present


def test_interpolating_class_numbers_makes_arms_between_foot_and_background() -> None:
    parts = torch.zeros(1, 128, 64, dtype=torch.uint8)
    parts[:, 49:] = 7
    made = set(part_targets(parts, (48, 16), SEVEN, "bilinear_bug").flatten().tolist())
    assert made - {0, 7}
    row = torch.tensor([[[0, 0, 0, 7]]], dtype=torch.uint8)
    assert part_targets(row, (1, 3), SEVEN, "bilinear_bug").tolist() == [[[0, 0, 6]]], "5.83 of 7"
    assert set(part_targets(parts, (48, 16), SEVEN).flatten().tolist()) == {0, 7}


def test_nearest_takes_the_corner_and_nearest_exact_the_centre() -> None:
    parts = torch.tensor([[[0, 1, 2, 3]]], dtype=torch.uint8)
    assert part_targets(parts, (1, 2), SEVEN, "nearest").tolist() == [[[0, 2]]]
    assert part_targets(parts, (1, 2), SEVEN, "nearest-exact").tolist() == [[[1, 3]]]


def test_labels_under_random_erasing() -> None:
    clean = torch.rand(2, 3, 8, 4)
    shown = clean.clone()
    shown[0, :, 2:4, :2] = 0.5
    parts = torch.full((2, 8, 4), 3)
    assert without_erased(parts, clean, shown, "keep") is parts
    assert without_erased(parts, clean, clean, "ignore") is parts
    ignored = without_erased(parts, clean, shown, "ignore")
    assert (ignored[0, 2:4, :2] == IGNORED).all()
    assert int((ignored == IGNORED).sum()) == 4
    background = without_erased(parts, clean, shown, "background")
    assert int((background == 0).sum()) == 4
    small = without_erased(parts[:, ::2, ::2], clean, shown, "ignore")
    assert int((small == IGNORED).sum()) == 1
