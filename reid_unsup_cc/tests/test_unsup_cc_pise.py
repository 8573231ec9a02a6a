"""PISE: published sizes, region codes and their exchange, region-wise normalisation, what stays."""

import math

import pytest
import torch
from torch import nn

from reid_core.contract.fields import GARMENT_CLASSES
from reid_unsup_cc.dressing import CLOTHING
from reid_unsup_cc.pise import PISE, changed, one_hot, padded
from reid_unsup_cc.pise_blocks import (
    Codes,
    MapEncoder,
    RegionFusion,
    exchange,
    normalise_regions,
    region_means,
)

CLASSES = len(GARMENT_CLASSES)
HAT, HAIR, UPPER, LOWER, SKIN, FACE, SHOES = range(1, CLASSES)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def published() -> PISE:
    network = PISE(64, norm="instance", keep=False, flat=False)
    # It reads maps of 18 joints beside the garments of both poses and the image.
    network.structure = MapEncoder(2 * CLASSES + 18 + 3, 64, "instance", gated=True)
    return network


@pytest.fixture(scope="module")
def network() -> PISE:
    torch.manual_seed(0)
    return PISE(2).eval()


def people(rows: int = 3, size: tuple[int, int] = (64, 32)) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images of hair, face, clothes and shoes, one below the other."""
    stripes = torch.tensor([0, HAIR, FACE, UPPER, UPPER, LOWER, LOWER, SHOES])
    garments = stripes.repeat_interleave(size[0] // 8)[None, :, None].repeat(rows, 1, size[1])
    garments[:, :, : size[1] // 4] = 0
    return torch.rand(rows, 3, *size), garments


# The published model ---------------------------------------------------------------------------


def test_every_part_has_the_published_number_of_parameters(published: PISE) -> None:
    parts = {
        "style": 8_157_702,
        "structure": 10_521_930,
        "fusion": 1_707_010,
        "refine": 1_181_184,
        "decoder": 1_848_515,
    }
    assert {name: count(module) for name, module in published.named_children()} == parts
    assert count(published) == 23_416_341


def test_what_differs_from_the_published_model_has_no_parameters(published: PISE) -> None:
    ours = PISE(64, norm="sample", keep=True, flat=True)
    ours.structure = published.structure
    assert count(ours) == count(published)
    assert count(PISE(64)) == 23_379_441, "without joints, as in the paper's recipes"


def test_the_published_model_s_shapes() -> None:
    images, garments = people(1, (256, 256))
    network = PISE(64, norm="instance", keep=False, flat=False)
    with torch.inference_mode():
        codes = network.codes(images, garments)
        assert (codes.rows.shape, codes.present.shape) == ((1, 9, 256), (1, 8))
        painted = network.paint(images, garments, codes)
    assert painted.shape == (1, 3, 256, 256)
    assert 0 <= painted.min() < painted.max() <= 1


# Codes -----------------------------------------------------------------------------------------


def test_codes_are_the_means_over_regions_and_over_the_image() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [5.0, 11.0]], [[0.0, 2.0], [4.0, 10.0]]]])
    labels = torch.tensor([[[UPPER, UPPER], [LOWER, UPPER]]])
    codes = region_means(maps, one_hot(labels))
    assert codes.rows.shape == (1, CLASSES + 1, 2)
    assert codes.rows[0, UPPER].tolist() == [5.0, 4.0]
    assert codes.rows[0, LOWER].tolist() == [5.0, 4.0]
    assert codes.rows[0, -1].tolist() == [5.0, 4.0]
    assert codes.present[0].nonzero()[:, 0].tolist() == [UPPER, LOWER]
    assert codes.rows[0, SHOES].tolist() == [0.0, 0.0]


def test_a_missing_region_is_painted_after_the_whole_image() -> None:
    rows = torch.arange(9.0)[None, :, None]
    present = torch.ones(1, 8, dtype=torch.bool)
    present[0, [HAT, SHOES]] = False
    used = Codes(rows, present).used()[0, :, 0]
    assert used.tolist() == [0, 8, 2, 3, 4, 5, 6, 8]


def test_clothing_is_exchanged_for_every_image_of_a_batch() -> None:
    own = Codes(torch.zeros(2, 9, 1), torch.ones(2, 8, dtype=torch.bool))
    own.present[:, SHOES] = False
    other = Codes(
        torch.stack([torch.full((9, 1), 1.0), torch.full((9, 1), 2.0)]),
        torch.ones(2, 8, dtype=torch.bool),
    )
    other.present[1, LOWER] = False
    found = exchange(own, other, CLOTHING)
    wanted = torch.zeros(2, 9)
    wanted[0, [UPPER, LOWER, SHOES]] = 1
    # The second template shows no lower clothes: the person's own stay.
    wanted[1, [UPPER, SHOES]] = 2
    assert torch.equal(found.rows[..., 0], wanted)
    assert found.present.all()
    assert torch.equal(own.rows, torch.zeros(2, 9, 1))


def test_hair_face_and_background_are_never_exchanged() -> None:
    assert [GARMENT_CLASSES[kind] for kind in CLOTHING] == ["upper", "lower", "shoes"]


def test_codes_end_with_the_mean_colour_of_their_region(network: PISE) -> None:
    images, garments = people()
    codes = network.codes(images, garments)
    assert codes.rows.shape == (3, CLASSES + 1, 4 * 2 + 3)
    upper = images[1][:, garments[1] == UPPER].mean(1)
    torch.testing.assert_close(codes.rows[1, UPPER, -3:], 2 * upper - 1)
    torch.testing.assert_close(codes.rows[1, -1, -3:], 2 * images[1].mean((1, 2)) - 1)


@torch.no_grad()
def test_painting_begins_with_the_template_s_mean_colours() -> None:
    torch.manual_seed(0)
    images, garments = people()
    templates, worn = people()
    templates[:, 1] *= 0.3
    found = {flat: PISE(8, flat=flat)(images, garments, templates, worn) for flat in (True, False)}
    error = {}
    for flat, made in found.items():
        off = [
            (made[row][:, garments[row] == UPPER].mean(1) - wanted).abs().mean()
            for row in range(3)
            for wanted in [templates[row][:, worn[row] == UPPER].mean(1)]
        ]
        error[flat] = torch.stack(off).mean().item()
    assert error[True] < 0.05 < error[False]


# Region-wise normalisation ---------------------------------------------------------------------


def test_each_channel_is_normalised_within_each_region() -> None:
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (2, 12, 8))
    maps = torch.randn(2, 4, 12, 8) * 5 + 3
    found = normalise_regions(maps, one_hot(labels))
    for row in range(2):
        for kind in range(3):
            inside = found[row][:, labels[row] == kind]
            torch.testing.assert_close(inside.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
            torch.testing.assert_close(inside.std(1, correction=0), torch.ones(4))


def test_what_a_region_looked_like_is_gone_and_others_do_not_see_it() -> None:
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (1, 12, 8))
    maps = torch.randn(1, 4, 12, 8)
    regions = one_hot(labels)
    repainted = torch.where(regions[:, 2:3], 3 * maps + 7, maps)
    before, after = (normalise_regions(m, regions) for m in (maps, repainted))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


def test_the_fusion_paints_codes_where_their_regions_are() -> None:
    torch.manual_seed(0)
    fusion = RegionFusion(4, CLASSES)
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :, 4:] = UPPER
    maps, codes = torch.randn(1, 4, 8, 8), torch.randn(1, CLASSES, 4)
    other = codes.clone()
    other[:, UPPER] += 1
    absent = codes.clone()
    absent[:, LOWER] += 1
    first, second, third = (fusion(maps, code, one_hot(labels)) for code in (codes, other, absent))
    assert torch.equal(first, third)
    moved = (first - second).abs().amax((0, 1, 2)) > 0
    # The 3x3 convolutions of scale and shift see one column beyond.
    assert moved.tolist() == [False] * 3 + [True] * 5


def test_scale_and_shift_are_blended_with_the_channel_s_own() -> None:
    fusion = RegionFusion(2, CLASSES)
    with torch.no_grad():
        for layer, bias in ((fusion.scale, 0.5), (fusion.shift, 0.25)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        fusion.own.weight.fill_(3.0)
        fusion.own.bias.fill_(-1.0)
        fusion.blend_scale.fill_(math.log(3))  # three quarters are the codes'
        fusion.blend_shift.fill_(-math.log(3))  # one quarter
        maps, regions = torch.randn(1, 2, 8, 8), one_hot(torch.zeros(1, 8, 8, dtype=torch.long))
        found = fusion(maps, torch.randn(1, CLASSES, 2), regions)
        moved = fusion.own(torch.full((1, 2, 1, 1), 2.0))
    scale, shift = 0.75 * (1 + 0.5) + 0.25 * 3, 0.25 * 0.25 + 0.75 * -1
    torch.testing.assert_close(found, scale * normalise_regions(maps, regions) + shift)
    assert moved.flatten().tolist() == [5.0, 5.0]


# Dressing --------------------------------------------------------------------------------------


def test_only_exchanged_clothing_is_repainted(network: PISE) -> None:
    images, garments = people()
    templates, worn = people()
    worn = torch.where(worn == SHOES, 0, worn)
    found = network(images, garments, templates, worn)
    repainted = (garments == UPPER) | (garments == LOWER)
    same = (found == images).all(1)
    assert same[~repainted].all()
    assert not same[repainted].any()
    template = network.codes(templates, worn)
    assert torch.equal(changed(garments, template), repainted)


def test_without_keeping_the_whole_image_is_painted() -> None:
    torch.manual_seed(0)
    images, garments = people()
    found = PISE(2, keep=False)(images, garments, *people())
    assert not (found == images).all(1).any()
    assert 0 <= found.min() < found.max() <= 1


def test_the_template_decides_and_only_for_its_own_row(network: PISE) -> None:
    images, garments = people()
    templates, worn = people()
    found = network(images, garments, templates, worn)
    other = templates.clone()
    other[1] = 1 - other[1]
    moved = (found - network(images, garments, other, worn)).abs().amax((1, 2, 3))
    assert (moved > 0).tolist() == [False, True, False]


def test_a_row_does_not_depend_on_its_company(network: PISE) -> None:
    batch = (*people(), *people())
    together = network(*batch)
    alone = torch.cat([network(*(t[row : row + 1] for t in batch)) for row in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_own_clothing_leaves_the_codes_as_they_are(network: PISE) -> None:
    codes = network.codes(*people())
    again = exchange(codes, codes, CLOTHING)
    assert torch.equal(codes.rows, again.rows)
    assert torch.equal(codes.present, again.present)


@pytest.mark.parametrize("size", [(50, 37), (64, 32), (17, 16)])
def test_images_of_any_size(network: PISE, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    garments = torch.randint(0, CLASSES, (2, *size))
    assert network(images, garments, images.flip(0), garments.flip(0)).shape == (2, 3, *size)


def test_padding_repeats_pixels_and_adds_background() -> None:
    images, garments = torch.rand(1, 3, 20, 16), torch.full((1, 20, 16), UPPER)
    larger, labels = padded(images, garments)
    assert (larger.shape, labels.shape) == ((1, 3, 32, 16), (1, 32, 16))
    assert torch.equal(larger[:, :, 20:], images[:, :, -1:].expand(1, 3, 12, 16))
    assert (labels[:, 20:] == 0).all()
    assert (labels[:, :20] == UPPER).all()


def test_colours_survive_unless_instances_are_normalised() -> None:
    """Statistics of an image's single channels would remove the light of the scene."""
    torch.manual_seed(0)
    garments = people(1)[1]
    darker = {}
    for norm in ("sample", "instance"):
        network = PISE(4, norm=norm, flat=False)
        images = 0.6 + 0.4 * torch.rand(1, 3, 64, 32)
        bright, dark = network.codes(images, garments), network.codes(images - 0.5, garments)
        darker[norm] = (bright.rows - dark.rows).abs().mean() / bright.rows.abs().mean()
    assert darker["sample"] > 10 * darker["instance"]
