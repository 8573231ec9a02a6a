"""The mean over all single-shot galleries: by hand, and against all galleries there can be."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from reid_retrieval.expectation import expected_rank
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import STANDARD, every_gallery_variant, single_shot_variant
from reid_retrieval.retrieval import evaluate_distances


def test_by_hand() -> None:
    # One match at 0.5. Of person 1 one image of two is closer, of person 2 two of three.
    row = np.array([0.5, 0.9, 0.1, 0.8, 0.7, 0.2])
    people = np.array([0, 1, 1, 2, 2, 2])
    found = expected_rank(row, people, np.array([0]), np.array([False]))
    assert found.chances.tolist() == pytest.approx([1 / 6, 1 / 2, 1 / 3])
    rank, reciprocal, trapezoid, penalty = found.measures()
    assert rank == pytest.approx(1 / 6 + 2 / 2 + 3 / 3)
    assert reciprocal == penalty == pytest.approx(1 / 6 + 1 / 4 + 1 / 9)
    assert trapezoid == pytest.approx(1 / 6 + 1 / 8 + 1 / 18)
    assert found.reached(2).tolist() == pytest.approx([1 / 6, 2 / 3])
    assert found.reached(5).tolist() == pytest.approx([1 / 6, 2 / 3, 1, 1, 1])
    assert not found.tied


def test_of_two_equal_images_the_first_is_closer() -> None:
    people = np.array([1, 0, 2])
    found = expected_rank(np.ones(3), people, np.array([1]), np.array([False]))
    assert found.chances.tolist() == [0, 1]
    assert found.tied


def test_nobody_else_is_there() -> None:
    found = expected_rank(np.array([0.3, 0.4]), np.zeros(2, int), np.arange(2), np.zeros(2, bool))
    assert found.chances.tolist() == [1]
    assert found.measures() == (1, 1, 1, 1)


IMAGES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans(), st.booleans()), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(others=IMAGES, place=st.integers(0, 8), closeness=st.integers(0, 5))
def test_equals_all_galleries(
    others: list[tuple[int, int, bool, bool]], place: int, closeness: int
) -> None:
    match = (0, closeness, False, False)
    images = [*others[:place], match, *others[place:]]
    people = np.array([image[0] for image in images])
    row = np.array([image[1] for image in images]) / 7
    hidden = np.array([image[2] for image in images])
    own = np.flatnonzero(people == 0)
    junk = np.array([images[i][2] or images[i][3] for i in own], bool)
    kept = [i for i in range(len(images)) if (i in own[~junk] if people[i] == 0 else not hidden[i])]
    by_person = [[i for i in kept if people[i] == pid] for pid in sorted({people[i] for i in kept})]
    galleries = list(itertools.product(*by_person))
    chances = [Fraction(0)] * len(by_person)
    for gallery in galleries:
        ranked = sorted(gallery, key=lambda i: (-row[i], i))
        rank = next(place for place, i in enumerate(ranked) if people[i] == 0)
        chances[rank] += Fraction(1, len(galleries))
    found = expected_rank(row, people, own, junk, hidden).reached(len(chances))
    assert found.tolist() == pytest.approx(list(np.cumsum(np.array(chances, float))), abs=1e-12)


def test_draws_come_to_it() -> None:
    rng = np.random.default_rng(3)
    pids, camids = rng.integers(0, 8, 60), rng.integers(0, 3, 60)
    queries, gallery = Labels(pids[:20], camids[:20]), Labels(pids[20:], camids[20:])
    distances = rng.random((20, 40)) + (queries.pids[:, None] != gallery.pids) * 0.3
    every = evaluate_distances(distances, queries, gallery, every_gallery_variant(STANDARD))
    drawn = evaluate_distances(
        distances, queries, gallery, single_shot_variant(STANDARD, trials=2000)
    )
    assert every.valid_queries == drawn.valid_queries
    assert every.cmc[:8] == pytest.approx(drawn.cmc[:8], abs=0.01)
    assert every.mean_ap == pytest.approx(drawn.mean_ap, abs=0.005)
    assert (every.ap_name, every.spread, every.trials) == ("MRR", None, 0)
