"""Pose labels: reading joints, clustering them, and what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from reid_core import DataError, Sample
from reid_core.contract.fields import COCO_JOINTS
from reid_fsam.commands import fsam as command
from reid_fsam.keypoints import joints_of_field, joints_of_file, relative_joints
from reid_fsam.pose_files import merge_results, read_people
from reid_fsam.poses import PoseClusters, cluster_poses
from reid_fsam.reporting import pose_sheet

BASE = np.stack([np.linspace(0.3, 0.7, 17), np.linspace(0.1, 0.9, 17)], 1)
"""A pose whose joints go down in COCO's order."""


def people(offsets: list[float], each: int = 6, visible: float = 1.0) -> np.ndarray[Any, Any]:
    """Return poses ``N 17 3`` around several centres that lie aside."""
    random = np.random.default_rng(0)
    moved = [BASE + np.array([shift, 0]) for shift in offsets]
    rows = [pose + random.normal(0, 0.005, (17, 2)) for pose in moved] * each
    seen = np.full((len(rows), 17, 1), visible)
    return np.concatenate([np.stack(rows), seen], 2).astype(np.float32)


def test_clusters_are_found_and_the_largest_comes_first() -> None:
    joints = people([0.0, 0.2, 0.2, -0.2])
    clusters = cluster_poses(joints, 3)
    assert clusters.counts == (12, 6, 6)
    assert clusters.centres[0].mean(0) == pytest.approx([0.7, 0.5], abs=0.01)
    labels = clusters.assign(joints)
    assert np.bincount(labels).tolist() == [12, 6, 6]
    assert len({*labels[1::4], *labels[2::4]}) == 1
    assert np.array_equal(cluster_poses(joints, 3).centres, clusters.centres), "reproducible"


def test_only_visible_joints_decide() -> None:
    clusters = cluster_poses(people([0.0, 0.2, -0.2]), 3)
    hidden = people([0.2], each=1)
    expected = clusters.assign(hidden)
    hidden[0, 5:, :2] = 0
    wrong = clusters.assign(hidden)
    hidden[0, 5:, 2] = 0
    assert clusters.assign(hidden) == expected
    assert wrong != expected, "the same joints, believed, lead astray"


def test_an_image_without_joints_belongs_to_the_largest_cluster() -> None:
    clusters = cluster_poses(people([0.0, 0.2, 0.2, -0.2]), 3)
    assert clusters.assign(np.zeros((2, 17, 3), np.float32)).tolist() == [0, 0]


def test_joints_that_no_image_trusts_take_no_part() -> None:
    sure, unsure = people([0.0, 0.2, -0.2]), people([0.9], visible=0.2)
    clusters = cluster_poses(np.concatenate([sure, unsure]), 3)
    assert clusters.centres[:, :, 0].max() < 1.0
    assert sum(clusters.counts) == len(sure) + len(unsure), "but all have a label"


def test_fewer_poses_than_clusters_are_refused() -> None:
    joints = np.repeat(people([0.0, 0.2], each=1), 5, axis=0)
    with pytest.raises(
        DataError,
        match=r"only 2 different poses are known of 10 images \(mean visibility above 0.3",
    ):
        cluster_poses(joints, 3)
    with pytest.raises(DataError, match=r"only 0 different poses are known of 10 images"):
        cluster_poses(joints * (1, 1, 0.1), 3)


def test_centres_are_kept_and_drawn(tmp_path: Path) -> None:
    clusters = cluster_poses(people([0.0, 0.2, -0.2]), 3)
    clusters.save(tmp_path / "poses.json")
    again = PoseClusters.load(tmp_path / "poses.json")
    assert np.allclose(again.centres, clusters.centres, atol=1e-6)
    assert again.counts == clusters.counts
    with Image.open(pose_sheet(clusters, tmp_path / "poses.png")) as picture:
        pixels = np.asarray(picture)
    assert (pixels == (200, 60, 40)).all(2).any(), "left limbs are red"
    assert (pixels == (40, 90, 200)).all(2).any(), "right ones blue"


def sample(folder: Path, name: str, size: tuple[int, int] = (50, 100), **fields: Any) -> Sample:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return Sample(path, 0, 0, fields=fields)


def pixels() -> np.ndarray[Any, Any]:
    return np.concatenate([BASE * (50, 100), np.ones((17, 1))], 1).astype(np.float32)


def test_joints_are_relative_to_their_image_or_to_themselves(tmp_path: Path) -> None:
    small = sample(tmp_path, "a.png", keypoints=pixels())
    large = sample(tmp_path, "b.png", (100, 200), keypoints=pixels() * (2, 2, 1))
    joints = joints_of_field([small, large])
    for scale in ("image", "box"):
        relative = relative_joints(joints, [small, large], scale)  # type: ignore[arg-type]
        assert np.allclose(relative[0], relative[1], atol=1e-6)
    assert np.allclose(relative_joints(joints, [small, large], "image")[0, :, :2], BASE, atol=1e-6)
    assert relative[0, :, :2].min() == 0
    assert relative[0, :, :2].max() == 1


def test_a_field_of_other_joints_is_refused(tmp_path: Path) -> None:
    one = sample(tmp_path, "a.png", keypoints=np.zeros((16, 3), np.float32))
    with pytest.raises(DataError, match=r"a.png: 'keypoints' has shape \(16, 3\); COCO's 17"):
        joints_of_field([one])


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def result(name: str, visible: float = 0.9, joints: int = 17, **more: Any) -> dict[str, Any]:
    values = pixels()[:joints] * (1, 1, visible)
    return {"image_id": name, "keypoints": values.flatten().tolist(), **more}


def test_alphapose_s_best_person_counts(tmp_path: Path) -> None:
    worse = result("a.png", 0.3)
    worse["keypoints"][0] = 1000
    path = written(tmp_path / "poses.json", [worse, result("a.png"), result("x/b.png")])
    samples = [sample(tmp_path, "a.png"), sample(tmp_path, "x/b.png"), sample(tmp_path, "c.png")]
    joints = joints_of_file(samples, path)
    assert np.allclose(joints[0, :, :2], BASE * (50, 100), atol=1e-4)
    assert joints[0, 0, 2] == pytest.approx(0.9)
    assert joints[1, 0, 2] == pytest.approx(0.9)
    assert not joints[2].any(), "an image without a person"


def test_coco_s_annotations_are_understood(tmp_path: Path) -> None:
    one = {**result("-", 2.0), "image_id": 7}
    one["keypoints"][2::3] = [0, 1, 2] * 5 + [2, 2]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [one],
        "categories": [{"id": 1, "keypoints": [n.replace(" ", "_") for n in COCO_JOINTS]}],
    }
    joints = joints_of_file([sample(tmp_path, "a.png")], written(tmp_path / "coco.json", content))
    assert joints[0, :3, 2].tolist() == [0, 0.5, 1]


def test_categories_may_be_missing_or_null(tmp_path: Path) -> None:
    one = {**result("-", 2.0), "image_id": 7}
    content: dict[str, Any] = {"images": [{"id": 7, "file_name": "a.png"}], "annotations": [one]}
    for categories in (None, [], [{"id": 1, "keypoints": None}]):
        path = written(tmp_path / "coco.json", {**content, "categories": categories})
        assert set(read_people(path).joints) == {"a.png"}


def lost(name: str) -> dict[str, Any]:
    """Return a person of whom a detector saw five joints; it puts the others at the origin."""
    values = np.concatenate([pixels()[:, :2], np.full((17, 1), 0.9)], 1)
    values[[*range(5), *range(10, 17)]] = (0, 0, 0.03)
    return {"image_id": name, "keypoints": values.flatten().tolist()}


def test_a_joint_of_low_score_is_not_seen(tmp_path: Path) -> None:
    path = written(tmp_path / "poses.json", [lost("a.png")])
    samples = [sample(tmp_path, "a.png")]
    seen = joints_of_file(samples, path)
    assert int((seen[0, :, 2] > 0).sum()) == 5
    assert int((joints_of_file(samples, path, 0.01)[0, :, 2] > 0).sum()) == 17
    assert not joints_of_file(samples, path, 0.95).any(2).all()
    # The five joints that were seen are those of the middle pose; what was lost does not count.
    clusters = cluster_poses(people([0.0, 0.2, -0.2]), 3)
    right = clusters.assign(people([0.0], each=1))
    assert clusters.assign(relative_joints(seen, samples, "image")) == right
    believed = joints_of_file(samples, path, 0.01)
    assert clusters.assign(relative_joints(believed, samples, "image")) != right


def test_thresholds_are_those_of_detectors_and_of_labels(tmp_path: Path) -> None:
    samples = [sample(tmp_path, "a.png")]
    for score, seen in ((0.4, 0), (0.41, 17)):
        path = written(tmp_path / "poses.json", [result("a.png", score)])
        assert int((joints_of_file(samples, path)[0, :, 2] > 0).sum()) == seen
    one = {**result("-", 1.0), "image_id": 7}
    content = {"images": [{"id": 7, "file_name": "a.png"}], "annotations": [one]}
    hidden = joints_of_file(samples, written(tmp_path / "coco.json", content))
    assert hidden[0, :, 2].tolist() == [0.5] * 17, "labelled though hidden"
    for value, seen in ((0.2, 0), (0.4, 0), (0.41, 17), (0.5, 17)):
        field = [sample(tmp_path, "b.png", keypoints=pixels() * np.float32((1, 1, value)))]
        found = joints_of_field(field)[0, :, 2]
        assert int((found > 0).sum()) == seen, "scores of a detector, which a labeler wrote"
    assert joints_of_field(field, threshold=0.3)[0, :, 2].tolist() == [0.5] * 17
    assert not joints_of_field(field, threshold=0.6)[0, :, 2].any()


def test_results_of_many_folders_are_merged(tmp_path: Path) -> None:
    for folder, visible in (("001", 0.9), ("002", 0.5)):
        (tmp_path / "found" / "train" / folder).mkdir(parents=True)
        people_there = [result("a.png", visible), result("a.png", 0.45)]
        written(tmp_path / "found" / "train" / folder / "alphapose-results.json", people_there)
    out = tmp_path / "made" / "poses.json"
    words = ["poses", str(tmp_path / "found"), "--out", str(out)]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert "joints on 2 images" in done.output
    samples = [sample(tmp_path, f"rgb/train/{folder}/a.png") for folder in ("001", "002")]
    joints = joints_of_file(samples, out)
    assert joints[:, 0, 2].tolist() == pytest.approx([0.9, 0.5])
    assert np.allclose(joints[1, :, :2], pixels()[:, :2], atol=1e-3)


def test_results_in_linked_folders_are_merged(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "found").mkdir()
    written(tmp_path / "elsewhere" / "r.json", [result("a.png", 0.9)])
    (tmp_path / "found" / "001").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    merged = merge_results(tmp_path / "found", "r.json")
    assert [one["image_id"] for one in merged] == ["001/a.png"]


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hold no 'r.json'; name the files with --name"):
        merge_results(tmp_path, "r.json")
    written(tmp_path / "r.json", {"images": [], "annotations": []})
    with pytest.raises(DataError, match=r"r.json is no folder: name the one that holds the"):
        merge_results(tmp_path / "r.json", "r.json")
    with pytest.raises(DataError, match=r"r.json holds annotations, which name folders"):
        merge_results(tmp_path, "r.json")
    done = CliRunner().invoke(command, ["poses", str(tmp_path), "--out", str(tmp_path / "p.txt")])
    assert "must end in .json" in str(done.exception)


def test_folders_tell_images_of_one_name_apart(tmp_path: Path) -> None:
    samples = [sample(tmp_path, "001/a.png"), sample(tmp_path, "002/a.png")]
    apart = written(tmp_path / "p.json", [result("001/a.png"), result("002/a.png", 0.5)])
    assert joints_of_file(samples, apart)[:, 0, 2].tolist() == pytest.approx([0.9, 0.5])
    mixed = written(tmp_path / "q.json", [result("a.png")])
    with pytest.raises(
        DataError, match=r"'a.png' could be .*001/a.png or .*002/a.png.*`reid fsam poses`"
    ):
        joints_of_file(samples, mixed)


def test_a_file_of_other_images_is_refused(tmp_path: Path) -> None:
    samples = [sample(tmp_path, f"{number}.png") for number in range(3)]
    path = written(tmp_path / "p.json", [result("0.png"), result("z.png")])
    with pytest.raises(DataError, match=r"2 of 3 images have no keypoints there, first 1.png"):
        joints_of_file(samples, path)


def test_some_may_stand_on_their_heads_but_not_most(tmp_path: Path) -> None:
    turned = {"keypoints": pixels()[::-1].flatten().tolist()}
    for heads in (2, 3):
        found = [result(f"{k}.png") for k in range(5 - heads)]
        found += [{"image_id": f"{9 - k}.png", **turned} for k in range(heads)]
        path = written(tmp_path / f"{heads}.json", found)
        if heads == 2:
            assert len(read_people(path).joints) == 5
        else:
            with pytest.raises(DataError, match=r"in 3 of 5 images what should be ankles"):
                read_people(path)


SWAPPED = [COCO_JOINTS[0], COCO_JOINTS[2], COCO_JOINTS[1], *COCO_JOINTS[3:]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ({"version": 1, "people": []}, "neither a list of results .* AlphaPose write its default"),
        ([{"image_id": "a"}], "entry 0 has no image_id and keypoints"),
        ([result("a", joints=16)], "entry 0 has 48 numbers instead of x, y and score of COCO's 17"),
        ([{"image_id": "a", "keypoints": None}], "entry 0 has no image_id and keypoints"),
        ([{"image_id": ["a"], "keypoints": []}], "entry 0 has no image_id and keypoints"),
        ([{"image_id": "a", "keypoints": ["nose"] * 51}], "entry 0: .* are not all numbers"),
        ([{"image_id": "a", "keypoints": [[0, 1, 2]] * 16 + [[0]]}], "are not all numbers"),
        ([{"image_id": "a", "keypoints": [float("nan")] * 51}], "entry 0: .* not all finite"),
        ([{"image_id": "a", "keypoints": [None] * 51}], "entry 0: .* not all finite"),
        ({"images": [{"id": 1}], "annotations": []}, "image 0 has no id and file_name"),
        ({"images": None, "annotations": []}, "neither a list of results"),
        (
            {"images": [], "annotations": [], "categories": [{"keypoints": SWAPPED}]},
            "another order than COCO's: 'right eye' in place of 'left eye'",
        ),
        (
            [{"image_id": "a", "keypoints": pixels()[::-1].flatten().tolist()}],
            "another order of joints than COCO's: in 1 of 1 images what should be ankles",
        ),
    ],
)
def test_other_formats_and_orders_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"poses.json.*{message}"):
        read_people(written(tmp_path / "poses.json", content))
    with pytest.raises(DataError, match=r"nowhere.json cannot be read"):
        read_people(tmp_path / "nowhere.json")
