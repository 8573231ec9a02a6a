"""Sampling: who is in a batch, how often, and what cannot be sampled."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from reid_core.data.sampling import SAMPLERS, check_shares, make_sampler, shard
from reid_core.errors import ConfigError, DataError

QUICK = settings(max_examples=40, deadline=None)

PIDS = np.repeat(np.arange(12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20])
CAMIDS = np.arange(len(PIDS)) * 7 % 4
MIXED = np.random.default_rng(0).permutation(len(PIDS))
PIDS, CAMIDS = PIDS[MIXED], CAMIDS[MIXED]


def batches(name: str, epoch: int = 0, **options: object) -> np.ndarray:
    arguments = {"batch_size": 16, "instances": 4, "seed": 1, **options}
    sampler = make_sampler(name, PIDS, CAMIDS, **arguments)  # type: ignore[arg-type]
    return np.stack(list(sampler.epoch(epoch)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("epoch_by", ["images", "identities"])
def test_deterministic_in_seed_and_epoch(name: str, epoch_by: str) -> None:
    first = batches(name, epoch_by=epoch_by)
    assert first.dtype == np.int64
    assert first.shape[1] == 16
    np.testing.assert_array_equal(first, batches(name, epoch_by=epoch_by))
    for other in ({"epoch": 1}, {"seed": 2}):
        again = batches(name, epoch_by=epoch_by, **other)
        assert again.shape != first.shape or (again != first).any()


@pytest.mark.parametrize("name", ["pk", "pk_camera"])
@pytest.mark.parametrize("epoch_by", ["images", "identities"])
def test_batches_are_p_identities_of_k_images(name: str, epoch_by: str) -> None:
    for rows in batches(name, epoch_by=epoch_by):
        groups = PIDS[rows].reshape(4, 4)
        assert (groups == groups[:, :1]).all()
        assert len(np.unique(groups[:, 0])) == 4
        for group, pid in zip(rows.reshape(4, 4), groups[:, 0], strict=True):
            if (pid == PIDS).sum() >= 4:
                assert len(set(group)) == 4


def test_an_epoch_of_images_uses_each_image_at_most_once_in_chunks() -> None:
    # Three identities of 4, 8 and 9 images, P = 1: everything but one leftover image is drawn.
    pids = np.repeat([0, 1, 2], [4, 8, 9])
    sampler = make_sampler("pk", pids, np.zeros(21, np.int64), batch_size=4, instances=4)
    for epoch in range(5):
        rows = np.concatenate(list(sampler.epoch(epoch)))
        assert len(rows) == 20
        assert len(set(rows)) == 20
    leftovers = {
        (set(range(21)) - set(np.concatenate(list(sampler.epoch(e))))).pop() for e in range(60)
    }
    assert leftovers == set(range(12, 21))


def test_an_epoch_of_images_ends_when_too_few_identities_are_left() -> None:
    pids = np.repeat([0, 1, 2], [4, 4, 40])
    sampler = make_sampler("pk", pids, np.zeros(48, np.int64), batch_size=8, instances=4)
    for epoch in range(20):
        # Two identities have one group only: at most two batches, at least one.
        assert sampler.count(epoch) == len(list(sampler.epoch(epoch))) in (1, 2)
    with pytest.raises(TypeError, match="ask count"):
        len(sampler)


@pytest.mark.parametrize("name", ["pk", "pk_camera"])
def test_an_epoch_of_identities_has_each_identity_once(name: str) -> None:
    rows = batches(name, epoch_by="identities")
    assert rows.shape == (3, 16)
    assert sorted(PIDS[rows.reshape(-1, 4)[:, 0]]) == list(range(12))


def test_too_few_images_are_drawn_with_replacement_and_noted() -> None:
    sampler = make_sampler("pk", PIDS, CAMIDS, 16, 4)
    assert sampler.notes == (
        "3 of 12 identities have fewer than 4 images; theirs are repeated within a batch",
    )
    many = np.repeat(np.arange(12), 4)
    assert make_sampler("pk", many, many, 16, 4).notes == ()


def test_pk_camera_spreads_over_cameras() -> None:
    rng = np.random.default_rng(0)
    # Four cameras, of which the first has most of the images.
    pids = np.repeat(np.arange(8), 40)
    camids = rng.choice(4, len(pids), p=[0.85, 0.05, 0.05, 0.05])
    for epoch_by, epoch in itertools.product(("identities", "images"), range(5)):
        sampler = make_sampler("pk_camera", pids, camids, 16, 4, 0, epoch_by)
        first = {}
        for group in np.concatenate([rows.reshape(4, 4) for rows in sampler.epoch(epoch)]):
            first.setdefault(pids[group[0]], group)
        for pid, group in first.items():
            available = len(set(camids[pids == pid]))
            assert len(set(camids[group])) == min(4, available)
    plain = make_sampler("pk", pids, camids, 16, 4, 0, "identities")
    groups = np.concatenate([rows.reshape(4, 4) for rows in plain.epoch(0)])
    assert np.mean([len(set(camids[group])) for group in groups]) < 3


def test_pk_camera_takes_any_camera_first() -> None:
    pids = np.zeros(40, np.int64)
    camids = np.arange(40) % 4
    sampler = make_sampler("pk_camera", pids, camids, 2, 2, 0, "identities")
    seen = {tuple(camids[rows]) for epoch in range(200) for rows in sampler.epoch(epoch)}
    assert seen == set(itertools.permutations(range(4), 2))


def test_random_has_every_row_once() -> None:
    rows = batches("random", batch_size=10)
    assert rows.shape == (9, 10)
    assert len(set(rows.ravel())) == 90
    without = make_sampler("random", None, CAMIDS, 10)
    assert len(without) == 9


@pytest.mark.parametrize("epoch_by", ["images", "identities"])
def test_pairs(epoch_by: str) -> None:
    drawn = [batches("pairs", epoch, batch_size=6, epoch_by=epoch_by) for epoch in range(150)]
    anchors, others = np.concatenate(drawn).reshape(-1, 2).T
    assert (PIDS[anchors] == PIDS[others]).all()
    single = np.bincount(PIDS)[PIDS[anchors]] == 1
    assert (anchors[single] == others[single]).all()
    assert (anchors[~single] != others[~single]).all()
    # Every other image of an identity turns up as a partner.
    pid = 3
    partners = {(a, o) for a, o in zip(anchors, others, strict=True) if PIDS[a] == pid}
    assert partners == set(itertools.permutations(np.flatnonzero(pid == PIDS), 2))
    units = anchors if epoch_by == "images" else PIDS[anchors]
    per_epoch = drawn[0].size // 2
    assert len(set(units[:per_epoch])) == per_epoch
    assert drawn[0].shape[0] == (31 if epoch_by == "images" else 4)
    sampler = make_sampler("pairs", PIDS, CAMIDS, 6)
    assert sampler.notes == ("1 of 12 identities have one image; it is paired with itself",)


@pytest.mark.parametrize("name", SAMPLERS)
def test_dropped_rows_are_never_drawn(name: str) -> None:
    pids = PIDS.copy()
    pids[::3] = -1
    pids[pids == 10] = -1  # a whole identity
    sampler = make_sampler(name, pids, CAMIDS, 8, 2)
    drawn = np.concatenate([rows for epoch in range(10) for rows in sampler.epoch(epoch)])
    assert (pids[drawn] >= 0).all()


def test_labels_need_not_be_dense() -> None:
    sampler = make_sampler("pk", PIDS * 1000 + 7, CAMIDS, 16, 4, 1)
    np.testing.assert_array_equal(np.stack(list(sampler.epoch(0))), batches("pk"))


def test_steps_cut_and_repeat_passes() -> None:
    sampler = make_sampler("pk", PIDS, CAMIDS, 16, 4, 0, "identities")
    assert len(sampler) == 3
    once = list(sampler.epoch(5))
    drawn = list(sampler.epoch(5, steps=8))
    assert len(drawn) == 8
    np.testing.assert_array_equal(drawn[:3], once)
    assert (np.stack(drawn[3:6]) != np.stack(once)).any()
    np.testing.assert_array_equal(list(sampler.epoch(5, steps=2)), once[:2])
    for pass_ in (drawn[:3], drawn[3:6]):
        assert len(set(PIDS[np.concatenate(pass_)])) == 12


@QUICK
@given(st.sampled_from(SAMPLERS), st.sampled_from([1, 2, 4]), st.integers(0, 5))
def test_shards_are_the_whole_batch(name: str, world: int, epoch: int) -> None:
    sampler = make_sampler(name, PIDS, CAMIDS, 16, 4)
    whole = list(sampler.epoch(epoch))
    parts = [list(shard(sampler.epoch(epoch), rank, world)) for rank in range(world)]
    assert len(whole) > 0
    for number, rows in enumerate(whole):
        draws = [part[number] for part in parts]
        np.testing.assert_array_equal(np.concatenate([draw.rows for draw in draws]), rows)
        positions = np.concatenate([draw.positions for draw in draws])
        np.testing.assert_array_equal(positions, np.arange(16) + 16 * number)
        if name == "pk":
            for draw in draws:
                groups = PIDS[draw.rows].reshape(-1, 4)
                assert (groups == groups[:, :1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 64},
            "needs 16 identities, and there are 12; -s data.batch_size=48 is the most that works",
        ),
        ({"name": "random", "batch_size": 99}, "drawn from 93 images; set batch_size to 93"),
        (
            {"name": "pairs", "batch_size": 30, "epoch_by": "identities"},
            "15 pairs cannot be drawn from 12 identities; -s data.batch_size=24 is",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(options: dict[str, object], message: str) -> None:
    arguments = {"name": "pk", "batch_size": 16, "instances": 4, **options}
    with pytest.raises(ConfigError, match=message):
        make_sampler(pids=PIDS, camids=CAMIDS, **arguments)  # type: ignore[arg-type]


def test_data_without_pairs_is_refused() -> None:
    for name in ("pk", "pk_camera", "pairs"):
        with pytest.raises(
            DataError, match=r"no identity has two images \(20 identities, 20 images\)"
        ):
            make_sampler(name, np.arange(20), np.zeros(20, np.int64), 4, 2)
        with pytest.raises(DataError, match="no image has an identity"):
            make_sampler(name, np.full(20, -1), np.zeros(20, np.int64), 4, 2)
        with pytest.raises(
            DataError, match="needs identities, and the source has none; use 'random'"
        ):
            make_sampler(name, None, np.zeros(20, np.int64), 4, 2)


@pytest.mark.parametrize(
    ("sampler", "batch_size", "world", "unit"),
    [("pairs", 12, 4, 8), ("twice", 6, 2, 4), ("pk", 16, 8, 32), ("random", 12, 8, 8)],
)
def test_batches_whose_shares_tear_groups_apart_are_refused(
    sampler: str, batch_size: int, world: int, unit: int
) -> None:
    with pytest.raises(ConfigError, match=rf"'main'.*sampler '{sampler}'.*multiple of {unit},"):
        check_shares("main", sampler, batch_size, 4, world)
    for fitting in (unit, 3 * unit):
        check_shares("main", sampler, fitting, 4, world)
