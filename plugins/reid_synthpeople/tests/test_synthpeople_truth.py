"""Ground truth: parts, garments, keypoints and the texture agree with one another and the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reid_core.contract.fields import COCO_JOINTS, GARMENT_CLASSES, PART_CLASSES
from reid_synthpeople.atlas import CHARTS
from reid_synthpeople.garments import Outfit
from reid_synthpeople.painting import paint_surface
from reid_synthpeople.pictures import (
    HIDDEN,
    JOINT_PARTS,
    OUTSIDE,
    VISIBLE,
    Picture,
    judge_keypoints,
)
from reid_synthpeople.truth import commonest_sample
from reid_synthpeople.world import Shot, World, WorldSettings

SIZE = (128, 64)
SHOTS = [Shot(pid, pid % 2, pid % 3, pid) for pid in range(24)]
PARTS = {name: label for label, name in enumerate(PART_CLASSES)}
GARMENTS = {name: label for label, name in enumerate(GARMENT_CLASSES)}


@pytest.fixture(scope="module")
def world() -> World:
    settings = WorldSettings(
        seed=11, wardrobe=0.0, p_occlusion=0.1, p_truncation=0.2, bystanders=0.0
    )
    return World(settings, SIZE)


@pytest.fixture(scope="module")
def pictures(world: World) -> list[Picture]:
    return world.render(SHOTS)


def charts_of(picture: Picture) -> np.ndarray:
    """Return the number of the chart at every pixel, -1 where there is none."""
    x, y = picture.surface[..., 0], picture.surface[..., 1]
    number = np.full(picture.parts.shape, -1)
    for index, chart in enumerate(CHARTS):
        rows = (y >= chart.y) & (y < chart.y + chart.height)
        columns = (x >= chart.x) & (x < chart.x + chart.width)
        number[rows & columns & picture.silhouette] = index
    return number


def test_all_labels_have_one_silhouette(pictures: list[Picture]) -> None:
    for picture in pictures:
        np.testing.assert_array_equal(picture.garments > 0, picture.silhouette)
        np.testing.assert_array_equal(picture.surface.any(-1), picture.silhouette)
        assert 0.1 < picture.silhouette.mean() < 0.7


def test_every_class_occurs(pictures: list[Picture]) -> None:
    assert set(np.unique([picture.parts for picture in pictures])) == set(range(8))
    seen = set(np.unique([picture.garments for picture in pictures]))
    assert seen >= set(range(8)) - {GARMENTS["hat"]}


def test_the_surface_lies_on_the_chart_of_the_part(pictures: list[Picture]) -> None:
    parts = np.array([chart.part for chart in CHARTS])
    for picture in pictures:
        charts = charts_of(picture)[picture.silhouette]
        assert (charts >= 0).all()
        np.testing.assert_array_equal(parts[charts], picture.parts[picture.silhouette])


def test_garments_are_those_of_the_texels_seen(world: World, pictures: list[Picture]) -> None:
    for shot, picture in zip(SHOTS, pictures, strict=True):
        surface = paint_surface(world.person(shot.pid), world.outfit(shot.pid, shot.outfit))
        x, y = picture.surface[picture.silhouette].T
        np.testing.assert_array_equal(surface[y, x, 3], picture.garments[picture.silhouette])


def test_garments_fit_the_parts(pictures: list[Picture]) -> None:
    allowed = {
        "head": ("hat", "hair", "skin", "face"),
        "torso": ("upper", "lower", "skin"),
        "upper arm": ("upper", "skin"),
        "lower arm": ("upper", "skin"),
        "upper leg": ("upper", "lower", "skin"),
        "lower leg": ("lower", "shoes", "skin"),
        "foot": ("shoes",),
    }
    for part, names in allowed.items():
        labels = [picture.garments[picture.parts == PARTS[part]] for picture in pictures]
        assert set(np.unique(np.concatenate(labels))) <= {GARMENTS[name] for name in names}


def test_visible_keypoints_lie_on_their_part(pictures: list[Picture]) -> None:
    visible = 0
    for picture in pictures:
        for (x, y, visibility), allowed in zip(picture.keypoints, JOINT_PARTS, strict=True):
            if visibility == VISIBLE:
                visible += 1
                row, column = int(y), int(x)
                near = picture.parts[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                assert np.isin(near, allowed).any()
    assert visible > 0.5 * len(pictures) * len(COCO_JOINTS)


def test_keypoints_outside_are_marked(pictures: list[Picture]) -> None:
    for picture in pictures:
        x, y, visibility = picture.keypoints.T
        inside = (x >= 0) & (x < SIZE[1]) & (y >= 0) & (y < SIZE[0])
        np.testing.assert_array_equal(visibility == OUTSIDE, ~inside)


def test_limbs_run_between_their_keypoints(pictures: list[Picture]) -> None:
    """A picture's own lower legs: visible halfway between a visible knee and its visible ankle."""
    found = 0
    for picture in pictures:
        for side in ("left", "right"):
            knee, ankle = (
                picture.keypoints[COCO_JOINTS.index(f"{side} {name}")] for name in ("knee", "ankle")
            )
            if knee[2] == ankle[2] == VISIBLE:
                x, y = (knee[:2] + ankle[:2]) / 2
                found += picture.parts[int(y), int(x)] in (PARTS["lower leg"], PARTS["upper leg"])
                found -= picture.parts[int(y), int(x)] == 0
    assert found > len(pictures) / 2


def test_the_texture_gives_the_image_back(world: World, pictures: list[Picture]) -> None:
    """Up to light and noise: brightness of the re-rendered person correlates with the image's."""
    correlations = []
    for shot, picture in zip(SHOTS, pictures, strict=True):
        x, y = picture.surface[picture.silhouette].T
        albedo = world.atlas(shot.pid, shot.outfit)[y, x].mean(1)
        seen = picture.image[picture.silhouette].mean(1)
        correlations.append(np.corrcoef(albedo, seen)[0, 1])
    assert np.median(correlations) > 0.8
    assert min(correlations) > 0.5


def test_the_texture_of_somebody_else_does_not(world: World, pictures: list[Picture]) -> None:
    correlations = []
    for shot, picture in zip(SHOTS, pictures, strict=True):
        x, y = picture.surface[picture.silhouette].T
        albedo = world.atlas(shot.pid + 100, shot.outfit)[y, x].mean(1)
        seen = picture.image[picture.silhouette].mean(1)
        correlations.append(np.corrcoef(albedo, seen)[0, 1])
    assert np.median(correlations) < 0.6


def test_garment_labels_follow_the_paint(world: World) -> None:
    """Two outfits that differ in one colour differ exactly where that garment is labelled."""
    person, outfit = world.person(0), world.outfit(0, 0)
    plain = replace(outfit.upper, pattern="plain")
    red = replace(outfit, upper=replace(plain, colour=np.array([0.9, 0.1, 0.1])))
    blue = replace(outfit, upper=replace(plain, colour=np.array([0.1, 0.1, 0.9])))
    one, other = paint_surface(person, red), paint_surface(person, blue)
    np.testing.assert_array_equal(one[..., 3], other[..., 3])
    changed = (one[..., :3] != other[..., :3]).any(-1)
    assert (one[..., 3][changed] == GARMENTS["upper"]).all()
    assert changed.sum() > 0.5 * (one[..., 3] == GARMENTS["upper"]).sum()


def test_hats_bags_socks_and_skirts_are_labelled_as_documented(world: World) -> None:
    person, any_outfit = world.person(1), world.outfit(1, 0)

    def labels(outfit: Outfit, name: str) -> set[int]:
        surface = paint_surface(person, outfit)
        areas = [surface[chart.slices][..., 3] for chart in CHARTS if chart.kind == name]
        return set(np.unique(np.concatenate([area.ravel() for area in areas])))

    for hat, expected in ((0.0, "hair"), (1.0, "hat")):
        wearing = replace(any_outfit, cut=replace(any_outfit.cut, hat=hat))
        assert labels(wearing, "hair") == {GARMENTS[expected]}
    assert labels(any_outfit, "bag") == {GARMENTS["upper"]}
    assert labels(any_outfit, "hand") == {GARMENTS["skin"]}
    assert labels(any_outfit, "foot") == {GARMENTS["shoes"]}
    closed = replace(any_outfit, front=replace(any_outfit.front, opening=0.0))
    for top, expected in (("tee", "lower"), ("coat", "upper"), ("dress", "upper")):
        assert labels(replace(closed, top=top), "skirt") == {GARMENTS[expected]}
    shorts = replace(any_outfit, cut=replace(any_outfit.cut, lower_leg=0.0))
    assert labels(shorts, "lower leg") == {GARMENTS["shoes"], GARMENTS["skin"]}


def test_occluders_hide_people_and_keypoints(world: World) -> None:
    hidden = [shot for shot in SHOTS if world.scene(shot).view.occluder is not None]
    assert hidden
    for picture, shot in zip(world.render(hidden), hidden, strict=True):
        box = world.scene(shot).view.occluder
        assert box is not None
        rows = slice(max(0, round(box.top * SIZE[0]) + 1), round(box.bottom * SIZE[0]) - 1)
        columns = slice(max(0, round(box.left * SIZE[1]) + 1), round(box.right * SIZE[1]) - 1)
        assert not picture.parts[rows, columns].any()
        x, y, visibility = picture.keypoints.T
        behind = (x > columns.start) & (x < columns.stop) & (y > rows.start) & (y < rows.stop)
        assert not (visibility[behind] == VISIBLE).any()


def test_visibility_by_hand() -> None:
    """A nose seen on the head, behind a torso, far below the surface, and outside the picture."""
    seen = [[PARTS["head"], GARMENTS["face"]], [PARTS["torso"], GARMENTS["upper"]]]
    parts = torch.tensor([[seen]], dtype=torch.uint8).repeat(4, 1, 1, 1)
    nearness = torch.full((4, 1, 2), 0.2)  # the surface is 5 m away
    joints = torch.full((4, 17, 2), -5.0)
    joints[:, 0] = torch.tensor([[0.5, 0.5], [1.5, 0.5], [0.5, 0.5], [2.5, 0.5]])
    joint_nearness = torch.full((4, 17), 1 / 5.01)
    joint_nearness[2] = 1 / 5.1
    nose = judge_keypoints(joints, joint_nearness, nearness, parts)[:, 0]
    assert nose.tolist() == [VISIBLE, HIDDEN, HIDDEN, OUTSIDE]


@pytest.mark.parametrize(
    ("part", "garment", "metres", "expected"),
    [
        ("head", "face", 0.01, VISIBLE),
        ("head", "hair", 0.01, HIDDEN),
        ("head", "hat", 0.01, HIDDEN),
        ("head", "hair", -0.01, HIDDEN),  # it stands out of the hair by less than hair is thick
        ("background", "background", -3.0, VISIBLE),  # in profile, beyond the outline
        ("head", "hair", -0.05, VISIBLE),  # before hair that hangs on the other side
        ("background", "background", 3.0, HIDDEN),  # something stands before it
    ],
)
def test_what_hides_an_ear(part: str, garment: str, metres: float, expected: int) -> None:
    """The joint lies so many metres behind what is seen at its pixel."""
    part_labels = {"background": 0, **PARTS}
    labels = torch.tensor([[[[part_labels[part], GARMENTS[garment]]]]], dtype=torch.uint8)
    nearness = torch.full((1, 1, 1), 1 / 5.0)
    joints = torch.full((1, 17, 2), 0.5)
    ear = COCO_JOINTS.index("left ear")
    found = judge_keypoints(joints, torch.full((1, 17), 1 / (5 + metres)), nearness, labels)
    assert found[0, ear] == expected


def test_a_pixel_has_the_labels_of_most_of_its_samples() -> None:
    torso, arm = [2, 3, 10, 11], [3, 3, 20, 21]
    nothing = [0, 0, 0, 0]

    def pixel(*samples: list[int]) -> list[int]:
        square = torch.tensor(samples, dtype=torch.uint8).view(1, 2, 2, 4)
        return commonest_sample(square, 2)[0, 0, 0].tolist()

    assert pixel(nothing, torso, torso, torso) == torso  # the top left alone is background
    assert pixel(torso, nothing, nothing, nothing) == nothing
    assert pixel(torso, nothing, arm, nothing) in (torso, arm)  # half of it: of every second pixel
    assert pixel(torso, arm, arm, nothing) == arm
    one = torch.tensor([[[torso]]], dtype=torch.uint8)
    assert commonest_sample(one, 1) is one
    # Ties fall to one side and to the other in turn, so that a border is not moved.
    pair = torch.tensor([torso, arm], dtype=torch.uint8).view(1, 1, 2, 4).repeat(1, 2, 2, 1)
    assert commonest_sample(pair, 2)[0, 0, :, 0].tolist() == [2, 3]


def test_label_maps_show_what_most_samples_of_their_pixels_show() -> None:
    settings = WorldSettings(seed=11, p_occlusion=0.0, p_truncation=0.2, bystanders=0.0)
    coarse = World(settings, SIZE).render(SHOTS[:12])
    samples = World(settings, (SIZE[0] * 2, SIZE[1] * 2), supersampling=1).render(SHOTS[:12])
    kept, before, areas = [], [], []
    for small, large in zip(coarse, samples, strict=True):
        share = large.silhouette.reshape(SIZE[0], 2, SIZE[1], 2).mean((1, 3))
        majority, decided = share > 0.5, share != 0.5
        for found, shares in ((small.silhouette, kept), (large.silhouette[::2, ::2], before)):
            both, either = found & majority & decided, (found | majority) & decided
            shares.append(both.sum() / either.sum())
        areas.append(small.silhouette.sum() / share.sum())
    assert min(kept) == 1
    assert max(before) < 1  # one sample per pixel, the top left one
    assert abs(np.mean(areas) - 1) < 0.01
