"""Learning rates and ramps, against the values that the papers' schedules give."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from reid_core.config import ScheduleSection
from reid_core.contract.step import LinearRamp, Update, weight_at
from reid_core.loop.rates import rate_factor

FSAM = ScheduleSection(epochs=80, warmup_epochs=10, warmup_start=0.1, milestones=(40, 70))
UNSUP_CC = ScheduleSection(epochs=60, warmup_epochs=19, warmup_start=0.05, decay="constant")
SAN = ScheduleSection(
    epochs=300,
    warmup_epochs=20,
    warmup_start=0.01,
    warmup_shape="exponential",
    milestones=tuple(range(40, 281, 40)),
    gamma=0.5,
)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 3.0e-5), (5, 1.65e-4), (9, 2.73e-4), (10, 3e-4), (39, 3e-4), (40, 3e-5), (70, 3e-6)],
)
def test_fsam(epoch: int, rate: float) -> None:
    assert 3e-4 * rate_factor(FSAM, epoch) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 1.75e-5), (9, 1.75e-4), (19, 3.5e-4), (59, 3.5e-4)]
)
def test_unsupervised_clothes_changing(epoch: int, rate: float) -> None:
    assert 3.5e-4 * rate_factor(UNSUP_CC, epoch) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 8e-6), (1, 8e-6 * 1.2589254), (10, 8e-5), (20, 8e-4), (40, 4e-4), (280, 6.25e-6)],
)
def test_san_warms_up_exponentially_and_halves_every_forty_epochs(epoch: int, rate: float) -> None:
    assert 8e-4 * rate_factor(SAN, epoch) == pytest.approx(rate, rel=1e-7)


def test_exponential_warm_up_has_a_constant_ratio() -> None:
    factors = [rate_factor(SAN, epoch) for epoch in range(21)]
    ratios = [after / before for before, after in pairwise(factors)]
    assert ratios == pytest.approx([100 ** (1 / 20)] * 20)


def test_cosine_goes_from_one_to_its_floor() -> None:
    schedule = ScheduleSection(epochs=12, warmup_epochs=2, decay="cosine", floor=0.1)
    assert rate_factor(schedule, 2) == 1.0
    assert rate_factor(schedule, 7) == pytest.approx(0.1 + 0.9 * 0.5)
    assert rate_factor(schedule, 4) == pytest.approx(0.1 + 0.45 * (1 + math.cos(0.2 * math.pi)))
    assert rate_factor(schedule, 12) == pytest.approx(0.1)


def test_the_share_of_an_epoch_counts_only_per_iteration() -> None:
    still = ScheduleSection(warmup_epochs=2, warmup_start=0.2)
    moving = still.model_copy(update={"per_iteration": True})
    assert rate_factor(still, 1, 0.5) == pytest.approx(0.6)
    assert rate_factor(moving, 1, 0.5) == pytest.approx(0.8)


def test_no_warm_up_and_a_warm_up_over_the_whole_run() -> None:
    none = ScheduleSection(warmup_epochs=0, milestones=(5,))
    assert (rate_factor(none, 0), rate_factor(none, 5)) == (1.0, 0.1)
    whole = ScheduleSection(epochs=4, warmup_epochs=4, decay="cosine", warmup_start=0.5)
    assert [rate_factor(whole, e) for e in range(4)] == [0.5, 0.625, 0.75, 0.875]


schedules = st.builds(
    ScheduleSection,
    epochs=st.integers(1, 50),
    warmup_epochs=st.floats(0, 20),
    warmup_start=st.floats(0.01, 1),
    warmup_shape=st.sampled_from(["linear", "exponential"]),
    decay=st.sampled_from(["step", "cosine", "constant"]),
    milestones=st.lists(st.floats(0.5, 50), max_size=3).map(tuple),
    gamma=st.floats(0.01, 1),
    per_iteration=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(schedules, st.integers(0, 60), st.floats(0, 0.99))
def test_a_factor_lies_between_nothing_and_one(
    schedule: ScheduleSection, epoch: int, share: float
) -> None:
    assert 0 <= rate_factor(schedule, epoch, share) <= 1 + 1e-12


@settings(max_examples=100, deadline=None)
@given(schedules, st.integers(0, 58))
def test_a_factor_rises_in_warm_up_and_falls_afterwards(
    schedule: ScheduleSection, epoch: int
) -> None:
    now, later = rate_factor(schedule, epoch), rate_factor(schedule, epoch + 1)
    if epoch >= schedule.warmup_epochs:
        assert later <= now + 1e-12
    elif epoch + 1 < schedule.warmup_epochs:
        assert later >= now - 1e-12


def test_a_ramp_stands_rises_and_stands() -> None:
    ramp = LinearRamp(0.0, 2.0, begin=30_000, end=34_000)
    values = {i: ramp.at(i) for i in (0, 30_000, 30_001, 30_002, 32_000, 34_000, 99_999)}
    assert values == {
        0: 0.0,
        30_000: 0.0,
        30_001: 0.0005,
        30_002: 0.001,
        32_000: 1.0,
        34_000: 2.0,
        99_999: 2.0,
    }


def test_a_ramp_may_fall_and_must_have_a_length() -> None:
    falling = LinearRamp(1.0, 0.25, 10, 20)
    assert [falling.at(i) for i in (0, 10, 12, 20, 30)] == [1.0, 1.0, 0.85, 0.25, 0.25]
    for end in (10, 9):
        with pytest.raises(ValueError, match="must end after it begins"):
            LinearRamp(0, 1, 10, end)


def test_a_weight_is_a_number_or_a_ramp() -> None:
    assert weight_at(3, 7) == 3.0
    assert isinstance(weight_at(3, 7), float)
    assert weight_at(LinearRamp(0, 1, 0, 10), 7) == pytest.approx(0.7)


def test_an_update_is_due_in_its_period() -> None:
    third = Update("a/x", every=(3, 1))
    assert [third.due(step) for step in range(7)] == [False, True, False, False, True, False, False]
    assert all(Update("a/y").due(step) for step in range(5))
