"""What an embedder takes, in every form that callers have pictures in, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core import Embedder, make_embedder
from reid_core.errors import ConfigError, DataError
from reid_core.images import crop_image, read_image
from reid_core.model.encoder import TimmEncoder
from reid_core.model.stored import load_embedder
from reid_core.runs.finding import make_embedder as found_as

SIZE = (64, 32)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return make_embedder("test_resnet", SIZE, weights="random", say=lambda line: None)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a picture that is larger than the embedder's size and has no symmetry."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 50, 3), np.uint8)
    pixels[:, :, 0] //= 4
    Image.fromarray(pixels).save(path)
    return path


def test_every_form_of_a_picture_gives_the_same_feature(embedder: Embedder, photo: Path) -> None:
    pixels = read_image(photo)
    expected = embedder.embed(photo)
    assert expected.shape == (1, embedder.dim)
    forms: list[Any] = [str(photo), [photo], Image.open(photo), pixels, pixels[None]]
    for form in forms:
        assert torch.equal(embedder.embed(form), expected)
    assert torch.equal(embedder.embed(pixels[:, :, ::-1], bgr=True), expected)
    assert not torch.equal(embedder.embed(pixels, bgr=True), expected)
    many = embedder.embed((form for form in (str(photo), Image.open(photo), pixels)), batch_size=2)
    assert torch.allclose(many, expected.expand(3, -1), atol=1e-6)


def test_tensors_are_taken_as_they_are(embedder: Embedder) -> None:
    pixels = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    expected = embedder(pixels)
    assert torch.equal(embedder.embed(pixels), expected)
    assert torch.equal(embedder.embed(pixels.float() / 255), expected)
    mixed = embedder.embed([pixels[0], pixels[1].float() / 255])
    assert torch.equal(mixed, expected)
    assert torch.equal(embedder.embed(pixels[0]), embedder(pixels[:1]))
    arrays = embedder.embed(pixels.permute(0, 2, 3, 1).numpy())
    assert torch.equal(arrays, expected)


def test_boxes_are_crops_of_a_frame(embedder: Embedder, photo: Path) -> None:
    pixels = read_image(photo)
    boxes = [[4, 10, 30, 80], [-9.6, 40.4, 20.5, 200]]
    crops = [pixels[10:80, 4:30], pixels[40:, :21]]
    expected = embedder.embed(crops)
    frame = torch.from_numpy(pixels).permute(2, 0, 1)
    for form in (photo, [photo], Image.open(photo), pixels, frame):
        assert torch.equal(embedder.embed(form, boxes), expected)
    assert torch.equal(embedder.embed(pixels[:, :, ::-1], np.array(boxes), bgr=True), expected)
    assert embedder.embed(photo, []).shape == (0, embedder.dim)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([60, 0, 70, 10], r"\(60, 0, 70, 10\) lies outside the image, which is 50 x 90"),
        ([10, 10, 10, 20], "is empty: it is left, top, right, bottom in pixels"),
        ([0.1, 0.1, 0.4, 0.3], "no fraction of the image"),
        ([0, 0, float("nan"), 9], "is not finite"),
    ],
)
def test_boxes_without_a_pixel_are_refused(photo: Path, box: list[float], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        crop_image(read_image(photo), box)


RGB = torch.zeros(3, *SIZE)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.zeros(3, 32, 64), "image 0: this embedder takes .* height and width are swapped"),
        (torch.zeros(2, 3, 80, 40), "not 1 x 3 x 80 x 40: resize them"),
        (torch.zeros(64, 32, 3), "channels come first"),
        ([RGB, RGB + 200], r"image 1: images as floats must be in \[0, 1\], .*divide them by 255"),
        (RGB - 2, "normalised images belong to embed_normalised"),
        (RGB.int() - 5, r"integers must be in \[0, 255\], but these are in \[-5, -5\]"),
        (RGB * float("nan"), r"\[nan, nan\]"),
        (np.zeros((8, 4)), "an array of shape 8 x 4 is no image"),
        (np.zeros((3, 8, 4), np.uint8), "image 0 is an array 3 x 8 x 4.*channels come last"),
        (np.zeros((8, 4, 3)), "image 0 is an array of float64: arrays must be uint8"),
        ([np.zeros((8, 4, 4), np.uint8)], "image 0 is an array 8 x 4 x 4, not H x W x 3"),
        ([7], "image 0 is a int"),
        (7, "a int is no image"),
        (Image.new("F", (4, 8)), "image 0 cannot be read: pixels of mode F"),
        ("nobody.jpg", "nobody.jpg: no such file"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(
    embedder: Embedder, images: Any, reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as refused:
        embedder.embed(images)
    assert "\n" not in str(refused.value)


def test_boxes_need_one_frame_and_four_numbers(embedder: Embedder, photo: Path) -> None:
    with pytest.raises(DataError, match=r"boxes must be K x 4 .*, not 4"):
        embedder.embed(photo, [1, 2, 3, 4])
    with pytest.raises(DataError, match="boxes are not numbers"):
        embedder.embed(photo, [["a", 1, 2, 3]])
    with pytest.raises(DataError, match="boxes lie in one frame, but the images are a list"):
        embedder.embed([photo, photo], [[1, 2, 3, 4]])
    with pytest.raises(DataError, match="must be 3 x H x W of uint8, not 3 x 64 x 32 of float32"):
        embedder.embed(RGB, [[1, 2, 3, 4]])
    with pytest.raises(ConfigError, match="batch_size must be 1 or more"):
        embedder.embed(photo, batch_size=0)


def test_the_call_refuses_what_embed_refuses(embedder: Embedder) -> None:
    for images, reason in (
        (torch.zeros(1, 3, 32, 64), "height and width are swapped"),
        (torch.zeros(1, 64, 32, 3), re.escape("images.permute(0, 3, 1, 2)")),
        (RGB, re.escape("images[None]")),
        (RGB[None] + 255, "divide them by 255"),
    ):
        with pytest.raises(DataError, match=reason):
            embedder(images)


def test_an_embedder_without_training_is_stored_and_loaded(
    embedder: Embedder, photo: Path, tmp_path: Path
) -> None:
    assert found_as is make_embedder
    assert embedder.dim == 96
    assert not embedder.training
    image = torch.linspace(-2, 2, 3 * SIZE[0] * SIZE[1]).view(1, 3, *SIZE)
    pooled = embedder.encoder(image)["encoder/map"].mean((2, 3))
    assert pooled.norm() > 0
    unit = embedder.embed_normalised(image)
    assert torch.allclose(unit, pooled / pooled.norm(), atol=1e-6)
    embedder.save(tmp_path / "embedder.safetensors")
    loaded = load_embedder(tmp_path)
    assert torch.equal(loaded.embed(photo), embedder.embed(photo))
    assert loaded.fingerprint() == embedder.fingerprint()


def test_the_fingerprint_sees_weights_and_preprocessing(embedder: Embedder) -> None:
    same = make_embedder("test_resnet", SIZE, weights="random", say=lambda line: None)
    assert same.fingerprint() == embedder.fingerprint()
    other = make_embedder("test_resnet", SIZE, weights="random", seed=1, say=lambda line: None)
    largest = Embedder.from_encoder(same.encoder, SIZE, pooling="max")
    smaller = Embedder.from_encoder(same.encoder, (32, 32))
    prints = {e.fingerprint() for e in (embedder, other, largest, smaller)}
    assert len(prints) == 4


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    trunk = TimmEncoder("test_resnet", SIZE).trunk
    torch.save(trunk.state_dict(), tmp_path / "weights.pth")
    made = make_embedder("test_resnet", SIZE, weights=tmp_path / "weights.pth")
    found = made.encoder.trunk.state_dict()
    assert all(torch.equal(found[name], value) for name, value in trunk.state_dict().items())
    with pytest.raises(ConfigError, match=r"gone\.pth"):
        make_embedder("test_resnet", SIZE, weights="gone.pth")
    with pytest.raises(ConfigError, match="there is no encoder 'test_resnett'"):
        make_embedder("test_resnett", SIZE, weights="random")
