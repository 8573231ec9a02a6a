"""Pools of either side: what their features are, who is in them, what a ranking of them is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_retrieval import DataError, Protocol, evaluate, evaluate_distances, pools
from reid_retrieval.__main__ import main
from reid_retrieval.labels import Labels
from reid_retrieval.pools import POOLINGS, Pools
from reid_retrieval.protocols import CAMERA_POOLS, POOLED, STANDARD, TRACKLET_POOLS, JunkRule
from reid_retrieval.searching import Search

FEATURES = np.array([[3, 4], [0, 2], [0, 0], [6, -8]], np.float32)
GOLDEN = {
    "mean": [[1.5, 3.0], [3.0, -4.0]],
    "unit-mean": [[0.3, 0.9], [0.3, -0.4]],
    "max": [[3.0, 4.0], [6.0, 0.0]],
}


@pytest.mark.parametrize("pooling", list(GOLDEN))
@pytest.mark.parametrize("at_once", [1, 2, 4096])
def test_the_feature_of_a_pool(pooling: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_ROWS_AT_ONCE", at_once)
    made = Pools(np.array([0, 1, 2, 3]), np.array([0, 2])).pooled(FEATURES, pooling)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, GOLDEN[pooling], rtol=1e-6)


def test_pools_of_many_sizes_are_divided_and_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    tracklets = rng.integers(0, 9, 60)
    features = rng.standard_normal((60, 5)).astype(np.float32)
    found = Pools.of(Labels(tracklets), np.arange(60), ("pid",))
    monkeypatch.setattr(pools, "_ROWS_AT_ONCE", 13)
    order = list(dict.fromkeys(tracklets.tolist()))
    expected = [features[tracklets == one].mean(0) for one in order]
    np.testing.assert_allclose(found.pooled(features), expected, rtol=1e-5, atol=1e-6)


def test_every_pooling_has_words() -> None:
    assert list(POOLINGS) == list(POOLED)


VIDEO = Protocol("video", pool=("tracklet",), gallery_pool=("tracklet",), pooling="unit-mean")


def test_a_ranking_of_tracklets_by_hand() -> None:
    """Unit vectors of angles: frames at -30 and 30 degrees are a tracklet at 0 degrees."""

    def at(*degrees: float) -> np.ndarray:
        return np.array([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees])

    query = at(-30, 30) * [[1.0], [50.0]]  # lengths do not count
    gallery = at(28, 60, 100, -20, 0)
    asked = {"pid": [1, 1], "tracklet": ["a", "a"]}
    offered = {"pid": [1, 2, 1, 2, -1], "tracklet": ["p", "q", "p", "q", "p"]}
    # Tracklet p of person 1 is at 64 degrees, q of person 2 at 20: the match is second.
    result = evaluate(query, gallery, asked, offered, VIDEO)
    assert (result.mean_ap, result.cmc[:2]) == (0.5, (0.0, 1.0))
    assert (result.total_queries, result.gallery_images) == (1, 2)
    # Frame by frame 28 degrees is closer to 30 than 60, and to -30 no closer than -20.
    singly = evaluate(query, gallery, asked, offered, "no-camera")
    assert (singly.total_queries, singly.gallery_images) == (2, 4)
    assert singly.cmc[0] == 0.5
    # The mean of what is as long as it is lies near 30 degrees: p (64) is 34 away, q (20) is 10.
    plain = evaluate(query, gallery, asked, offered, replace(VIDEO, pooling="mean"))
    assert plain.mean_ap == 0.5
    assert "query all, mean unit feature per tracklet; gallery all, mean" in result.text


def test_a_multi_shot_gallery_has_an_entry_per_person_and_camera() -> None:
    query = np.array([[1.0, 0.0]])
    gallery = np.array([[0.9, -0.1], [0.6, 0.8], [0.8, 0.6], [0.6, -0.8], [-1.0, 0.0]])
    asked = {"pid": [1], "camid": [0]}
    offered = {"pid": [1, 2, 1, 1, 1], "camid": [0, 1, 1, 1, 2]}
    result = evaluate(query, gallery, asked, offered, CAMERA_POOLS)
    # Camera 0 is junk. At camera 1 person 1 is (0.7, -0.1), ahead of person 2 at 0.6; at camera 2
    # last of three: AP = (1 + 2 / 3) / 2.
    assert result.mean_ap == pytest.approx(5 / 6)
    assert result.gallery_images == 4
    search = Search(CAMERA_POOLS, Labels.of(asked), Labels.of(offered))
    assert search.gallery_rows.tolist() == [0, 1, 2, 4]
    np.testing.assert_allclose(search.offered(gallery.astype(np.float32))[2], [0.7, -0.1], 1e-5)


def test_gallery_images_without_an_identity_are_in_no_pool() -> None:
    offered = Labels([1, -1, 1], [1, 1, 1], extra={"tracklet": ["a", "a", "a"]})
    asked = Labels([1], [0], extra={"tracklet": ["b"]})
    search = Search(TRACKLET_POOLS, asked, offered)
    assert search.offered(np.array([[1, 0], [9, 9], [0, 1]], np.float32)).tolist() == [[0.5, 0.5]]


def test_distractors_of_one_number_are_not_one_person() -> None:
    offered = Labels([-2, 1, -2, 1, -2], [1] * 5, extra={"tracklet": ["d", "a", "e", "a", "d"]})
    asked = Labels([1], [0], extra={"tracklet": ["b"]})
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    search = Search(replace(CAMERA_POOLS, pooling="mean"), asked, offered)
    assert search.gallery.pids.tolist() == [-2, 1, -2, -2]
    assert search.offered(features).tolist() == [[0, 1], [4, 5], [4, 5], [8, 9]]
    # Those of one tracklet are.
    search = Search(replace(TRACKLET_POOLS, pooling="mean"), asked, offered)
    assert search.gallery_rows.tolist() == [0, 1, 2]
    assert search.offered(features).tolist() == [[4, 5], [4, 5], [4, 5]]


def test_pools_that_cannot_be_made() -> None:
    asked = Labels([1, 1], [0, 0], extra={"tracklet": [7, 7]})
    with pytest.raises(DataError) as error:
        Search(TRACKLET_POOLS, asked, Labels([1, 2, 2], [1, 1, 1], extra={"tracklet": [3, 4, 3]}))
    assert str(error.value) == (
        "protocol 'standard/tracklet-pools': a gallery pool by tracklet holds images of pid 1 and "
        "2 (rows 0 and 2): add 'pid' to the labels that it is pooled by, or mend the labels"
    )
    cameras = Labels([1, 1], [0, 1], extra={"tracklet": [7, 7]})
    with pytest.raises(DataError, match=r"a query pool by tracklet holds images of camid 0 and 1"):
        Search(TRACKLET_POOLS, cameras, asked)
    Search(replace(TRACKLET_POOLS, junk=JunkRule()), cameras, asked)  # which nothing compares
    with pytest.raises(DataError, match=r"a query pool by pid holds images of camid 0 and 1"):
        Search(replace(STANDARD, pool=("pid",)), cameras, asked)
    with pytest.raises(DataError, match=r"needs the label 'tracklet' of every gallery image, but"):
        Search(TRACKLET_POOLS, asked, Labels([1], [1]))
    with pytest.raises(DataError, match="'standard/camera-pools' pools features of several images"):
        evaluate_distances(np.zeros((1, 1)), [1], [1], CAMERA_POOLS)


def test_the_command_pools_what_a_file_of_rules_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "video.toml"
    rules.write_text('pool = ["tracklet"]\ngallery_pool = ["tracklet"]\npooling = "max"\n')
    features = np.array([[1, 0], [0, 1], [1, 1], [1, 0]], np.float32)
    columns = {"pids": [1, 1, 1, 2], "split": ["query", "query", "gallery", "gallery"]}
    file = tmp_path / "features.npz"
    np.savez(file, features=features, tracklet=["a", "a", "b", "c"], **columns)
    assert main(["evaluate", str(file), "--protocol", str(rules)]) == 0
    said = capsys.readouterr().out
    assert "R1 100.0" in said
    assert "(1/1 queries valid in 2 images" in said
    assert "video v1: query all, largest values per tracklet; gallery all, largest" in said
    np.savez(file, features=features, **columns)
    assert main(["evaluate", str(file), "--protocol", str(rules)]) == 2
    assert "needs the label 'tracklet' of every query image" in capsys.readouterr().err
