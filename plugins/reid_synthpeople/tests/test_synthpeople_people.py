"""Parameters of people: what is drawn for bodies, gaits and outfits, and how it is hashed."""

from dataclasses import dataclass

import numpy as np
import pytest

from reid_synthpeople.camera import draw_camera, draw_view
from reid_synthpeople.fingerprint import Fingerprint
from reid_synthpeople.gait import draw_pose
from reid_synthpeople.garments import BOTTOMS, TOPS, adapt_template, draw_outfit
from reid_synthpeople.identity import draw_person
from reid_synthpeople.materials import PATTERNS, hsv, weave
from reid_synthpeople.randomness import generator, smooth_noise, truncated_normal


def test_without_spread_all_bodies_of_a_sex_are_one() -> None:
    people = [draw_person(generator(1, pid), spread=0.0) for pid in range(40)]
    assert len({person.build for person in people}) == 2
    assert len({person.gait for person in people}) == 1
    mean = next(person.build for person in people if not person.female)
    assert mean.height == 1.75
    assert mean.leg == 0.485
    assert mean.bust == 0


def test_spread_scales_the_deviations() -> None:
    """The same stream: each measure deviates twice as far from its mean."""
    none, one, two = (draw_person(generator(5), spread=spread).build for spread in (0.0, 1.0, 2.0))
    assert two.height - none.height == pytest.approx(2 * (one.height - none.height))
    assert two.torso - none.torso == pytest.approx(2 * (one.torso - none.torso))
    assert one.height != none.height


def test_bodies_vary_as_adults_do() -> None:
    people = [draw_person(generator(2, pid)) for pid in range(400)]
    men = np.array([person.build.height for person in people if not person.female])
    women = np.array([person.build.height for person in people if person.female])
    assert 150 < len(men) < 250
    assert men.mean() == pytest.approx(1.75, abs=0.02)
    assert women.mean() == pytest.approx(1.63, abs=0.02)
    assert men.std() == pytest.approx(0.07, abs=0.012)
    assert men.max() <= 1.75 * (1 + 2.2 * 0.04)
    assert not any(person.looks.beard for person in people if person.female)
    assert any(person.looks.beard for person in people)


def test_deviates_are_cut() -> None:
    rng = generator(0)
    values = [truncated_normal(rng, 1.5) for _ in range(1000)]
    assert max(values) == 1.5
    assert min(values) == -1.5


def test_all_kinds_of_clothes_occur() -> None:
    outfits = [draw_outfit(generator(3, number), number % 2 == 0) for number in range(600)]
    assert {outfit.top for outfit in outfits} == set(TOPS)
    assert {outfit.bottom for outfit in outfits} == set(BOTTOMS)
    assert {outfit.upper.pattern for outfit in outfits} == set(PATTERNS)
    for outfit in outfits:
        skirt = outfit.bottom == "skirt" or outfit.top in ("dress", "coat")
        assert (outfit.cut.skirt > 0) == (outfit.cut.skirt_length > 0) == skirt
        assert not (outfit.cut.backpack and outfit.cut.shoulder_bag)
        if outfit.front.opening:
            assert outfit.top in ("jacket", "coat")
    men = outfits[1::2]
    assert not any(outfit.bottom == "skirt" or outfit.top == "dress" for outfit in men)


def test_wearers_of_a_template_differ_little() -> None:
    template = draw_outfit(generator(4), True)
    worn = [adapt_template(template, generator(4, wearer)) for wearer in range(50)]
    assert len({outfit.seed for outfit in worn}) == 50
    for outfit in worn:
        assert outfit.top == template.top
        assert outfit.bottom == template.bottom
        assert outfit.upper.pattern == template.upper.pattern
        ratio = outfit.cut.top_thickness / template.cut.top_thickness
        assert 0.8 <= ratio <= 1.25
    colours = np.array([outfit.upper.colour for outfit in worn])
    assert 0 < colours.std(0).max() < 0.15
    bags = {(outfit.cut.backpack, outfit.cut.shoulder_bag) for outfit in worn}
    assert len(bags) > 1


def test_left_and_right_move_in_antiphase() -> None:
    gait = draw_person(generator(6), spread=0.0).gait
    poses = [draw_pose(gait, generator(6, number)) for number in range(300)]
    left = np.array([pose.hip_left for pose in poses])
    right = np.array([pose.hip_right for pose in poses])
    arm = np.array([pose.shoulder_left for pose in poses])
    assert np.corrcoef(left, right)[0, 1] < -0.8
    assert np.corrcoef(left, arm)[0, 1] < -0.5
    assert min(pose.knee_left for pose in poses) > 0


def test_views_follow_their_camera() -> None:
    camera = draw_camera(generator(7), yaw=0.5, yaw_sd=0.1, twoway=0.0)
    views = [draw_view(camera, generator(7, number), 0.0, 0.0, 0.0) for number in range(300)]
    yaws = np.array([view.yaw for view in views])
    assert yaws.mean() == pytest.approx(0.5, abs=0.02)
    assert yaws.std() == pytest.approx(0.1, abs=0.02)
    both = draw_camera(generator(7), yaw=0.5, yaw_sd=0.0, twoway=0.5)
    turned = [draw_view(both, generator(7, n), 0.0, 0.0, 0.0).yaw > 2 for n in range(300)]
    assert 0.4 < np.mean(turned) < 0.6


def test_what_a_camera_is_given_is_not_drawn() -> None:
    free = draw_camera(generator(8))
    fixed = draw_camera(generator(8), yaw_sd=0.3, twoway=0.2)
    assert (fixed.yaw_sd, fixed.twoway) == (0.3, 0.2)
    assert (free.pitch, free.seed) == (fixed.pitch, fixed.seed)


def test_colours_by_hand() -> None:
    np.testing.assert_allclose(hsv(0, 1, 1), [1, 0, 0])
    np.testing.assert_allclose(hsv(1 / 3, 1, 0.5), [0, 0.5, 0])
    np.testing.assert_allclose(hsv(0.7, 0, 0.4), [0.4, 0.4, 0.4])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mix_two_colours(pattern: str) -> None:
    cloth = weave(pattern, np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.1, 0.9]), 0.05, generator(9))
    assert cloth.shape == (256, 256, 3)
    assert cloth.dtype == np.float32
    red = cloth[..., 0]
    np.testing.assert_allclose(red + cloth[..., 2], 1, atol=1e-6)
    if pattern == "plain":
        assert red.min() == red.max()
    else:
        assert (red.min(), red.max()) == pytest.approx((0.1, 0.9))


def test_smooth_noise_is_smooth() -> None:
    noise = smooth_noise(generator(10), 128, 16)
    assert noise.shape == (128, 128)
    assert 0.3 < noise.std() < 1.1
    assert np.abs(np.diff(noise, axis=0)).max() < 1


@dataclass(frozen=True)
class Parameters:
    name: str
    values: np.ndarray
    share: float | None = None


def digest(*values: object) -> str:
    fingerprint = Fingerprint()
    for value in values:
        fingerprint.add(value)
    return fingerprint.digest()


def test_fingerprints_forgive_the_last_bits_only() -> None:
    values = np.array([0.1, 2.0])
    first = digest(Parameters("a", values, 0.3), 1)
    assert len(first) == 16
    assert first == digest(Parameters("a", values + 1e-12, 0.1 + 0.2), 1)
    assert first != digest(Parameters("a", values + 1e-5, 0.3), 1)
    assert first != digest(Parameters("b", values, 0.3), 1)
    assert first != digest(Parameters("a", values, None), 1)
    assert digest(1, 2) != digest(12)
    with pytest.raises(TypeError, match="no fingerprint of a set"):
        digest({1})
