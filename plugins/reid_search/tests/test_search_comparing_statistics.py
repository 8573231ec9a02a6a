"""Intervals and tests of differences: by hand where it can be done, and that they cover."""

from __future__ import annotations

import numpy as np
import pytest

from reid_core import DataError
from reid_search.comparing.statistics import difference, mean_with_intervals


def test_a_test_by_queries_counts_the_ways_to_swap_them() -> None:
    # Of 2^4 swaps two are as extreme as 'all four better': p = 2/16. By people: 2/4.
    found = difference([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5], [1, 1, 2, 2])
    assert found.p_queries == pytest.approx(2 / 16)
    assert found.p_identities == pytest.approx(2 / 4)
    assert (found.better, found.worse, found.equal) == (4, 0, 0)
    assert (found.before, found.after) == (pytest.approx(0.25), pytest.approx(0.35))
    assert found.value == pytest.approx(0.1)
    # Every query gains the same: whoever is drawn, the difference is this one.
    assert (found.intervals.queries.low, found.intervals.queries.high) == pytest.approx((0.1, 0.1))


def test_equal_models_do_not_differ() -> None:
    found = difference([0.1, 0.9, 0.3], [0.1, 0.9, 0.3], [1, 2, 3])
    assert (found.value, found.p_queries, found.p_identities) == (0, 1, 1)
    assert (found.intervals.identities.low, found.intervals.identities.high) == (0, 0)
    assert found.equal == 3


def test_people_of_many_queries_are_fewer_than_their_queries() -> None:
    # 20 people of 10 queries each that all change alike: by queries it looks ten times as sure.
    rng = np.random.default_rng(0)
    change = np.repeat(rng.normal(0.05, 0.1, 20), 10)
    people = np.repeat(np.arange(20), 10)
    found = difference(np.zeros(200), change, people, resamples=2000).intervals
    widths = [found.queries.high - found.queries.low, found.identities.high - found.identities.low]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.15)
    assert found.seeds is None
    assert found.widest is found.identities
    # Of independent people's means the interval is the normal one, but for chance.
    expected = 2 * 1.96 * change[::10].std() / np.sqrt(20)
    assert widths[1] == pytest.approx(expected, rel=0.1)


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    people = np.arange(50)
    queries = rng.uniform(0.3, 0.6, 50)
    before = queries + np.array([[-0.1], [0.1]])  # seeds differ far more than people do
    after = queries + 0.2 + np.array([[-0.1], [0.0], [0.1]])
    found = difference(before, after, people, resamples=2000)
    assert found.value == pytest.approx(0.2)
    assert found.intervals.seeds is not None
    assert found.intervals.identities.high - found.intervals.identities.low < 1e-9
    # One model's two seeds and the other's three: means between -0.1 and 0.1 each.
    assert found.intervals.seeds.low < 0.1
    assert found.intervals.seeds.high > 0.3
    assert found.intervals.widest is found.intervals.seeds


def test_seeds_of_one_start_are_resampled_together() -> None:
    rng = np.random.default_rng(1)
    people = np.arange(50)
    starts = np.array([[-0.2], [0.0], [0.2]])
    before = rng.uniform(0.3, 0.6, 50) + starts
    after = before + 0.1 + np.array([[-0.01], [0.0], [0.01]])
    paired = difference(before, after, people, paired=True, resamples=2000).intervals.seeds
    apart = difference(before, after, people, resamples=2000).intervals.seeds
    assert paired is not None
    assert apart is not None
    # Three of three drawn from effects of 0.09, 0.1 and 0.11: all 0.09 in one of 27 resamples.
    assert paired.low == pytest.approx(0.09, abs=1e-6)
    assert paired.high == pytest.approx(0.11, abs=1e-6)
    assert apart.low < 0
    with pytest.raises(DataError, match="3 seeds cannot be paired with 2"):
        difference(before, after[:2], people, paired=True)


def test_a_mean_has_intervals_and_they_cover() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(100):
        scores = rng.uniform(0, 1, 60)
        mean, found = mean_with_intervals(scores, np.arange(60), resamples=400, seed=trial)
        assert mean == pytest.approx(scores.mean())
        covered += found.identities.low <= 0.5 <= found.identities.high
    assert 88 <= covered <= 99


def test_the_same_seed_gives_the_same_interval() -> None:
    scores, people = np.linspace(0, 1, 30) ** 2, np.arange(30) // 3
    one, other = (mean_with_intervals(scores, people, resamples=200) for _ in range(2))
    assert one == other
    assert mean_with_intervals(scores, people, resamples=200, seed=1) != one


def test_one_person_or_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="two people or more"):
        difference([0.1, 0.2], [0.3, 0.4], [5, 5])
    with pytest.raises(DataError, match=r"shape \(1, 3\) do not fit 2 identities"):
        mean_with_intervals([1, 2, 3], [1, 2])
