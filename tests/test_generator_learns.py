"""DG-Net's generative module learns: from 120 steps on, codes mean something."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reid_core import open_dataset
from reid_core.model.encoder import TimmEncoder
from reid_dgnet.composing import Generator
from reid_dgnet.generating import Composer
from reid_dgnet.losses import reconstruction
from reid_dgnet.networks.decoder import Decoder, ParameterMlps
from reid_dgnet.networks.structure import StructureEncoder

STEPS = 120
SIZE = (80, 40)


@pytest.fixture(scope="module")
def trained(reid_cache: Path) -> tuple[Composer, Tensor]:
    """Train a quarter of the paper's width to reconstruct people; the adversary is off."""
    people = open_dataset("synthpeople:tiny", cache=reid_cache).train.samples
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = TimmEncoder("test_resnet", SIZE, last_stride=1, pretrained=False).eval()
        channels = encoder.taps[-1].channels
        generator = Generator(StructureEncoder(4, 2), Decoder(4, 2), ParameterMlps(channels, 4, 2))
        composer = Composer(encoder, generator, people, SIZE, torch.device("cpu"))
        images = composer.read(people)
        appearance, _ = composer.codes(images)
        parts = (generator.structure, generator.decoder, generator.parameters)
        parameters = [p for part in parts for p in part.parameters()]
        adam = torch.optim.Adam(parameters, 2e-3, (0.0, 0.999), weight_decay=5e-4)
        for _ in range(STEPS):
            rows = torch.randint(len(images), (4,))
            made = generator.compose(generator.encode(images[rows]), appearance[rows])
            adam.zero_grad()
            reconstruction(made, images[rows]).backward()
            adam.step()
    return composer, images


def test_it_reconstructs_far_better_than_the_mean_image(trained: tuple[Composer, Tensor]) -> None:
    composer, images = trained
    appearance, structure = composer.codes(images)
    error = (composer.compose(structure, appearance) - images).abs().mean()
    by_mean = (images - images.mean(0)).abs().mean()
    assert error < 0.55 * by_mean


def test_swapped_codes_change_the_image(trained: tuple[Composer, Tensor]) -> None:
    composer, images = trained
    appearance, structure = composer.codes(images)
    own = composer.compose(structure, appearance)
    swapped = composer.compose(structure, appearance.roll(len(images) // 2, 0))
    moved = composer.compose(structure.roll(len(images) // 2, 0), appearance)
    assert (swapped - own).abs().mean() > 0.08
    assert (moved - own).abs().mean() > (swapped - own).abs().mean()
