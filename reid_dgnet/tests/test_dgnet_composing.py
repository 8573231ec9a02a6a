"""Who is composed with whom, and what the generator does with it."""

import pytest
import torch
from dgnet_fill import fill, numbers
from hypothesis import given, strategies as st

from reid_core import Batch
from reid_dgnet.composing import Generator, anchor_rows, partner_rows, positive_rows
from reid_dgnet.networks.decoder import Decoder, ParameterMlps
from reid_dgnet.networks.structure import StructureEncoder
from reid_dgnet.terms import Scene


def test_anchors_are_one_of_everybody_then_a_second_one():
    pid = torch.tensor([4, 4, 4, 7, 7, 2, 2, 2])
    assert anchor_rows(pid, 2).tolist() == [0, 3]
    assert anchor_rows(pid, 4).tolist() == [0, 1, 3, 5]
    assert anchor_rows(pid, 5).tolist() == [0, 1, 3, 5]
    assert sorted(anchor_rows(pid, 16).tolist()) == list(range(8))


@pytest.mark.parametrize("anchors", [2, 6, 16])
@pytest.mark.parametrize("people", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("images", [1, 2, 3, 4, 8])
def test_partners_are_different_people_in_batches_of_p_by_k(people, images, anchors):
    pid = torch.arange(people).flip(0).repeat_interleave(images)
    chosen = anchor_rows(pid, anchors)
    assert len(chosen) == min(anchors, people * images) // 2 * 2
    assert len(set(chosen.tolist())) == len(chosen)
    assert (pid[chosen] != pid[chosen][partner_rows(torch.arange(len(chosen)))]).all()


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=20).filter(lambda pid: len(set(pid)) > 1),
    st.integers(2, 20),
)
def test_partners_are_different_people_however_rows_are_drawn(pid, count):
    labels = torch.tensor(pid)
    chosen = anchor_rows(labels, count)
    assert len(chosen) == min(count, len(pid)) // 2 * 2
    assert (labels[chosen] != labels[partner_rows(chosen)]).all()


def test_who_has_most_of_a_batch_is_composed_with_all_others_in_turn():
    pid = torch.tensor([5, 5, 5, 1, 5, 5, 2, 5])
    assert anchor_rows(pid, 8).tolist() == [0, 1, 2, 4, 3, 3, 3, 6]


def test_pairs_give_one_anchor_for_each_positive():
    pid = torch.tensor([1, 1, 5, 5, 3, 3, 0, 0])
    anchors = anchor_rows(pid, 4)
    assert anchors.tolist() == [0, 2, 4, 6]
    assert positive_rows(pid, anchors).tolist() == [1, 3, 5, 7]


def test_rows_without_identity_are_nobody_s_positive():
    pid = torch.tensor([-1, -1, 3, -1])
    assert anchor_rows(pid, 4).tolist() == [0, 1, 2, 3]
    assert anchor_rows(torch.tensor([-1, 3, 3, -1]), 4).tolist() == [0, 1, 2, 3]
    assert positive_rows(pid, torch.arange(4)).tolist() == [0, 1, 2, 3]


def test_the_only_image_of_a_person_is_its_own_positive():
    pid = torch.tensor([1, 0, 1, 2, 1])
    assert positive_rows(pid, torch.arange(5)).tolist() == [2, 1, 4, 3, 0]


def test_partners_are_the_other_half():
    anchors = torch.tensor([0, 3, 5, 1])
    assert partner_rows(anchors).tolist() == [5, 1, 0, 3]


def scene_and_generator(images, codes):
    count = len(images)
    maps = codes.reshape(count, -1, 4, 1)
    pid = torch.arange(count)
    batch = Batch(images, pid, pid, pid, pid, pid)
    generator = Generator(
        fill(StructureEncoder(1, 1)), fill(Decoder(1, 1)), fill(ParameterMlps(4, 1, 1))
    )
    return Scene.of(batch, count, count, maps), generator


def test_an_image_has_its_anchor_s_appearance_in_its_partner_s_structure():
    images, codes = numbers((4, 3, 48, 40)), numbers((4, 16))
    scene, generator = scene_and_generator(images, codes)
    made = scene.composed(generator)
    structure = generator.encode(images)
    for anchor, partner in ((0, 2), (1, 3), (2, 0), (3, 1)):
        expected = generator.compose(structure[[partner]], codes[[anchor]])
        assert torch.allclose(made[[anchor]], expected, atol=1e-9)


def test_equal_halves_compose_to_their_own_reconstructions():
    half, codes = numbers((2, 3, 48, 40)), numbers((2, 16))
    scene, generator = scene_and_generator(half.repeat(2, 1, 1, 1), codes.repeat(2, 1))
    made = scene.composed(generator)
    own = generator.compose(generator.encode(scene.images), scene.appearance)
    assert torch.allclose(made, own, atol=1e-9)
    assert torch.allclose(made[:2], made[2:], atol=1e-9)


def test_the_frozen_copy_computes_the_same_and_learns_nothing():
    generator = scene_and_generator(numbers((2, 3, 48, 40)), numbers((2, 16)))[1]
    images = numbers((2, 3, 48, 40)).requires_grad_()
    found = generator.encode_frozen(images)
    assert torch.equal(found, generator.encode(images))
    found.square().sum().backward()
    assert images.grad.abs().max() > 0
    assert all(p.grad is None for p in generator.structure.parameters())
