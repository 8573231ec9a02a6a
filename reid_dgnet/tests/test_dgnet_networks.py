"""The networks against the numbers of the authors' modules: counts, shapes, fingerprints."""

import pytest
import torch
from dgnet_fill import figures, fill, numbers
from torch import nn

from reid_core.model.encoder import TimmEncoder
from reid_dgnet.losses import discriminator_loss, generator_loss, gradient_penalty
from reid_dgnet.networks.appearance import EmbeddingLayer, appearance_code
from reid_dgnet.networks.decoder import Decoder, ParameterMlps
from reid_dgnet.networks.discriminator import Discriminator
from reid_dgnet.networks.layers import SampleNorm
from reid_dgnet.networks.structure import StructureEncoder, to_grey

A, B = numbers((2, 3, 256, 128)), numbers((2, 3, 256, 128), 555)


def count(module):
    values = list(module.parameters())
    return sum(v.numel() for v in values), len(values)


def test_networks_have_the_paper_s_parameters():
    structure, decoder, mlps = StructureEncoder(), Decoder(), ParameterMlps(2048)
    assert count(structure) == (380_544, 40)
    assert count(decoder) == (1_455_555, 30)
    assert count(mlps) == (11_544_576, 48)
    assert count(mlps.scales[0])[0] == count(mlps.shifts[3])[0] == 1_443_072
    assert count(nn.ModuleList([structure, decoder, mlps])) == (13_380_675, 118)
    assert count(Discriminator()) == (1_025_571, 84)
    assert count(Discriminator().critics[0])[0] == 341_857


def test_the_appearance_encoder_has_the_paper_s_parameters():
    trunk = TimmEncoder("resnet50", (256, 128), last_stride=1, pretrained=False)
    assert count(trunk) == (23_508_032, 159)
    layers = nn.ModuleList([EmbeddingLayer(2048), EmbeddingLayer(2048)])
    assert count(layers[0])[0] == 1_050_112
    assert count(nn.ModuleList([layers[0], nn.Linear(512, 751)])) == (1_435_375, 6)
    assert count(nn.ModuleList([trunk, layers]))[0] == 25_608_256  # what is deployed


def test_parts_of_the_structure_encoder_have_the_table_s_parameters():
    encoder = StructureEncoder()
    assert [count(layer)[0] for layer in encoder.down] == [160, 4_640, 9_248, 18_496]
    assert count(encoder.blocks)[0] == 295_424
    assert count(encoder.pyramid)[0] + count(encoder.fuse)[0] == 52_576
    assert count(StructureEncoder(aspp=False))[0] < count(encoder)[0]


def test_parts_of_the_decoder_have_the_table_s_parameters():
    decoder = Decoder()
    assert count(decoder.blocks)[0] == 1_180_672
    assert count(decoder.upper[:4])[0] == 204_992
    assert count(decoder.upper[4:])[0] == 51_296
    assert [count(layer)[0] for layer in decoder.last] == [9_248, 0, 9_248, 0, 99]


@pytest.mark.parametrize("width", [1, 4])
def test_small_networks_keep_the_shapes(width):
    image = torch.randn(2, 3, 96, 48)
    structure = StructureEncoder(width, blocks=2)(to_grey(image))
    assert structure.shape == (2, 8 * width, 24, 12)
    scales, shifts = ParameterMlps(16, width, blocks=2)(torch.randn(2, 64))
    assert scales.shape == shifts.shape == (2, 2, 2, 8 * width)
    assert Decoder(width, blocks=2)(structure, scales, shifts).shape == image.shape
    scores = Discriminator(width, blocks=1)(image)
    assert [s.shape[1:] for s in scores] == [(1, 24, 12), (1, 12, 6), (1, 6, 3)]


@pytest.fixture(scope="module")
def structure():
    with torch.no_grad():
        return fill(StructureEncoder())(to_grey(A))


def test_fingerprint_of_the_structure_encoder(structure):
    assert structure.shape == (2, 128, 64, 32)
    assert figures(structure) == pytest.approx(
        [0.79732365, 4.49508778, -0.19542661, -0.40282530, -0.98384843], abs=6e-9
    )


def test_fingerprint_of_the_decoder(structure):
    with torch.no_grad():
        parameters = fill(ParameterMlps(2048))(numbers((2, 8192)))
        images = fill(Decoder())(structure, *parameters)
    assert images.shape == (2, 3, 256, 128)
    assert figures(images) == pytest.approx(
        [0.66428826, 2.85541431, 0.25397384, 1.44450090, 1.78610535], abs=6e-9
    )


def test_fingerprint_of_the_discriminator_and_its_losses():
    network = fill(Discriminator())
    real = A.clone().requires_grad_()
    scores, fake = network(real), network(B)
    assert [tuple(s.shape) for s in scores] == [(2, 1, 64, 32), (2, 1, 32, 16), (2, 1, 16, 8)]
    for found, expected in zip(
        scores,
        (
            [22.96446139, 50.24693091, 19.69669949, 30.23557830, 14.24171750],
            [7.75691738, 17.67981608, 3.70529188, 8.95399303, 3.68379480],
            [3.52757375, 7.08623123, 4.66842148, 5.45012142, 4.22207957],
        ),
        strict=True,
    ):
        assert figures(found) == pytest.approx(expected, abs=6e-9)
    penalty = 0.01 * gradient_penalty(scores, real)
    assert penalty.item() == pytest.approx(37783.24469617, rel=1e-8)
    whole = discriminator_loss(scores, fake, "lsgan") + penalty
    assert whole.item() == pytest.approx(39048.43848860, rel=1e-8)
    assert generator_loss(fake, "lsgan").item() == pytest.approx(1186.88160828, rel=1e-8)


def test_fingerprint_of_the_appearance_encoder():
    encoder = fill(TimmEncoder("resnet50", (256, 128), last_stride=1, pretrained=False))
    layer, classifier = fill(EmbeddingLayer(2048)), fill(nn.Linear(512, 751))
    with torch.no_grad():
        maps = encoder(A)["encoder/map"]
        code, pooled = appearance_code(maps), maps.amax((2, 3))
        embedded = layer(pooled)
        logits = classifier(embedded)
    assert maps.shape == (2, 2048, 16, 8)
    assert torch.equal(code.reshape(2, 2048, 4).amax(2), pooled)
    for found, expected in (
        (code, [2397.57915341, 12230.11296622, 7236.21494153, 6373.70666719, 0.0]),
        (embedded, [4016.64532985, 13990.22328489, 10639.96879105, 10872.71817026, 2658.65156700]),
        (logits, [5762.35319163, 26397.29248533, -7050.90716092, -7467.03685889, 27.65192932]),
    ):
        assert figures(found) == pytest.approx(expected, rel=1e-8, abs=6e-9)


def test_the_structure_code_ignores_colours_order_brightness_and_contrast():
    encoder = fill(StructureEncoder(4))
    image = 3 * A[:, :, :96, :48]  # with the contrast of normalised photographs
    grey = to_grey(image)
    code = encoder(grey)
    swapped = encoder(to_grey(image[:, [2, 1, 0]]))
    assert torch.allclose(swapped, code, atol=1e-12)
    assert torch.allclose(encoder(3 * grey + 0.7), code, atol=1e-4)
    assert code.mean((2, 3)).abs().max() < 1e-9
    assert (code.std((2, 3), correction=0) - 1).abs().max() < 1e-3


def test_the_decoder_treats_every_sample_alone():
    decoder, mlps = fill(Decoder(2, 2)), fill(ParameterMlps(8, 2, 2))
    structure, code = numbers((3, 16, 12, 10)), numbers((3, 32))
    together = decoder(structure, *mlps(code))
    alone = decoder(structure[1:2], *mlps(code[1:2]))
    assert torch.allclose(together[1:2], alone, atol=1e-9)


def test_each_part_of_the_code_drives_one_block():
    mlps = fill(ParameterMlps(16, 1))
    code = numbers((1, 64))
    plain = mlps(code)
    for block in range(4):
        other = code.clone()
        other[:, 16 * block : 16 * block + 16] += 0.5
        for found, before in zip(mlps(other), plain, strict=True):
            moved = (found != before).flatten(2).any(2)[0]
            assert moved.tolist() == [r == block for r in range(4)]


def test_layouts_say_what_a_block_reads():
    maps = numbers((1, 16, 4, 3))
    nudged = maps.clone()
    nudged[0, 15, 0] += 9  # the last channel of the first stripe
    for layout, block in (("channel_group", 3), ("stripe", 0)):
        mlps = fill(ParameterMlps(16, 1, layout=layout))
        before, after = (mlps(appearance_code(m))[0] for m in (maps, nudged))
        moved = (before != after).flatten(2).any(2)[0]
        assert moved.tolist() == [r == block for r in range(4)]


def test_scales_and_shifts_come_from_mlps_of_their_own():
    mlps = ParameterMlps(16, 1)
    scales, shifts = mlps(torch.randn(2, 64))
    assert not torch.equal(scales, shifts)
    nn.init.zeros_(mlps.shifts[2][4].weight)
    again, without = mlps(torch.randn(2, 64))
    assert without[:, 2].abs().max() == 0
    assert again[:, 2].abs().max() > 0


def test_sample_norm_is_not_group_norm():
    maps = numbers((2, 3, 4, 5))
    norm = SampleNorm(3, eps=0.0).double()
    nn.init.ones_(norm.weight)
    ratio = norm(maps) / nn.functional.group_norm(maps, 1, eps=0.0)
    size = 3 * 4 * 5
    assert torch.allclose(ratio, torch.full_like(ratio, ((size - 1) / size) ** 0.5))
    gain = SampleNorm(50).weight
    assert gain.min() >= 0
    assert gain.max() < 1
