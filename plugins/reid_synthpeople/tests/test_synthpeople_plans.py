"""Plans: who is in which split, in what clothes, before which camera."""

from collections import defaultdict

import pytest

from reid_synthpeople.names import CROPS, PAIRS, REDRESSED, SIZES, VARIANTS
from reid_synthpeople.people import Range
from reid_synthpeople.plans import CHUNK, Plan, plan_of
from reid_synthpeople.scenes import Scenes
from reid_synthpeople.settings import WorldSettings
from reid_synthpeople.variants import world_of

FEW = {"mixed": 80, "tracks": 50, "tracklets": 50}
"""Variants of fewer than 200 people to train on in ``quick``."""

EVERYTHING = [(name, size) for name in (*VARIANTS, PAIRS, CROPS, REDRESSED) for size in SIZES]


@pytest.fixture(scope="module")
def plans() -> dict[tuple[str, str], Plan]:
    return {key: plan_of(*key, seed=0) for key in EVERYTHING}


@pytest.mark.parametrize("key", EVERYTHING)
def test_no_file_and_no_scene_comes_twice(
    key: tuple[str, str], plans: dict[tuple[str, str], Plan]
) -> None:
    entries = plans[key].entries
    assert len({entry.file for entry in entries}) == len(entries)
    # Not even in another outfit: pose and backdrop would give the identity away.
    moments = {
        (e.shot.pid, e.shot.camid, e.shot.number, getattr(e.shot, "frame", 0)) for e in entries
    }
    assert len(moments) == len(entries)
    cameras = plans[key].world.cameras
    assert {e.shot.camid for e in entries} <= set(range(cameras))


@pytest.mark.parametrize("variant", [*VARIANTS, PAIRS, CROPS, REDRESSED])
def test_the_seed_decides(variant: str) -> None:
    assert plan_of(variant, "tiny", 3) == plan_of(variant, "tiny", 3)
    assert plan_of(variant, "tiny", 3).world != plan_of(variant, "tiny", 4).world


@pytest.mark.parametrize("variant", ["mixed", "market", "ltcc"])
def test_what_is_drawn_depends_on_the_seed(variant: str) -> None:
    assert plan_of(variant, "tiny", 3).entries != plan_of(variant, "tiny", 4).entries


def test_nobody_is_in_training_and_in_test(plans: dict[tuple[str, str], Plan]) -> None:
    for variant in VARIANTS:
        people: dict[bool, set[int]] = {True: set(), False: set()}
        for entry in plans[variant, "quick"].entries:
            people[entry.split in ("train", "val")].add(entry.shot.pid)
        assert not people[True] & people[False], variant
        # The demonstration's has fewer, so that minutes of training show, and one many of each.
        assert len(people[True]) >= FEW.get(variant, 200), variant


def test_whoever_is_tested_is_trained_on_nowhere(plans: dict[tuple[str, str], Plan]) -> None:
    """Over all variants, sizes and sources of a seed, for a start learnt on any of them."""
    people: dict[str, set[tuple[int, int]]] = defaultdict(set)
    outfits: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    for plan in plans.values():
        for entry in plan.entries:
            use = "trained" if entry.split in ("train", "val") else "tested"
            people[use].add((plan.world.seed, entry.shot.pid))
            outfits[use].add((plan.world.seed, entry.shot.pid, entry.shot.outfit))
    apart = {
        (plan.world.seed, entry.shot.pid)
        for variant, size in EVERYTHING
        for plan in [plan_of(variant, size, 0, pretraining=True)]
        for entry in plan.entries
        if entry.split in ("train", "val")
    }
    assert len(people["trained"]) > 1000
    assert len(people["tested"]) > 1000
    assert not people["trained"] & people["tested"]
    assert not apart & (people["trained"] | people["tested"])


def test_templates_of_clothes_are_shared_within_a_range_alone() -> None:
    scenes = Scenes(WorldSettings(seed=4, wardrobe=1.0, styles=2))

    def kinds(where: Range) -> set[tuple[str, str, str]]:
        outfits = [scenes.outfit(where.number(index), 0) for index in range(40)]
        return {(o.top, o.upper.pattern, o.lower.pattern) for o in outfits}

    # Two styles for either sex.
    assert len(kinds(Range.TRAINING)) <= 4
    assert len(kinds(Range.TEST)) <= 4
    assert kinds(Range.TRAINING) != kinds(Range.TEST)


def test_the_largest_size_is_that_of_market(plans: dict[tuple[str, str], Plan]) -> None:
    for variant in VARIANTS:
        assert 31_000 <= len(plans[variant, "full"]) <= 34_000, variant
        assert len(plans[variant, "tiny"]) <= 240, variant


def test_clothes_are_numbered_over_all_people(plans: dict[tuple[str, str], Plan]) -> None:
    for variant in VARIANTS:
        worn = {
            (e.shot.pid, e.shot.outfit, e.clothes)
            for e in plans[variant, "tiny"].entries
            if e.clothes >= 0
        }
        assert sorted(number for *_, number in worn) == list(range(len(worn))), variant


def test_chunks_hold_every_entry_once_and_never_mix_scenes_with_people(
    plans: dict[tuple[str, str], Plan],
) -> None:
    plan = plans["market", "quick"]
    chunks = plan.chunks()
    assert sorted(e.file for c in chunks for e in c) == sorted(e.file for e in plan.entries)
    assert max(map(len, chunks)) == CHUNK
    assert all(len({entry.person for entry in chunk}) == 1 for chunk in chunks)
    assert {chunk[0].person for chunk in chunks} == {True, False}


def _matches(plan: Plan) -> list[tuple[int, int, int]]:
    """Return, per query, how many gallery images of the person come from another camera: all, in
    the same clothes, in others."""
    gallery = defaultdict(list)
    for entry in plan.entries:
        if entry.split == "gallery":
            gallery[entry.pid].append(entry)
    found = []
    for query in (e for e in plan.entries if e.split == "query"):
        own = [e for e in gallery[query.pid] if e.shot.camid != query.shot.camid]
        same = sum(e.clothes == query.clothes for e in own)
        found.append((len(own), same, len(own) - same))
    return found


@pytest.mark.parametrize("size", SIZES)
def test_mixed_every_query_is_answered_in_the_same_and_in_other_clothes(
    size: str, plans: dict[tuple[str, str], Plan]
) -> None:
    matches = _matches(plans["mixed", size])
    assert matches
    assert min(same for _, same, _ in matches) > 0
    assert min(other for *_, other in matches) > 0


@pytest.mark.parametrize("size", SIZES)
def test_market_has_one_outfit_each_distractors_and_junk(
    size: str, plans: dict[tuple[str, str], Plan]
) -> None:
    plan = plans["market", size]
    matches = _matches(plan)
    assert min(every for every, *_ in matches) > 0
    assert {other for *_, other in matches} == {0}
    junk = [e for e in plan.entries if e.pid == -1]
    strangers = [e for e in plan.entries if e.pid == 0]
    assert len(junk) == len(strangers) > 0
    assert {e.split for e in (*junk, *strangers)} == {"gallery"}
    assert not any(e.person for e in junk)
    assert all(e.person for e in strangers)
    searched = {e.shot.pid for e in plan.entries if e.pid > 0}
    assert not searched & {e.shot.pid for e in strangers}
    asks = [(e.pid, e.shot.camid) for e in plan.entries if e.split == "query"]
    assert len(asks) == len(set(asks))


@pytest.mark.parametrize("size", SIZES)
def test_prcc_asks_from_b_and_c_for_what_a_has_seen(
    size: str, plans: dict[tuple[str, str], Plan]
) -> None:
    plan = plans["prcc", size]
    for entry in plan.entries:
        assert entry.shot.outfit == (1 if entry.shot.camid == 2 else 0)
        if entry.split in ("query", "gallery"):
            assert (entry.split == "gallery") == (entry.shot.camid == 0)
    people = {
        split: {e.pid for e in plan.entries if e.split == split}
        for split in ("train", "val", "query", "gallery")
    }
    assert people["query"] == people["gallery"]
    assert people["val"] == people["train"]


@pytest.mark.parametrize("size", SIZES)
def test_ltcc_a_third_never_changes_and_the_lists_say_who(
    size: str, plans: dict[tuple[str, str], Plan]
) -> None:
    plan = plans["ltcc", size]
    outfits = defaultdict(set)
    for entry in plan.entries:
        outfits["train" if entry.split == "train" else "test", entry.pid].add(entry.clothes)
    for split in ("train", "test"):
        listed = {
            kind: plan.texts[f"LTCC_ReID/info/cloth-{kind}_id_{split}.txt"].split()
            for kind in ("change", "unchange")
        }
        worn = {pid: len(own) for (where, pid), own in outfits.items() if where == split}
        assert [int(pid) for pid in listed["change"]] == [p for p, n in worn.items() if n > 1]
        assert [int(pid) for pid in listed["unchange"]] == [p for p, n in worn.items() if n == 1]
        assert len(listed["unchange"]) * 3 == pytest.approx(len(worn), abs=2)
    for (every, same, other), query in zip(
        _matches(plan), (e for e in plan.entries if e.split == "query"), strict=True
    ):
        assert every >= same > 0
        assert (other > 0) == (len(outfits["test", query.pid]) > 1)


@pytest.mark.parametrize("size", SIZES)
def test_vcclothes_cameras_2_and_3_see_one_outfit_and_4_another(
    size: str, plans: dict[tuple[str, str], Plan]
) -> None:
    plan = plans["vcclothes", size]
    worn = defaultdict(set)
    for entry in plan.entries:
        worn[entry.pid, entry.shot.camid].add(entry.clothes)
    for pid in {entry.pid for entry in plan.entries}:
        first, second, third, fourth = (worn[pid, camid] for camid in range(4))
        assert second == third
        assert len(first | second | fourth) == 3


def test_sources_show_other_people_before_other_cameras() -> None:
    seeds = [world_of(name, seed=5).seed for name in ("mixed", PAIRS, CROPS, REDRESSED)]
    assert len(set(seeds)) == 4
    # The largest seed that a user can give stays within 32 bits.
    for name in (PAIRS, CROPS, REDRESSED):
        assert world_of(name, seed=(1 << 30) - 1).seed < 1 << 32


def test_sources_carry_what_they_are_for(plans: dict[tuple[str, str], Plan]) -> None:
    pairs, crops = plans[PAIRS, "tiny"], plans[CROPS, "tiny"]
    assert (pairs.textures, pairs.fields) == (True, ())
    assert (crops.textures, crops.fields) == (False, ("parts", "garments", "keypoints"))
    assert {e.split for e in (*pairs.entries, *crops.entries)} == {"train"}
    # SAN's set of synthetic pairs: 929 textures, each in ten poses.
    full = plans[PAIRS, "full"]
    assert (len(full), len({e.clothes for e in full.entries})) == (9290, 929)


@pytest.mark.parametrize("size", SIZES)
def test_templates_show_others_and_differ_within_a_person(
    size: str, plans: dict[tuple[str, str], Plan]
) -> None:
    plan = plans[REDRESSED, size]
    lent = defaultdict(set)
    for entry in plan.entries:
        lent[entry.shot.pid].add(entry.template.shot.pid)
    assert not any(person in others for person, others in lent.items())
    assert all(len(others) > 1 for others in lent.values())
    assert len({entry.template.file for entry in plan.entries}) == len(plan)
    assert all(entry.template is None for entry in plans[CROPS, size].entries)
