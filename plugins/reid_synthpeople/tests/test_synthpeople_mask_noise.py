"""Mask noise: what each kind does, and that it depends on the picture's key alone."""

import numpy as np
import pytest

from reid_core.errors import ConfigError
from reid_synthpeople.mask_noise import MaskNoise, spoil_labels

NONE = MaskNoise(0.0, 0.0, 0.0)


@pytest.fixture
def labels() -> np.ndarray:
    """A figure of three classes, 40 x 20 in the middle of 60 x 40."""
    labels = np.zeros((60, 40), np.uint8)
    labels[10:20, 10:30] = 1
    labels[20:35, 10:30] = 2
    labels[35:50, 10:30] = 5
    return labels


def test_the_same_key_spoils_in_the_same_way(labels: np.ndarray) -> None:
    before = labels.copy()
    first = spoil_labels(labels, MaskNoise(), 1, 2, 3)
    np.testing.assert_array_equal(first, spoil_labels(labels, MaskNoise(), 1, 2, 3))
    np.testing.assert_array_equal(labels, before)
    others = [spoil_labels(labels, MaskNoise(), 1, 2, number) for number in range(10)]
    assert sum((first != other).any() for other in others) >= 9


def test_no_noise_leaves_labels_alone(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(spoil_labels(labels, NONE, 7), labels)


def test_shift_moves_the_whole_map(labels: np.ndarray) -> None:
    moved = spoil_labels(labels, MaskNoise(0.05, 0.0, 0.0), 4)
    y, x = np.argwhere(moved > 0).min(0) - np.argwhere(labels > 0).min(0)
    assert (y, x) != (0, 0)
    assert max(abs(y), abs(x)) <= 10
    np.testing.assert_array_equal(np.roll(labels, (y, x), (0, 1)), moved)


def test_shift_beyond_the_picture_leaves_nothing() -> None:
    full = np.ones((10, 8), np.uint8)
    emptied = [spoil_labels(full, MaskNoise(1.0, 0.0, 0.0), key) for key in range(30)]
    assert any(not labels.any() for labels in emptied)
    assert any(labels.any() for labels in emptied)


def test_erosion_takes_the_border(labels: np.ndarray) -> None:
    sizes = set()
    for key in range(60):
        eroded = spoil_labels(labels, MaskNoise(0.0, 0.05, 0.0), key)
        depth = np.flatnonzero(eroded.any(1))[0] - 10
        expected = np.zeros_like(labels)
        inner = slice(10 + depth, 50 - depth), slice(10 + depth, 30 - depth)
        expected[inner] = labels[inner]
        np.testing.assert_array_equal(eroded, expected)
        sizes.add(int(depth))
    assert sizes == {0, 1, 2, 3}


def test_erosion_leaves_what_the_picture_cuts_off() -> None:
    full = np.ones((40, 20), np.uint8)
    np.testing.assert_array_equal(spoil_labels(full, MaskNoise(0.0, 0.1, 0.0), 3), full)


def test_swaps_keep_the_silhouette_and_the_classes(labels: np.ndarray) -> None:
    swapped = spoil_labels(labels, MaskNoise(0.0, 0.0, 1.0), 5)
    np.testing.assert_array_equal(swapped > 0, labels > 0)
    assert set(np.unique(swapped)) <= set(np.unique(labels))
    share = (swapped != labels)[labels > 0].mean()
    assert 0.005 < share < 0.2


def test_two_maps_with_one_key_keep_one_silhouette(labels: np.ndarray) -> None:
    garments = np.where(labels > 0, 3, 0).astype(np.uint8)
    garments[10:14, 10:30] = 2
    for key in range(10):
        one, other = (spoil_labels(m, MaskNoise(0.05, 0.05, 1.0), key) for m in (labels, garments))
        np.testing.assert_array_equal(one > 0, other > 0)


def test_an_empty_map_stays_empty() -> None:
    empty = np.zeros((20, 10), np.uint8)
    np.testing.assert_array_equal(spoil_labels(empty, MaskNoise(1.0, 1.0, 1.0), 0), empty)


def test_impossible_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mask noise swaps is 1\.5; use 0 to 1"):
        MaskNoise(swaps=1.5)
