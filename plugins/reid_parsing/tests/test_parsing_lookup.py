import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.errors import ConfigError, DataError
from reid_parsing import (
    GRANULARITIES,
    GRANULARITY_CLASSES,
    LABEL_SETS,
    coarser_parts,
    lookup_table,
    mirrored_logits,
)
from reid_parsing.lookup import TABLES, fields_of, look_up

DENSEPOSE = (0, 2, 4, 4, 7, 7, 5, 5, 6, 6, 3, 3, 4, 4, 1)


def test_densepose_becomes_seven_parts():
    assert lookup_table("densepose", "parts") == DENSEPOSE
    names = SHARED_FIELDS["parts"].classes
    for source, part in zip(LABEL_SETS["densepose"].classes, DENSEPOSE, strict=True):
        last = source.split()[-1]
        expected = {"hand": "lower arm"}.get(last, last)
        assert names[part].endswith(expected)


WORDS = {
    "lip": {
        "parts": (
            "background, head, head, lower arm, head, torso, torso, torso, foot, upper leg, torso, "
            "torso, upper leg, head, lower arm, lower arm, lower leg, lower leg, foot, foot"
        ),
        "garments": (
            "background, hat, hair, skin, face, upper, upper, upper, shoes, lower, upper, upper, "
            "lower, face, skin, skin, skin, skin, shoes, shoes"
        ),
    },
    "atr": {
        "parts": (
            "background, head, head, head, torso, upper leg, upper leg, torso, upper leg, foot, "
            "foot, head, lower leg, lower leg, lower arm, lower arm, background, torso"
        ),
        "garments": (
            "background, hat, hair, face, upper, lower, lower, upper, lower, shoes, shoes, face, "
            "skin, skin, skin, skin, background, upper"
        ),
    },
}
"""What the README says of both label sets: bare skin, sleeves, trousers and skirts, bags, belts."""


@pytest.mark.parametrize("source", WORDS)
@pytest.mark.parametrize("target", ["parts", "garments"])
def test_clothes_and_skin_become_what_the_readme_says(source, target):
    names = SHARED_FIELDS[target].classes
    found = ", ".join(names[label] for label in lookup_table(source, target))
    assert found == WORDS[source][target]


def test_classes_are_replaced_all_at_once():
    """One class after the other in place, torso, hands and feet would end as upper legs."""
    every = np.arange(15, dtype=np.uint8)
    assert look_up(every, DENSEPOSE, "map").tolist() == list(DENSEPOSE)
    in_place = every.copy()
    for source, part in enumerate(DENSEPOSE):
        in_place[in_place == source] = part
    assert in_place.tolist() == [0, 5, 5, 5, 5, 5, 5, 5, 6, 6, 3, 3, 4, 4, 1]
    assert every.tolist() == list(range(15))


def test_every_table_covers_its_classes_and_stays_within_the_field():
    for (source, target), table in TABLES.items():
        assert len(table) == len(LABEL_SETS[source])
        assert max(table) < len(SHARED_FIELDS[target].classes)
        assert table[0] == 0
        # Left and right mean the same in fields that do not tell them apart.
        assert [table[of] for of in LABEL_SETS[source].mirrored] == list(table)


@pytest.mark.parametrize(
    ("source", "count", "fields"),
    [
        ("densepose", 15, ("parts",)),
        ("pascal", 7, ("parts",)),
        ("lip", 20, ("parts", "garments")),
        ("atr", 18, ("parts", "garments")),
    ],
)
def test_label_sets_have_the_published_number_of_classes(source, count, fields):
    assert len(LABEL_SETS[source]) == count
    assert fields_of(source) == fields


def test_a_table_that_would_make_things_up_is_refused():
    with pytest.raises(ConfigError, match=r"'pascal' say nothing about 'garments': .* parts"):
        lookup_table("pascal", "garments")
    with pytest.raises(ConfigError, match="no label set 'lipp'; did you mean 'lip'"):
        lookup_table("lipp", "parts")


def test_a_label_outside_the_table_names_the_file():
    with pytest.raises(DataError, match=r"a\.png: label 15 in a label set of 15 classes"):
        look_up(np.array([[15]], np.uint8), DENSEPOSE, "a.png")


def test_granularities_are_those_of_the_paper():
    head, torso, upper_arm, lower_arm, upper_leg, lower_leg, foot = range(1, 8)
    four = GRANULARITIES["four"]
    assert four[torso] == four[upper_arm] == four[lower_arm]
    assert four[lower_leg] == four[foot]
    assert len({four[head], four[torso], four[upper_leg], four[foot]}) == 4
    two = GRANULARITIES["two"]
    assert {two[p] for p in (head, torso, upper_arm, lower_arm)} == {1}
    assert {two[p] for p in (upper_leg, lower_leg, foot)} == {2}
    for name, table in GRANULARITIES.items():
        assert coarser_parts(torch.arange(8), name).tolist() == list(table)
    sizes = {name: len(set(table)) for name, table in GRANULARITIES.items()}
    assert sizes == {"foreground": 2, "two": 3, "four": 5, "seven": 8}
    assert sizes == {name: len(classes) for name, classes in GRANULARITY_CLASSES.items()}


@given(st.sampled_from(sorted(GRANULARITIES)), st.integers(0, 2**32 - 1))
def test_mirroring_and_coarsening_commute(granularity, seed):
    parts = torch.from_numpy(np.random.default_rng(seed).integers(0, 8, (2, 5, 4), np.uint8))
    coarse = coarser_parts(parts, granularity)
    assert coarse.dtype == torch.int64
    assert torch.equal(coarse.flip(2), coarser_parts(parts.flip(2), granularity))


def test_mirrored_logits_swap_left_and_right():
    atr = LABEL_SETS["atr"]
    logits = torch.zeros(1, len(atr), 1, 2)
    left, right = atr.classes.index("left shoe"), atr.classes.index("right shoe")
    logits[0, left, 0, 0] = 5.0
    found = mirrored_logits(logits, atr)
    assert found[0, right, 0, 1] == 5.0
    assert found.sum() == 5.0
    parts = torch.randn(1, 8, 3, 4)
    assert torch.equal(mirrored_logits(parts, LABEL_SETS["parts"]), parts.flip(3))
