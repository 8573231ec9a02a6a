"""SA-Dec and SA-Enc at the paper's size: parameters, shapes, fingerprints, gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_core import TimmEncoder
from reid_core.model.modes import evaluating
from reid_san.decoder import Decoder, ResidualUp, block_widths

MAPS = ("encoder/map", "encoder/stage3", "encoder/stage2", "encoder/stage1")
CHANNELS = (2048, 1024, 512, 256)
SIZE = (256, 128)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def noise(count: int, offset: int = 0) -> Tensor:
    """The specification's hash of a flat index, in -1 .. 1."""
    j = torch.arange(offset, offset + count, dtype=torch.int64)
    hashed = (7919 * j + 104729 * j * j + 12345) % 1000003
    return 2 * hashed.double() / 1000003 - 1


def fill(module: nn.Module) -> nn.Module:
    """Fill weights by the specification's rule, in float64."""
    module.double()
    with torch.no_grad():
        for part in module.modules():
            norm = isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d)
            for name, value in part.named_parameters(recurse=False):
                if value.dim() >= 2:
                    scale = math.sqrt(6 / math.prod(value.shape[1:]))
                    value.copy_(noise(value.numel()).view_as(value) * scale)
                elif norm:
                    value.fill_(1.0 if name == "weight" else 0.0)
                else:
                    value.copy_(0.01 * torch.cos(torch.arange(value.numel()).double()))
            if norm:
                part.reset_running_stats()
    return module.eval()


def decoder(skips: bool) -> Decoder:
    return Decoder(CHANNELS if skips else CHANNELS[:1], 512, (256, 256))


@pytest.fixture(scope="module")
def encoder() -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder("resnet50", SIZE, last_stride=1)


@pytest.fixture(scope="module")
def maps(encoder: TimmEncoder) -> Mapping[str, Tensor]:
    """The encoder's maps of the specification's input A."""
    filled = fill(encoder)
    with torch.inference_mode():
        found: dict[str, Tensor] = filled(noise(2 * 3 * 256 * 128).view(2, 3, 256, 128))
    return found


def test_the_encoder_has_the_trunk_s_parameters(encoder: TimmEncoder) -> None:
    trunk = encoder.trunk
    assert count(encoder) == 23_508_032
    assert len(list(encoder.parameters())) == 159
    parts = {name: count(getattr(trunk, name)) for name in ("conv1", "bn1", "layer1", "layer2")}
    assert parts == {"conv1": 9_408, "bn1": 128, "layer1": 215_808, "layer2": 1_219_584}
    assert (count(trunk.layer3), count(trunk.layer4)) == (7_098_368, 14_964_736)


def test_the_paper_s_encoder_with_its_classifier(encoder: TimmEncoder) -> None:
    classifier = nn.Linear(2048, 767)
    assert count(encoder) + count(classifier) == 25_079_615


def test_the_encoder_s_taps_have_the_specified_shapes(encoder: TimmEncoder) -> None:
    taps = {tap.name: (tap.channels, tap.stride) for tap in encoder.taps}
    wanted = {"encoder/stage1": (256, 4), "encoder/stage2": (512, 8), "encoder/stage3": (1024, 16)}
    assert wanted.items() <= taps.items()
    assert taps["encoder/map"] == (2048, 16)


@pytest.mark.parametrize(
    ("skips", "whole", "tensors", "extra"),
    [(False, 8_396_835, 38, []), (True, 9_071_075, 50, [525_824, 131_840, 16_576])],
)
def test_the_decoder_has_the_specified_parameters(
    skips: bool, whole: int, tensors: int, extra: list[int]
) -> None:
    found = decoder(skips)
    assert count(found) == whole
    assert len(list(found.parameters())) == tensors
    assert count(found.reduce) == 1_050_112
    assert [count(skip) for skip in found.skips] == extra
    assert [count(block) for block in found.blocks] == [5_900_544, 1_328_192, 92_448, 23_184]
    assert count(found.last) == 2_355


def test_the_decoder_is_about_a_third_of_the_encoder() -> None:
    assert count(decoder(False)) / 23_508_032 == pytest.approx(0.357, abs=5e-4)


def test_widths_shrink_with_smaller_encoders_and_end_no_narrower_than_the_paper_s() -> None:
    assert block_widths(512) == (512, 256, 64, 32, 16)
    assert block_widths(256) == (256, 128, 32, 16, 16)
    assert block_widths(128) == (128, 64, 16, 16, 16), "ResNet-18's"
    assert block_widths(16) == (16, 16, 16, 16, 16)


@pytest.mark.parametrize("skips", [False, True])
def test_the_texture_is_256_x_256_and_the_maps_double(skips: bool) -> None:
    found = decoder(skips).eval()
    inputs = [torch.zeros(1, 2048, 16, 8)]
    if skips:
        inputs += [torch.zeros(1, c, h, h // 2) for c, h in ((1024, 16), (512, 32), (256, 64))]
    with torch.inference_mode():
        image, *blocks = found(*inputs)
    assert image.shape == (1, 3, 256, 256)
    shapes = [tuple(block.shape[1:]) for block in blocks]
    assert shapes == [(256, 32, 16), (64, 64, 32), (32, 128, 64), (16, 256, 128)]


def test_the_stretch_keeps_the_first_and_last_columns() -> None:
    torch.manual_seed(0)
    found = Decoder((8,), 16, (32, 32), gain=1.0).eval()
    plain = Decoder((8,), 16, (32, 16)).eval()
    plain.load_state_dict(found.state_dict())
    feature = torch.randn(1, 8, 2, 1)
    with torch.inference_mode():
        wide, narrow = found(feature)[0], plain(feature)[0]
    assert wide.shape[2:] == (32, 32)
    torch.testing.assert_close(wide[..., 0], narrow[..., 0])
    torch.testing.assert_close(wide[..., -1], narrow[..., -1])
    assert (narrow[..., 0] - narrow[..., 1]).abs().max() > 0.01
    # Corners are aligned: the 32 columns lie evenly between the first and the last of the 16.
    share = 15 / 31
    between = (1 - share) * narrow[..., 0] + share * narrow[..., 1]
    torch.testing.assert_close(wide[..., 1], between)


def test_a_residual_unit_that_adds_nothing_leaves_the_map() -> None:
    block = ResidualUp(4, 4).eval()
    nn.init.zeros_(block.unit[3].weight)
    nn.init.dirac_(block.last[1].weight)
    nn.init.zeros_(block.last[1].bias)
    feature = torch.rand(1, 4, 3, 2)
    with torch.inference_mode():
        found = block(feature)
    torch.testing.assert_close(
        found, nn.functional.interpolate(feature, scale_factor=2, mode="bilinear")
    )


@pytest.mark.parametrize(("gain", "least", "most"), [(0.02, 1e-6, 1e-3), (1.0, 0.02, 2.0)])
def test_the_gain_sets_the_size_of_the_first_output(gain: float, least: float, most: float) -> None:
    torch.manual_seed(0)
    found = Decoder((64,), 512, (64, 64), gain).train()
    with torch.no_grad():
        image = found(torch.rand(4, 64, 4, 2))[0]
    assert least < float(image.abs().mean()) < most
    last = found.last[1]
    wanted = gain * math.sqrt(2 / (16 * 49 + 3 * 49))
    assert float(last.weight.detach().std()) == pytest.approx(wanted, rel=0.1)
    assert float(found.reduce[1].weight.detach().std()) == pytest.approx(0.02, rel=0.2)


FINGERPRINTS = {
    "encoder/map": (1230.55427196, 12230.11296622, 623.40634026, 496.34511341, 0.0),
    "pooled": (1230.55427196, 8782.81067044, 4551.09152651, 4567.96844639, 0.84177430),
    "fc512": (1017.21505252, 8219.26314745, 5087.54461718, 5105.57064448, 2975.30649744),
}

PLAIN = (
    (11146.42241609, 33813.35904832, -1965.49553129, -1794.25915374, -4545.92399279),
    (3341.32277561, 14370.50911272, -1919.92082097, -2070.85031360, 3280.83585224),
    (4982.06057260, 17081.50655106, 541.43268130, 173.67981184, 4761.63741880),
    (5853.33448483, 16487.02836591, 799.86199269, 779.31655343, 58.13643176),
    (7589.79358767, 39562.85961208, 1617.64537022, 1639.07406235, 6786.83554840),
)
SKIPPED = (
    (13717.23608807, 38233.05239881, -2417.42323334, -2606.14105819, -11489.58368386),
    (3821.68375962, 15426.64176080, -2495.93582944, -2723.82821760, 2878.64906566),
    (5753.27331772, 19355.49209281, 623.85723308, 392.35541659, 5825.23138555),
    (6890.45936470, 20173.16010342, 668.26448759, 910.06820870, 1218.10169866),
    (8825.10635251, 49567.14532523, 2002.96656295, 1659.33713745, 10638.44427801),
)


def fingerprint(value: Tensor) -> tuple[float, ...]:
    flat = value.flatten()
    chosen = (flat[0], flat[len(flat) // 2], flat[-1])
    return float(value.abs().mean()), float(value.max()), *(float(x) for x in chosen)


def test_fingerprint_of_the_encoder(maps: Mapping[str, Tensor]) -> None:
    last = maps["encoder/map"]
    pooled = last.mean((2, 3))
    assert fingerprint(last) == pytest.approx(FINGERPRINTS["encoder/map"], abs=6e-9)
    assert fingerprint(pooled) == pytest.approx(FINGERPRINTS["pooled"], abs=6e-9)
    neck = fill(nn.Sequential(nn.Linear(2048, 512), nn.BatchNorm1d(512), nn.ReLU()))
    with torch.inference_mode():
        assert fingerprint(neck(pooled)) == pytest.approx(FINGERPRINTS["fc512"], abs=6e-9)


@pytest.mark.parametrize(("skips", "wanted"), [(False, PLAIN), (True, SKIPPED)])
def test_fingerprint_of_the_decoder(
    maps: Mapping[str, Tensor], skips: bool, wanted: tuple[Any, ...]
) -> None:
    filled = fill(decoder(skips))
    read = MAPS if skips else MAPS[:1]
    with torch.inference_mode():
        found = filled(*(maps[name] for name in read))
    for value, expected in zip(found, wanted, strict=True):
        assert fingerprint(value) == pytest.approx(expected, abs=6e-8)


def test_a_centred_decoder_adds_what_it_is_centred_on() -> None:
    centre = torch.rand(3, 32, 32)
    plain, centred = Decoder((8,), 16, (32, 32)), Decoder((8,), 16, (32, 32), centre=centre)
    centred.load_state_dict(plain.state_dict() | {"centre": centre})
    assert count(plain) == count(centred)
    feature = torch.randn(2, 8, 2, 1)
    with evaluating(plain), evaluating(centred):
        torch.testing.assert_close(centred(feature)[0], plain(feature)[0] + centre)


def test_without_skips_an_empty_last_map_makes_the_texture_constant() -> None:
    torch.manual_seed(0)
    plain, skipped = Decoder((8,), 16, (32, 32)), Decoder((8, 6, 5, 4), 16, (32, 32))
    empty = torch.zeros(2, 8, 2, 1)
    shallower = [torch.randn(2, c, h, h // 2) for c, h in ((6, 2), (5, 4), (4, 8))]
    with evaluating(plain), evaluating(skipped):
        without, with_skips = plain(empty)[0], skipped(empty, *shallower)[0]
    assert torch.equal(without[0], without[1])
    assert not torch.equal(with_skips[0], with_skips[1])


def test_rows_do_not_see_each_other_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    found = decoder(False).double().eval()
    feature = torch.randn(3, 2048, 4, 2, dtype=torch.float64)
    with torch.inference_mode():
        together, alone = found(feature)[0], found(feature[:1])[0]
    assert float((together[:1] - alone).abs().max()) < 1e-15


def test_blocks_halve_their_channels_as_declared() -> None:
    widths = block_widths(512)
    for block, (before, after) in zip(decoder(False).blocks, pairwise(widths), strict=True):
        assert block(torch.zeros(1, before, 2, 2)).shape == (1, after, 4, 4)
