from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from reid_core.contract.samples import Sample
from reid_core.errors import ConfigError, DataError
from reid_parsing import LABEL_SETS, BodyParser, LabelMaps, Parser, ParserOutputs, parse
from reid_parsing.joints import JointArrays


class Brightness(Parser):
    """Say class ``ceil(x)`` where the red channel is about x; at half the resolution."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes
        self.offsets = torch.nn.Parameter(torch.zeros(classes))

    def outputs(self, image):
        red = torch.nn.functional.avg_pool2d(image[:, :1], 2)
        centres = torch.arange(self.classes).view(1, -1, 1, 1)
        return ParserOutputs(-(red - centres).square() + self.offsets.view(1, -1, 1, 1))


class LeftBlind(Parser):
    """Know the right half of an image only: a shoe, left or right by its side."""

    def __init__(self):
        super().__init__()
        self.classes = 18
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def outputs(self, image):
        logits = image.new_zeros(len(image), 18, *image.shape[2:])
        half = image.shape[3] // 2
        logits[:, 0, :, :half] = 1.0
        logits[:, LABEL_SETS["atr"].classes.index("right shoe"), :, half:] = 4.0
        return ParserOutputs(logits)


class OneJoint(torch.nn.Module):
    """Find every joint at one place."""

    def forward(self, image):
        heat = image.new_zeros(len(image), 17, 16, 8)
        heat[:, :, 12, 2] = 5.0
        return heat


def write_images(folder: Path, sizes):
    samples = []
    for number, (height, width) in enumerate(sizes):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, -1, 0))
    return samples


def test_mirrored_logits_are_averaged_with_left_and_right_swapped():
    parser = BodyParser("schp", LeftBlind(), LABEL_SETS["atr"], (2, 4))
    images = torch.zeros(1, 3, 2, 4)
    names = LABEL_SETS["atr"].classes
    alone = parse(parser, images, mirror=False)[0, 0].tolist()
    assert [names[label] for label in alone] == ["background"] * 2 + ["right shoe"] * 2
    # The mirror image shows a right shoe on the right, which is a left shoe on the left.
    both = parse(parser, images)[0, 0].tolist()
    assert [names[label] for label in both] == ["left shoe"] * 2 + ["right shoe"] * 2


def test_parsing_leaves_the_network_as_it_was():
    network = Brightness(8).train()
    network.norm = torch.nn.BatchNorm2d(3)
    network.outputs = lambda image: Brightness.outputs(network, network.norm(image))
    parse(BodyParser("light", network, LABEL_SETS["parts"], (4, 4)), torch.ones(1, 3, 4, 4))
    assert network.training
    assert not network.norm.running_mean.any(), "statistics move in training alone"


def test_labels_have_each_image_s_own_size_and_order(tmp_path):
    sizes = [(40, 17), (31, 64), (8, 8), (9, 50), (33, 20)]
    samples = write_images(tmp_path, sizes)
    parser = BodyParser("light", Brightness(8), LABEL_SETS["parts"], (16, 8))
    maps = LabelMaps(parser, samples, "parts", torch.device("cpu"), batch_size=2)
    found = list(maps)
    assert len(maps) == 5
    assert [labels.shape for labels in found] == sizes
    assert all(labels.dtype == np.uint8 for labels in found)
    assert (maps[3] == found[3]).all()
    assert (maps[-1] == found[-1]).all()
    assert list(LabelMaps(parser, [], "parts", torch.device("cpu"))) == []


def test_labels_lie_as_the_image_is_decoded(tmp_path):
    """A camera held on its side stores the image lying, and a tag that says how to turn it."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 10, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    samples = []
    for suffix in ("png", "jpg", "tif"):
        path = tmp_path / f"lying.{suffix}"
        Image.fromarray(np.rot90(pixels).copy()).save(path, exif=turned)
        samples.append(Sample(path, -1, 0))
    samples += write_images(tmp_path, [(24, 10)])
    parser = BodyParser("light", Brightness(8), LABEL_SETS["parts"], (16, 8))
    maps = list(LabelMaps(parser, samples, "parts", torch.device("cpu")))
    assert [labels.shape for labels in maps] == [(24, 10)] * 4
    joints = JointArrays(
        OneJoint(), (16, 8), samples, torch.device("cpu"), mirror=False, autocast=nullcontext
    )
    assert np.allclose(list(joints), joints[3]), "where it is does not depend on how it is stored"


def test_classes_are_looked_up(tmp_path):
    samples = write_images(tmp_path, [(4, 8)])
    parser = BodyParser("schp", LeftBlind(), LABEL_SETS["atr"], (4, 8))
    cpu = torch.device("cpu")
    parts, garments = (LabelMaps(parser, samples, f, cpu)[0] for f in ("parts", "garments"))
    assert set(parts.ravel().tolist()) == set(garments.ravel().tolist()) == {7}
    pascal = BodyParser("schp", Brightness(7), LABEL_SETS["pascal"], (4, 8))
    with pytest.raises(ConfigError, match="say nothing about 'garments'"):
        LabelMaps(pascal, samples, "garments", cpu)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 90), st.integers(3, 60))
def test_no_class_is_gained_by_resizing(tmp_path_factory, seed, height, width):
    folder = tmp_path_factory.mktemp("sizes")
    samples = write_images(folder, [(height, width)])
    torch.manual_seed(seed)
    network = Brightness(8)
    torch.nn.init.normal_(network.offsets)
    parser = BodyParser("light", network, LABEL_SETS["parts"], (16, 8))
    cpu = torch.device("cpu")
    small = LabelMaps(parser, samples, "parts", cpu, size_of=lambda sample: (16, 8))[0]
    whole = LabelMaps(parser, samples, "parts", cpu)[0]
    assert whole.shape == (height, width)
    assert set(whole.ravel().tolist()) <= set(small.ravel().tolist())


def test_a_missing_image_is_named(tmp_path):
    samples = [Sample(tmp_path / "gone.png", -1, 0)]
    parser = BodyParser("light", Brightness(8), LABEL_SETS["parts"], (16, 8))
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        list(LabelMaps(parser, samples, "parts", torch.device("cpu")))
