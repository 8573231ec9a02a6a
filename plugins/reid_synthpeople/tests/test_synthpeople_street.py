"""Streets: every factor moves what is its own, and nothing of worlds without factors."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from few_people import few_people
from PIL import Image
from pydantic import ValidationError

from reid_core.contract.samples import DataRequest
from reid_core.errors import ConfigError
from reid_core.testing.elsewhere import ELSEWHERE, elsewhere
from reid_synthpeople.garments import Outfit
from reid_synthpeople.names import FACTORS
from reid_synthpeople.pictures import Picture
from reid_synthpeople.plans import plan_of
from reid_synthpeople.provider import load_dataset, order_of
from reid_synthpeople.redress import shot_of, world_behind
from reid_synthpeople.scenes import Scene, Scenes
from reid_synthpeople.settings import SynthpeopleSettings
from reid_synthpeople.variants import world_of
from reid_synthpeople.world import Shot, World, WorldSettings

SIZE = (64, 32)
STREET = world_of("street", 5)
SHOTS = [Shot(pid, 0, 3 * pid % 24, number) for pid in range(12) for number in range(2)]


@cache
def scenes(*factors: str) -> list[Scene]:
    own = Scenes(world_of("street", 5, factors))
    return [own.scene(shot) for shot in SHOTS]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return World(STREET, SIZE).render(SHOTS)


def test_the_street_has_all_factors_and_other_variants_none() -> None:
    assert STREET.factors == FACTORS
    assert world_of("market", 5).factors == ()
    assert world_of("market", 5, ["lens", "colour"]).factors == ("colour", "lens")
    assert (STREET.wardrobe, STREET.styles) == (0.6, 60)
    assert world_of("street", 5, []).styles == world_of("market", 5).styles


def moved(scene: Scene, plain: Scene) -> set[str]:
    """Return what of a scene is another than without factors, by names of factors."""
    camera, other = scene.camera, plain.camera
    view, seen = scene.view, plain.view
    cut, worn = scene.outfit.cut, plain.outfit.cut
    effects, lens = camera.effects, view.effects
    assert effects is not None
    assert lens is not None
    changes = {
        "viewpoint": camera.pitch != other.pitch,
        "colour": bool((camera.gain != other.gain).any()) or bool((lens.drift != 1).any()),
        "light": camera.sun != other.sun,
        "lens": camera.blur != other.blur,
        "sensor": lens.quality is not None,
        "crops": view.scale != seen.scale,
        "cloth": scene.outfit.drape > 0,
        "prints": scene.outfit.prints is not None,
        "layers": scene.outfit.hem != plain.outfit.hem or cut.skirt_length != worn.skirt_length,
        "bags": cut.bag_size != worn.bag_size,
        "hair": scene.person.hair != plain.person.hair,
        "ground": effects.ground,
    }
    return {name for name, differs in changes.items() if differs}


@pytest.mark.parametrize("factor", [name for name in FACTORS if name != "wardrobe"])
def test_a_factor_moves_what_is_its_own(factor: str) -> None:
    found = set()
    for scene, plain in zip(scenes(factor), scenes(), strict=True):
        found |= moved(scene, plain) if scene.camera.effects else set()
        assert plain.camera.effects is plain.view.effects is None
    assert found == {factor}


@pytest.mark.parametrize("factor", FACTORS)
def test_leaving_a_factor_out_changes_nothing_of_the_others(factor: str) -> None:
    """What two worlds share is drawn the same, so that a difference is that factor's."""
    kept = [name for name in FACTORS if name not in (factor, "wardrobe")]
    everything = [name for name in FACTORS if name != "wardrobe"]
    for scene, whole in zip(scenes(*kept), scenes(*everything), strict=True):
        for name, of in {
            "prints": lambda s: s.outfit.prints and s.outfit.prints.seed,
            "cloth": lambda s: s.outfit.drape,
            "sensor": lambda s: s.view.effects.quality,
            "lens": lambda s: (s.camera.blur, s.view.effects.motion),
            "viewpoint": lambda s: s.camera.pitch,
            "colour": lambda s: s.camera.gain.tolist(),
            "crops": lambda s: s.view.scale,
            "hair": lambda s: s.person.hair,
        }.items():
            if name != factor:
                assert of(scene) == of(whole), name


def test_more_outfits_are_shared_in_a_street() -> None:
    def kinds(*factors: str) -> int:
        own = Scenes(replace(world_of("market", 5), wardrobe=0.0, factors=factors))
        return len({_kind(own.outfit(pid, 0)) for pid in range(60)})

    def _kind(outfit: Outfit) -> tuple[str, str, str, float]:
        return outfit.top, outfit.bottom, outfit.upper.pattern, round(outfit.pattern_scale, 6)

    assert kinds() == 60
    shared = Scenes(world_of("street", 5, ["wardrobe"]))
    assert len({_kind(shared.outfit(pid, 0)) for pid in range(200)}) < 180


def test_pictures_have_their_truth(pictures: list[Picture]) -> None:
    for picture in pictures:
        assert picture.image.shape == (*SIZE, 3)
        assert ((picture.parts > 0) == (picture.garments > 0)).all()
    assert len({picture.image.tobytes() for picture in pictures}) == len(pictures)
    # Photographs: some dark, some light, none empty.
    means = [picture.image.mean() for picture in pictures]
    assert max(means) - min(means) > 60
    assert min(picture.image.std() for picture in pictures) > 4


def test_photographic_factors_leave_the_truth_alone(pictures: list[Picture]) -> None:
    photographic = {"colour", "lens", "sensor", "ground"}
    plain = [name for name in FACTORS if name not in photographic]
    others = World(world_of("street", 5, plain), SIZE).render(SHOTS)
    for one, other in zip(pictures, others, strict=True):
        np.testing.assert_array_equal(one.parts, other.parts)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        assert (one.image != other.image).mean() > 0.5


def test_the_same_pictures_in_any_company_and_on_another_device(pictures: list[Picture]) -> None:
    alone = World(STREET, SIZE).render(SHOTS[3:4])[0]
    assert np.abs(alone.image.astype(int) - pictures[3].image).max() <= 1
    with elsewhere():
        there = World(STREET, SIZE, device=ELSEWHERE).render(SHOTS[:1])[0]
    assert np.abs(there.image.astype(int) - pictures[0].image).max() <= 1


def test_the_sun_casts_the_persons_shadow_on_the_ground() -> None:
    """With the sun from the side, the ground beside the feet is darker; the person is not."""
    settings = replace(world_of("street", 5, ["light"]), bystanders=0.0, p_occlusion=0.0)
    darker = []
    world = World(settings, SIZE)
    for shot in SHOTS:
        scene = world.scene(shot)
        effects = scene.view.effects
        assert effects is not None
        if effects.shadow < 0.3 or effects.dapple:
            continue
        (picture,) = world.render([shot])
        (empty,) = world.render([shot], people=False)
        ground = ~picture.silhouette
        change = empty.image.astype(int).sum(-1) - picture.image.astype(int).sum(-1)
        darker.append((change[ground] > 30).sum())
    assert len(darker) >= 3
    assert np.mean([count > 15 for count in darker]) > 0.6


def test_a_bag_in_the_hand_hangs_below_it() -> None:
    world = World(world_of("street", 5, ["bags"]), SIZE)
    carried = [Shot(pid, 0, 0, 0) for pid in range(60) if world.outfit(pid, 0).cut.hand_bag]
    assert len(carried) > 3
    torso = sum((p.parts == 2).sum() for p in world.render(carried))
    plain = World(world_of("street", 5, []), SIZE)
    without = [plain.outfit(shot.pid, 0) for shot in carried]
    bare = [replace(o, cut=replace(o.cut, backpack=0.0, shoulder_bag=0.0)) for o in without]
    assert torso > sum((p.parts == 2).sum() for p in plain.render(carried, outfits=bare))


def test_prints_lie_on_cloth_alone() -> None:
    """They change colours, and no label."""
    plain = World(world_of("street", 5, []), SIZE)
    printed = World(world_of("street", 5, ["prints"]), SIZE)
    changed = 0
    for pid in range(12):
        one, other = (w._paint(pid, 0) for w in (plain, printed))
        np.testing.assert_array_equal(one[..., 3], other[..., 3])
        differs = (one[..., :3] != other[..., :3]).any(-1)
        assert set(np.unique(one[..., 3][differs])) <= {3, 4}
        changed += bool(differs.any())
    assert changed >= 6


def test_files_have_the_quality_of_their_picture() -> None:
    world, plain = World(STREET, SIZE), World(world_of("market", 5), SIZE)
    assert len({world.quality(shot) for shot in SHOTS}) > 10
    assert {plain.quality(Shot(pid, 0, 2, 0)) for pid in range(9)} == {plain.camera(2).jpeg_quality}


def test_a_frontal_view_is_sharp_and_keeps_the_light() -> None:
    own = Scenes(STREET)
    for shot in SHOTS:
        effects, usual = own.scene(shot, frontal=True).view.effects, own.scene(shot).view.effects
        assert effects is not None
        assert usual is not None
        assert (effects.motion, effects.defocus, effects.coarseness) == (0, 0, 1)
        assert effects.drift.tolist() == usual.drift.tolist()


def test_every_third_person_changes_clothes() -> None:
    plan = plan_of("street", "tiny", 0)
    worn: dict[int, set[int]] = {}
    for entry in plan.entries:
        worn.setdefault(entry.pid, set()).add(entry.shot.outfit)
    assert sum(len(outfits) == 2 for outfits in worn.values()) == 6
    assert plan.entries[0].file.startswith("train/0001_c")


def test_factors_name_a_set_of_their_own(tmp_path: Path) -> None:
    request = DataRequest("synthpeople", "street", "tiny", None, tmp_path)
    usual, chosen, plain = (
        order_of(request, SynthpeopleSettings(**kw))
        for kw in ({}, {"factors": ["lens", "colour", "lens"]}, {"factors": []})
    )
    assert usual.name == "synthpeople/street:tiny"
    assert chosen.name == "synthpeople/street:tiny, factors colour+lens"
    assert plain.name == "synthpeople/street:tiny, factors none"
    assert len({order.folder for order in (usual, chosen, plain)}) == 3
    assert chosen.plan().world.factors == ("colour", "lens")


def test_unknown_factors_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="'colours' is no factor; there are viewpoint"):
        SynthpeopleSettings(factors=["colours"])
    with pytest.raises(ConfigError, match="the factor 'fog' is unknown; there are viewpoint"):
        WorldSettings(factors=("fog",))


def test_a_street_on_disk_is_taken_again(tmp_path: Path) -> None:
    settings = SynthpeopleSettings(factors=["colour", "ground"], workers=1)
    request = DataRequest("synthpeople", "street", "tiny", None, tmp_path)
    with few_people():
        dataset = load_dataset(request, settings)
    world = world_behind(dataset.train.samples[0].path)
    assert world.settings.factors == ("colour", "ground")
    (picture,) = world.render([shot_of(dataset.train.samples[0])])
    stored = np.asarray(Image.open(dataset.train.samples[0].path), int)
    assert np.abs(stored - picture.image).mean() < 12
