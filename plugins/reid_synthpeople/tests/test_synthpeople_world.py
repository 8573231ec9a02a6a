"""Worlds: the same seed gives the same pictures, and each cause moves only what is its own."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from reid_core.contract.fields import COCO_JOINTS
from reid_core.errors import ConfigError, DataError
from reid_core.testing.elsewhere import ELSEWHERE, elsewhere
from reid_synthpeople.fingerprint import Fingerprint
from reid_synthpeople.pictures import Picture
from reid_synthpeople.scenes import Scenes, Walk
from reid_synthpeople.world import Shot, World, WorldSettings

SIZE = (64, 32)
SETTINGS = WorldSettings(seed=3, p_occlusion=0.2, p_truncation=0.2, bystanders=0.3)
SHOTS = [Shot(pid, pid % 2, pid % 3, number) for pid in range(6) for number in range(2)]


@pytest.fixture(scope="module")
def world() -> World:
    return World(SETTINGS, SIZE)


@pytest.fixture(scope="module")
def pictures(world: World) -> list[Picture]:
    return world.render(SHOTS)


def labels(picture: Picture) -> list[np.ndarray]:
    return [picture.parts, picture.garments, picture.surface, picture.keypoints]


def assert_same(one: Picture, other: Picture, tolerance: int = 0) -> None:
    for left, right in zip(labels(one), labels(other), strict=True):
        np.testing.assert_array_equal(left, right)
    difference = np.abs(one.image.astype(int) - other.image)
    assert difference.max() <= tolerance


def assert_same_up_to_rounding(pictures: list[Picture], others: list[Picture]) -> None:
    for one, other in zip(pictures, others, strict=True):
        # A sample on an edge may fall to its neighbour, where sums are rounded otherwise.
        for left, right in zip(labels(one)[:3], labels(other)[:3], strict=True):
            assert (left != right).mean() < 0.005
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)
        off = np.abs(one.image.astype(int) - other.image)
        assert (off > 1).mean() < 0.005


def test_shapes_and_types(pictures: list[Picture]) -> None:
    for picture in pictures:
        assert picture.image.shape == (*SIZE, 3)
        assert picture.parts.shape == picture.garments.shape == picture.silhouette.shape == SIZE
        assert picture.surface.shape == (*SIZE, 2)
        assert picture.keypoints.shape == (len(COCO_JOINTS), 3)
        for layer in (picture.image, picture.parts, picture.garments, picture.surface):
            assert layer.dtype == np.uint8
        assert picture.keypoints.dtype == np.float32
        assert np.isfinite(picture.keypoints).all()
        assert picture.image.std() > 5


def test_the_same_seed_gives_the_same_bytes(pictures: list[Picture]) -> None:
    for one, other in zip(pictures, World(SETTINGS, SIZE).render(SHOTS), strict=True):
        assert_same(one, other)


def test_another_device_is_used_for_everything(pictures: list[Picture]) -> None:
    with elsewhere():
        there = World(SETTINGS, SIZE, device=ELSEWHERE).render(SHOTS)
    for one, other in zip(pictures, there, strict=True):
        assert_same(one, other)


def test_other_last_digits_give_the_same_pictures_up_to_rounding(
    pictures: list[Picture],
) -> None:
    with elsewhere(ulps=4):
        there = World(SETTINGS, SIZE, device=ELSEWHERE).render(SHOTS)
    assert any((one.image != other.image).any() for one, other in zip(pictures, there, strict=True))
    assert_same_up_to_rounding(pictures, there)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_pictures_up_to_rounding(pictures: list[Picture]) -> None:
    assert_same_up_to_rounding(pictures, World(SETTINGS, SIZE, device="cuda").render(SHOTS))


def test_another_seed_gives_other_people(pictures: list[Picture]) -> None:
    others = World(replace(SETTINGS, seed=4), SIZE).render(SHOTS)
    for one, other in zip(pictures, others, strict=True):
        assert (one.parts != other.parts).any()
        assert (one.image != other.image).any()


def test_a_picture_does_not_depend_on_its_company(world: World, pictures: list[Picture]) -> None:
    backwards = world.render(SHOTS[::-1])[::-1]
    alone = [world.render([shot])[0] for shot in SHOTS]
    for picture, *others in zip(pictures, backwards, alone, strict=True):
        for other in others:
            assert_same(picture, other, tolerance=1)


def test_more_pictures_than_are_rendered_together(world: World, pictures: list[Picture]) -> None:
    many = world.render(SHOTS * 3)
    assert len(many) == 3 * len(SHOTS)
    assert_same(many[-1], pictures[-1], tolerance=1)
    assert world.render([]) == []


def test_what_was_forgotten_is_drawn_again(
    pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_synthpeople.world._ATLASES", 1)
    monkeypatch.setattr("reid_synthpeople.world._BACKDROPS", 1)
    monkeypatch.setattr("reid_synthpeople.scenes._CACHED", 1)
    small = World(SETTINGS, SIZE)
    for shot, picture in zip(SHOTS, pictures, strict=True):
        assert_same(small.render([shot])[0], picture, tolerance=1)
    for kept in (small._surface, small._backdrop, small._scenes.person, small._scenes.outfit):
        assert kept.cache_info().currsize == 1


def test_another_outfit_leaves_identity_pose_and_view_alone(world: World) -> None:
    shots = [shot for shot in SHOTS if world.scene(shot).view.occluder is None]
    before = world.render(shots)
    after = world.render([replace(shot, outfit=shot.outfit + 1) for shot in shots])
    for shot, one, other in zip(shots, before, after, strict=True):
        moved = world.scene(replace(shot, outfit=shot.outfit + 1))
        scene = world.scene(shot)
        assert scene.pose == moved.pose
        assert scene.view.yaw == moved.view.yaw
        assert scene.outfit.seed != moved.outfit.seed
        assert np.abs(one.keypoints[:, :2] - other.keypoints[:, :2]).max() < 1
        assert (one.parts == other.parts).mean() > 0.75  # a coat covers much
        bare = ~one.silhouette & ~other.silhouette
        difference = np.abs(one.image.astype(int) - other.image)[bare]
        assert difference.mean() < 2  # blur at the person's border, and nothing else
        assert (one.image != other.image).any(-1)[one.silhouette].mean() > 0.5


def test_another_camera_leaves_identity_and_outfit_alone(world: World) -> None:
    one, other = Shot(1, 0, 0, 0), Shot(1, 0, 2, 0)
    scene, moved = world.scene(one), world.scene(other)
    assert scene.person is moved.person
    assert scene.outfit is moved.outfit
    assert scene.camera is not moved.camera
    assert scene.pose != moved.pose
    first, second = world.render([one, other])
    assert (first.image != second.image).mean() > 0.9


def test_the_outfits_of_a_person_share_no_template() -> None:
    scenes = Scenes(WorldSettings(seed=1, wardrobe=1.0, styles=5))
    for pid in range(20):
        outfits = [scenes.outfit(pid, number) for number in range(5)]
        assert len({outfit.pattern_scale for outfit in outfits}) == 5


def test_a_wardrobe_is_shared() -> None:
    """With templates there are `styles` fabrics per sex; without, as many as outfits."""
    for wardrobe, most in ((1.0, 2 * 3), (0.0, 40)):
        scenes = Scenes(WorldSettings(seed=1, wardrobe=wardrobe, styles=3))
        scales = {scenes.outfit(pid, 0).pattern_scale for pid in range(40)}
        assert len(scales) == most


def test_frontal_pictures_share_pose_and_view(world: World) -> None:
    shots = [Shot(pid, 0, 0, pid) for pid in range(5)]
    scenes = [world.scene(shot, frontal=True) for shot in shots]
    assert len({scene.pose for scene in scenes}) == 1
    assert len({(scene.view.yaw, scene.view.pitch, scene.view.scale) for scene in scenes}) == 1
    left, right = COCO_JOINTS.index("left shoulder"), COCO_JOINTS.index("right shoulder")
    for picture in world.render(shots, frontal=True):
        x, y, visible = picture.keypoints.T
        assert (visible[[5, 6, 7, 8, 9, 10, 15, 16]] == 2).all()
        assert x[left] > x[right]  # seen from the front
        assert abs(x[left] + x[right] - SIZE[1]) < 2  # in the middle
        assert y[0] < y[5] < y[11] < y[13] < y[15] < SIZE[0]


def test_scenes_without_their_people(world: World, pictures: list[Picture]) -> None:
    for picture, empty in zip(pictures, world.render(SHOTS, people=False), strict=True):
        assert not empty.silhouette.any()
        assert not empty.garments.any()
        assert not empty.surface.any()
        assert not empty.keypoints[:, 2].any()
        far = ~picture.silhouette
        far[SIZE[0] * 3 // 4 :] = False  # the shadow on the ground goes with the person
        difference = np.abs(empty.image.astype(int) - picture.image)
        assert difference[far].mean() < 3
        assert difference[picture.silhouette].mean() > 3 * difference[far].mean()


def test_a_scene_without_people_says_nothing_of_the_outfit(world: World) -> None:
    """The strict form of the leak control: not a byte depends on what somebody wears."""
    shot = Shot(2, 0, 1, 0)
    first, second = world.render([shot, replace(shot, outfit=1)], people=False)
    np.testing.assert_array_equal(first.image, second.image)


def test_bystanders_and_occluders_come_as_often_as_asked() -> None:
    never = replace(SETTINGS, p_occlusion=0.0, bystanders=0.0)
    always = replace(SETTINGS, p_occlusion=1.0, bystanders=1.0)
    for settings, expected in ((never, False), (always, True)):
        views = [Scenes(settings).scene(shot).view for shot in SHOTS]
        assert all((view.occluder is not None) == expected for view in views)
        assert all((view.bystander is not None) == expected for view in views)
    hidden = World(always, SIZE).render(SHOTS)
    whole = World(replace(always, p_occlusion=0.0), SIZE).render(SHOTS)
    area = [picture.silhouette.sum() for picture in hidden]
    assert sum(area) < sum(picture.silhouette.sum() for picture in whole)


def test_parameters_are_the_same_everywhere(world: World) -> None:
    """Pinned: another value means that the same seed gives other people than it used to."""
    assert World(WorldSettings(), SIZE).parameters_hash(SHOTS) == "92c65a82ae7609f1"
    assert world.parameters_hash(SHOTS) != world.parameters_hash(SHOTS[::-1])
    assert world.parameters_hash(SHOTS) != Scenes(replace(SETTINGS, spread=1.2)).parameters_hash(
        SHOTS
    )


def test_labels_are_the_same_everywhere() -> None:
    """Pinned: pixels per class of parts and of garments in twelve pictures."""
    pictures = World(WorldSettings(), SIZE).render(SHOTS)
    parts = np.bincount(np.concatenate([p.parts.ravel() for p in pictures]), minlength=8)
    garments = np.bincount(np.concatenate([p.garments.ravel() for p in pictures]), minlength=8)
    assert parts.tolist() == [16974, 453, 2290, 756, 506, 1875, 1456, 266]
    assert garments.tolist() == [16974, 0, 171, 3226, 3151, 459, 236, 359]


def test_supersampling_refines_the_same_scene() -> None:
    shots = SHOTS[:4]
    coarse = World(SETTINGS, SIZE, supersampling=1).render(shots)
    fine = World(SETTINGS, SIZE, supersampling=2).render(shots)
    for one, other in zip(coarse, fine, strict=True):
        np.testing.assert_allclose(one.keypoints[:, :2], other.keypoints[:, :2], atol=0.01)
        assert (one.parts == other.parts).mean() > 0.9


def test_atlas_is_a_copy(world: World) -> None:
    atlas = world.atlas(0, 0)
    assert atlas.shape == (256, 256, 3)
    before = atlas.copy()
    atlas[:] = 0
    np.testing.assert_array_equal(world.atlas(0, 0), before)


def told(*parameters: object) -> str:
    fingerprint = Fingerprint()
    fingerprint.add(parameters)
    return fingerprint.digest()


def test_a_walk_goes_on_from_its_shot() -> None:
    calm = replace(SETTINGS, p_truncation=0.0)
    scenes = Scenes(calm)
    for shot in SHOTS[:6]:
        first = scenes.scene(shot)
        frames = [
            scenes.scene(Walk(shot.pid, shot.outfit, shot.camid, shot.number, frame))
            for frame in range(10)
        ]
        assert told(frames[0].pose, frames[0].view) == told(first.pose, first.view)
        assert len({scene.view.noise for scene in frames}) == 10
        for scene in frames:
            assert scene.view.yaw == first.view.yaw
            assert scene.view.sun == first.view.sun
            assert scene.pose.lean == first.pose.lean
            assert 0 <= scene.view.backdrop_x <= 1
        hips = np.array([scene.pose.hip_left for scene in frames])
        assert hips[9] == pytest.approx(hips[0]), "nine frames are two steps"
        assert np.ptp(hips) > 0


def test_all_parameters_are_finite(world: World) -> None:
    for pid in range(30):
        person, cut = world.person(pid), world.outfit(pid, 0).cut
        for numbers in (person.build, person.gait, person.hair, cut):
            assert np.isfinite(list(asdict(numbers).values())).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed is -1; use 0 to"),
        ({"cameras": 0, "yaw0": None}, "cameras is 0; use at least 1"),
        ({"styles": 0}, "styles is 0; use at least 1"),
        ({"cameras": 2}, "yaw0 has 3 directions for 2 cameras; give one per camera, or None"),
        ({"p_occlusion": 1.5}, "p_occlusion is 1.5; a probability is 0 to 1"),
        ({"yaw_sd": -0.1}, "yaw_sd is -0.1; use 0 or more"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(WorldSettings(), **change)


def test_an_unknown_camera_is_refused(world: World) -> None:
    with pytest.raises(DataError, match="camera 3 of a world with 3; camid is 0 to 2"):
        world.render([Shot(0, 0, 3, 0)])
