"""Masks: representations, and that identities can be felt through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reid_core import Sample
from reid_fsam.extractor import ShapeExtractor
from reid_fsam.masks import PICTURES, as_picture, body_masks, mask_channels
from reid_fsam.parsing import MaskingParser
from reid_fsam.reporting import mask_sheet
from reid_fsam.settings import MaskKind

KINDS: tuple[MaskKind, ...] = ("prob", "parts", "foreground", "palette", "logits")
SIZE = (32, 16)


def logits(seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, 7, 16, 8, generator=random)).requires_grad_(True)


def test_images_stand_upright_above_their_masks(tmp_path: Path) -> None:
    pixels = np.zeros((192, 96, 3), np.uint8)
    pixels[:96] = 255
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "lying.png", exif=turned)
    sheet = mask_sheet([Sample(tmp_path / "lying.png", -1, 0)], {}, tmp_path / "sheet.png")
    with Image.open(sheet) as picture:
        assert np.array_equal(np.asarray(picture)[:192, 70:166], pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_representation_has_its_shape_and_range(kind: MaskKind) -> None:
    mask = body_masks(logits().bfloat16(), kind, SIZE)
    assert mask.shape == (2, mask_channels(kind, 7), *SIZE)
    assert mask.dtype == torch.float32
    if kind != "logits":
        assert mask.min() >= 0
        assert mask.max() <= 1
    if kind == "prob":
        assert torch.allclose(mask.sum(1), torch.ones(2, *SIZE))


def test_probabilities_are_one_softmax_of_resized_logits() -> None:
    given = torch.tensor([2.0, 1.0, 0.0]).view(1, 3, 1, 1)
    expected = [0.66524096, 0.24472847, 0.09003057]
    found = body_masks(given, "prob", (1, 1)).flatten()
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert body_masks(given, "parts", (1, 1)).flatten().tolist() == pytest.approx(expected[1:])
    foreground = body_masks(given, "foreground", (1, 1)).flatten().tolist()
    assert foreground == pytest.approx([1 - expected[0]], abs=1e-6)
    assert body_masks(given, "logits", (1, 1)).flatten().tolist() == [2.0, 1.0, 0.0]
    # Logits are resized, not probabilities: half-way between two sure classes is unsure.
    sides = torch.tensor([[8.0, 0.0], [0.0, 8.0]]).T.view(1, 2, 1, 2)
    assert body_masks(sides, "prob", (1, 3))[0, :, 0, 1].tolist() == pytest.approx([0.5, 0.5])


def test_representations_agree_about_the_person() -> None:
    found = {kind: body_masks(logits(), kind, SIZE) for kind in KINDS}
    assert torch.equal(found["parts"], found["prob"][:, 1:])
    assert torch.allclose(found["foreground"][:, 0], found["parts"].sum(1), atol=1e-6)
    sure = torch.full((1, 7, 4, 4), -50.0)
    sure[:, 1] = 50
    colour = body_masks(sure, "palette", (4, 4))[0, :, 0, 0]
    assert colour.tolist() == pytest.approx([128 / 255, 0, 0])
    assert body_masks(-sure, "palette", (4, 4)).std() > 0


def test_a_picture_is_normalised_like_an_image() -> None:
    grey = torch.full((1, 1, 2, 2), 0.485)
    assert as_picture(grey)[0, 0].abs().max() < 1e-6
    white = as_picture(torch.ones(1, 1, 1, 1)).flatten().tolist()
    assert white == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)
    assert as_picture(grey).shape == (1, 3, 2, 2)


def gradient_through(first: nn.Conv2d, kind: MaskKind) -> float:
    given = logits()
    mask = body_masks(given, kind, SIZE)
    out = first(as_picture(mask) if kind in PICTURES else mask)
    random = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((out * random).sum(), given)
    return float(found.abs().max())


def test_equal_weights_for_all_classes_are_blind() -> None:
    averaged = nn.Conv2d(7, 4, 3, bias=False)
    with torch.no_grad():
        weight = averaged.weight.mean(1, keepdim=True).expand_as(averaged.weight)
        averaged.weight.copy_(weight)
    masks = [body_masks(logits(seed), "prob", SIZE) for seed in (0, 1)]
    assert torch.allclose(averaged(masks[0]), averaged(masks[1]), atol=1e-5)
    assert gradient_through(averaged, "prob") < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_extractor_s_first_layer_is_not(kind: MaskKind) -> None:
    picture = kind in PICTURES
    channels = 3 if picture else mask_channels(kind, 7)
    torch.manual_seed(0)
    extractor = ShapeExtractor("resnet10t", (64, 32), channels, picture=picture)
    first = next(m for m in extractor.stem.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == channels
    assert gradient_through(first, kind) > 0.01


def test_live_and_frozen_parser_begin_as_the_same_function() -> None:
    torch.manual_seed(0)
    live = MaskingParser("light", 8, "prob", SIZE, fixed_norms=True)
    image = torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        frozen = live.eval()(image)
        assert torch.equal(live.train()(image), frozen), "with fixed norms and without dropout"
        batchwise = MaskingParser("light", 8, "prob", SIZE)
        batchwise.load_state_dict(live.state_dict())
        assert not torch.equal(batchwise.train()(image), frozen)


def test_a_parser_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def dropping(architecture: str, classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, classes, 1), nn.Dropout2d(0.5))

    monkeypatch.setattr("reid_fsam.parsing.build_parser", dropping)
    parser = MaskingParser("light", 8, "prob", SIZE).train()
    assert [m.p for m in parser.modules() if isinstance(m, nn.Dropout2d)] == [0.0]


def test_a_parser_may_see_images_of_another_size() -> None:
    torch.manual_seed(0)
    parser = MaskingParser("light", 8, "prob", SIZE, input_size=(64, 32)).eval()
    image = torch.randn(1, 3, 32, 16)
    with torch.no_grad():
        assert parser.logits(image).shape[2:] == (32, 16)
        assert parser(image).shape[2:] == SIZE
