"""The four heads of figure 2: parameters, sizes, first values, sharing."""

import math

import pytest
import torch
from torch import nn

from reid_partaware.heads import HeadType, SharedHead, build_head
from reid_partaware.losses import class_balanced_cross_entropy

PARAMETERS = {
    2048: {"a": 16_392, "b": 4_721_160, "c": 4_721_160, "d": 5_311_496},
    1280: {"a": 10_248, "b": 2_951_688, "c": 2_951_688, "d": 3_542_024},
    1024: {"a": 8_200, "b": 2_361_864, "c": 2_361_864, "d": 2_952_200},
    512: {"a": 4_104, "b": 1_182_216, "c": 1_182_216, "d": 1_772_552},
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("channels", PARAMETERS)
@pytest.mark.parametrize("kind", ["a", "b", "c", "d"])
def test_parameters_of_a_head_with_eight_classes(channels: int, kind: HeadType) -> None:
    assert count(build_head(kind, channels, 8)) == PARAMETERS[channels][kind]


@pytest.mark.parametrize(("classes", "expected"), [(2, 4_719_618), (3, 4_719_875), (5, 4_720_389)])
def test_parameters_of_type_c_with_fewer_classes(classes: int, expected: int) -> None:
    assert count(build_head("c", 2048, classes)) == expected


@pytest.mark.parametrize("kind", ["a", "b", "c", "d"])
@pytest.mark.parametrize("norm", [True, False])
def test_a_prediction_has_the_size_of_figure_2(kind: HeadType, norm: bool) -> None:
    head = build_head(kind, 4, 8, norm)
    assert any(isinstance(m, nn.BatchNorm2d) for m in head) == (norm and kind != "a")
    for height, width in ((16, 8), (24, 8)):
        logits = head(torch.rand(2, 4, height, width))
        scale = {"a": 1, "b": 1, "c": 2, "d": 4}[kind]
        assert logits.shape == (2, 8, height * scale, width * scale)


def test_the_deconvolution_covers_its_output_unevenly() -> None:
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1, bias=False)
    nn.init.ones_(layer.weight)
    taps = layer(torch.ones(1, 1, 4, 4))[0, 0, 2:4, 2:4]
    assert sorted(taps.flatten().tolist()) == [1, 2, 2, 4]


def test_the_first_loss_is_that_of_an_even_guess() -> None:
    torch.manual_seed(0)
    head = build_head("c", 2048, 8)
    logits = head(torch.rand(2, 2048, 16, 8)).detach()
    labels = torch.randint(0, 8, (2, 32, 16))
    assert float(class_balanced_cross_entropy(logits, labels)) == pytest.approx(
        math.log(8), abs=1e-2
    )


def test_several_maps_share_one_head() -> None:
    head = SharedHead(build_head("c", 16, 8))
    assert count(head) == count(build_head("c", 16, 8))
    maps = [torch.rand(2, 16, 6, 2) for _ in range(3)]
    head.eval()
    for one, logits in zip(maps, head(*maps), strict=True):
        assert torch.equal(logits, head(one)[0])


def test_one_after_the_other_and_as_one_batch_differ_in_their_statistics() -> None:
    torch.manual_seed(0)
    shared = build_head("c", 16, 8)
    nn.init.normal_(shared[0].weight)
    nn.init.normal_(shared[-1].weight)
    maps = [torch.rand(2, 16, 6, 2) * scale for scale in (1, 10, 100)]
    apart, together = SharedHead(shared)(*maps), SharedHead(shared, joint=True)(*maps)
    assert [a.shape for a in apart] == [t.shape for t in together]
    gaps = [float((a - t).detach().abs().max()) for a, t in zip(apart, together, strict=True)]
    assert max(gaps) > 1
