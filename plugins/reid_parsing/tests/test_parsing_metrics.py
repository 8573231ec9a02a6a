import math

import numpy as np
import pytest

from reid_core.errors import DataError
from reid_parsing import Confusion
from reid_parsing.metrics import PlaceFrequency


def test_scores_by_hand():
    scores = Confusion(("background", "head", "torso", "foot"))
    truth = np.array([[0, 0, 0], [1, 1, 2]], np.uint8)
    found = np.array([[0, 0, 1], [1, 0, 2]], np.uint8)
    scores.add(truth, found)
    torso_for_head = Confusion("abc")
    torso_for_head.add(np.array([[1]], np.uint8), np.array([[2]], np.uint8))
    assert torso_for_head.counts[1, 2] == 1, "rows are true classes"
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    # background 2 of 4, head 1 of 3, torso 1 of 1; nobody has or finds a foot.
    assert scores.iou[:3].tolist() == pytest.approx([0.5, 1 / 3, 1.0])
    assert math.isnan(scores.iou[3])
    assert scores.mean_iou == pytest.approx((0.5 + 1 / 3 + 1) / 3)
    assert scores.to_json()["iou"]["foot"] is None


def test_maps_add_up():
    whole, halves = Confusion("abc"), Confusion("abc")
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 3, (2, 6, 4), dtype=np.uint8)
    whole.add(truth, found)
    for rows in (slice(0, 3), slice(3, 6)):
        halves.add(truth[rows], found[rows])
    assert (whole.counts == halves.counts).all()


def test_without_pixels_there_is_no_score():
    scores = Confusion("ab")
    assert math.isnan(scores.pixel_accuracy)
    assert math.isnan(scores.mean_iou)


def test_maps_that_do_not_fit_are_refused():
    scores = Confusion("ab")
    small, large = np.zeros((2, 2), np.uint8), np.zeros((3, 2), np.uint8)
    with pytest.raises(DataError, match=r"different sizes: \(2, 2\) and \(3, 2\)"):
        scores.add(small, large)
    with pytest.raises(DataError, match="found label 2 among 2 classes"):
        scores.add(small, small + 2)


def test_the_most_frequent_class_of_each_place():
    prior = PlaceFrequency(3, (1, 2))
    for row in ([0, 2], [1, 2], [1, 0]):
        prior.add(np.array([row], np.uint8))
    assert prior.guess.tolist() == [[1, 2]]
