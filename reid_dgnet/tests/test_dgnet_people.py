"""Whose images are composed with whose, outside of training."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from reid_core import ConfigError, Sample
from reid_dgnet.people import different_people, identities_of, other_people, samples_in
from reid_dgnet.quality import pairs_of_people

SEVERAL = st.lists(st.integers(-1, 4), min_size=2, max_size=12).filter(lambda p: len(set(p)) > 1)


@given(SEVERAL, st.integers(0, 99))
def test_partners_are_other_people(pids, seed):
    pids, rows = np.array(pids), np.arange(len(pids))
    chosen = other_people(pids, rows, np.random.default_rng(seed))
    assert (pids[chosen] != pids).all()


def test_every_image_of_others_is_as_likely():
    pids = np.array([3, 1, 3, 2, 1, 3])
    drawn = other_people(pids, np.ones(6000, dtype=int), np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=6)
    assert counts[[1, 4]].tolist() == [0, 0]
    assert (abs(counts[[0, 2, 3, 5]] - 1500) < 150).all()


def test_one_person_alone_has_no_partner():
    with pytest.raises(ConfigError, match="nobody to swap codes with"):
        other_people(np.zeros(3, dtype=int), np.arange(3), np.random.default_rng(0))


def test_pairs_are_two_images_of_one_person_and_as_many_of_everybody():
    pids = np.array([5, 2, 5, -1, 2, 7, 5, -1])
    pairs = pairs_of_people(pids, 10, np.random.default_rng(0))
    assert pairs.shape == (20, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (pids[pairs[:, 0]] == pids[pairs[:, 1]]).all()
    assert np.unique(pids[pairs[:, 0]], return_counts=True)[1].tolist() == [10, 10]
    assert len({tuple(sorted(p)) for p in pairs.tolist() if pids[p[0]] == 5}) == 3
    with pytest.raises(ConfigError, match="people with more than one image"):
        pairs_of_people(np.array([1, 2, -1, -1]), 10, np.random.default_rng(0))


def test_people_are_spread_evenly():
    samples = [Sample(f"{n}", pid, 0) for n, pid in enumerate([4, 0, 0, 2, 9, -1, 6])]
    assert identities_of(samples).tolist() == [4, 0, 0, 2, 9, -1, 6]
    assert [s.pid for s in different_people(samples, 2)] == [0, 4]
    assert [s.path for s in different_people(samples, 9)] == ["1", "3", "0", "6", "4"]


def test_images_of_a_folder_are_of_a_person_each(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    found = samples_in(tmp_path)
    assert [(s.path.name, s.pid) for s in found] == [("a.jpg", 0), ("b.PNG", 1)]
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "linked").symlink_to(tmp_path, target_is_directory=True)
    below = [sample.path.name for sample in samples_in(tmp_path / "pictures")]
    assert below == ["a.jpg", "b.PNG"]  # and no loop
    with pytest.raises(ConfigError, match=r"--images .*none: there is no such folder"):
        samples_in(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no image in it \(.bmp, .jpeg"):
        samples_in(tmp_path / "empty")
