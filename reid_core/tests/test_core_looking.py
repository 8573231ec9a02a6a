"""Samples as evaluation sees them, back as pictures, and many of those in one file."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core import (
    clean_batches,
    evenly,
    image_sheet,
    normalise,
    on_first_use,
    open_dataset,
    pixels_of,
    unit_images,
)
from reid_core.images import read_image, resize_image


def test_some_things_are_spread_from_the_first_to_the_last() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly("abc", 1) == ["a"]
    assert evenly("abc", 5) == ["a", "b", "c"]
    assert evenly([], 5) == []


def test_samples_come_in_order_as_evaluation_sees_them(reid_cache: Path) -> None:
    samples = open_dataset("toy:tiny", cache=reid_cache).query[:5]
    batches = list(clean_batches(samples, (32, 16), torch.device("cpu"), batch_size=3))
    assert [len(batch) for batch in batches] == [3, 2]
    shown = torch.cat([pixels_of(batch.image) for batch in batches]).numpy()
    for sample, pixels in zip(samples, shown, strict=True):
        assert np.array_equal(pixels, resize_image(read_image(sample.path), (32, 16)))
    assert list(clean_batches([], (32, 16), torch.device("cpu"))) == []


def test_fields_come_along_where_they_are_asked_for(reid_cache: Path) -> None:
    train = open_dataset("toy:tiny", cache=reid_cache).train
    specs = {"parts": train.fields["parts"]}
    (batch,) = clean_batches(train.samples[:2], (32, 16), torch.device("cpu"), fields=specs)
    assert batch.fields["parts"].shape == (2, 32, 16)


def test_normalised_images_become_pictures_again() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(2, 3, 1, 256).contiguous()
    images = normalise(pixels)
    assert torch.equal(images, normalise(pixels.float() / 255)), "floats are in 0 .. 1 already"
    assert torch.equal(pixels_of(images), pixels.permute(0, 2, 3, 1))
    assert unit_images(images).flatten()[255].item() == pytest.approx(1)
    assert unit_images(images - 9).max() == 0
    assert unit_images(images + 9).min() == 1


def test_a_picture_has_rows_of_pictures(tmp_path: Path) -> None:
    small, large = np.zeros((2, 3, 3), np.uint8), np.full((4, 5, 3), 7, np.uint8)
    path = image_sheet([[small, large], [large], [small, small]], tmp_path / "a" / "sheet.png", 1)
    with Image.open(path) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (4 + 1 + 4 + 1 + 2, 5 + 1 + 5, 3)
    assert np.array_equal(sheet[:4, 6:], large)
    assert np.array_equal(sheet[5:9, :5], large)
    assert np.array_equal(sheet[10:, 6:9], small)
    assert (sheet[2:4, :6] == 255).all()
    assert (sheet[4] == 255).all()


def test_a_package_imports_what_it_offers_on_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lazily"
    package.mkdir()
    lines = (
        "from reid_core import on_first_use",
        "__getattr__ = on_first_use(__name__, Thing='things')",
    )
    (package / "__init__.py").write_text("\n".join(lines))
    (package / "things.py").write_text("class Thing: pass")
    monkeypatch.syspath_prepend(tmp_path)
    lazily = import_module("lazily")
    assert "lazily.things" not in sys.modules
    assert lazily.Thing.__name__ == "Thing"
    with pytest.raises(AttributeError, match="module 'lazily' has no attribute 'other'"):
        _ = lazily.other
    assert on_first_use("reid_core", evenly="data.looking")("evenly") is evenly
