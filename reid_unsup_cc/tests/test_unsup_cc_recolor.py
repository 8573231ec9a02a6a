"""`recolor`: colours and patterns of templates, light and shade of the person."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kornia.color import rgb_to_lab
from torch import Tensor

from reid_core.contract.fields import GARMENT_CLASSES
from reid_unsup_cc.dressing import CLOTHING
from reid_unsup_cc.recolor import Recolor

UPPER, LOWER, SHOES = CLOTHING
HAIR, SKIN = GARMENT_CLASSES.index("hair"), GARMENT_CLASSES.index("skin")
RED, GREEN, BLUE = (0.7, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.7)


def dressed_in(*colours: tuple[float, float, float], width: int = 12) -> tuple[Tensor, Tensor]:
    """Return a figure of three blocks above one another, as image and garment map."""
    image, garments = torch.full((1, 3, 48, 24), 0.5), torch.zeros(1, 48, 24, dtype=torch.int64)
    columns = slice(12 - width // 2, 12 + width // 2)
    for place, (kind, colour) in enumerate(zip((UPPER, LOWER), colours, strict=True)):
        rows = slice(8 + 16 * place, 24 + 16 * place)
        garments[0, rows, columns] = kind
        image[0, :, rows, columns] = torch.tensor(colour)[:, None, None]
    garments[0, 2:8, 8:16] = HAIR
    garments[0, 40:46, 8:16] = SKIN
    return image, garments


def mean_of(image: Tensor, garments: Tensor, kind: int) -> list[float]:
    return image[0][:, garments[0] == kind].mean(1).tolist()


def test_regions_take_the_colours_of_the_template_s() -> None:
    person, template = dressed_in(RED, GREEN), dressed_in(BLUE, RED, width=16)
    made = Recolor()(*person, *template)
    assert mean_of(made, person[1], UPPER) == pytest.approx(BLUE, abs=0.01)
    assert mean_of(made, person[1], LOWER) == pytest.approx(RED, abs=0.01)


def test_nothing_else_changes_by_a_bit() -> None:
    person, template = dressed_in(RED, GREEN), dressed_in(BLUE, RED)
    person[0][:] = torch.rand_like(person[0])
    made = Recolor()(*person, *template)
    other = ~torch.isin(person[1], torch.tensor(CLOTHING))[:, None].expand_as(made)
    assert torch.equal(made[other], person[0][other])


def test_a_person_as_its_own_template_stays_to_the_pixel() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 3, 48, 24))
    images = torch.from_numpy(pixels).float() / 255
    garments = torch.from_numpy(rng.integers(0, len(GARMENT_CLASSES), (2, 48, 24)))
    made = (255 * Recolor()(images, garments, images, garments)).round()
    assert torch.equal(made, torch.from_numpy(pixels).float())


def test_a_region_that_the_template_lacks_keeps_its_look() -> None:
    person, template = dressed_in(RED, GREEN), dressed_in(BLUE, RED)
    template[1][template[1] == LOWER] = 0
    made = Recolor()(*person, *template)
    assert mean_of(made, person[1], LOWER) == pytest.approx(GREEN)
    assert mean_of(made, person[1], UPPER) == pytest.approx(BLUE, abs=0.01)


def test_a_template_without_any_clothing_changes_nothing() -> None:
    person = dressed_in(RED, GREEN)
    bare = torch.rand(1, 3, 48, 24), torch.zeros(1, 48, 24, dtype=torch.int64)
    assert torch.equal(Recolor()(*person, *bare), person[0])


def striped() -> tuple[Tensor, Tensor]:
    template = dressed_in(BLUE, RED, width=16)
    stripes = torch.arange(48) % 8 < 4
    worn = (template[1][0] == UPPER) & stripes[:, None]
    template[0][0][:, worn] = torch.tensor(GREEN)[:, None]
    return template


def test_the_pattern_comes_along_as_much_as_is_asked_for() -> None:
    person = dressed_in(RED, RED)
    spread = []
    for texture in (0.0, 0.5, 1.0):
        made = Recolor(texture, shading=0.0)(*person, *striped())
        lab = rgb_to_lab(made)[0][:, person[1][0] == UPPER]
        spread.append(lab.std(1).sum().item())
    assert spread[0] == pytest.approx(0, abs=0.01)
    assert spread[1] == pytest.approx(spread[2] / 2, rel=0.1)
    assert spread[2] > 20
    rows = made[0, 1, 8:24, 12].diff().abs() > 0.05  # where green and blue meet, every four rows
    assert rows.sum() == 3


def test_light_and_shade_stay_the_person_s() -> None:
    person, template = dressed_in(RED, RED), dressed_in(BLUE, BLUE)
    light = torch.linspace(0.6, 1.4, 24)
    person[0][:] = person[0] * light
    lit = {s: Recolor(shading=s)(*person, *template)[0, :, 16, 7:17] for s in (0.0, 1.0)}
    assert lit[0.0].std(1).max() < 0.02
    assert (lit[1.0].mean(0).diff() > 0).all(), "brighter from left to right, as the person is"


def test_rows_correspond() -> None:
    person, first, second = dressed_in(RED, RED), dressed_in(BLUE, GREEN), dressed_in(GREEN, BLUE)
    both = (torch.cat([a, b]) for a, b in zip(first, second, strict=True))
    made = Recolor()(person[0].expand(2, -1, -1, -1), person[1].expand(2, -1, -1), *both)
    assert torch.allclose(made[:1], Recolor()(*person, *first), atol=1e-6)
    assert torch.allclose(made[1:], Recolor()(*person, *second), atol=1e-6)


def test_a_wider_region_is_covered_without_gaps() -> None:
    person, template = dressed_in(RED, RED, width=20), dressed_in(BLUE, GREEN, width=6)
    made = Recolor(shading=0.0)(*person, *template)
    worn = made[0][:, person[1][0] == UPPER]
    assert torch.allclose(worn, torch.tensor(BLUE)[:, None].expand_as(worn), atol=0.02)
