"""What the tests of this distribution share: embedders without training, and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core import Embedder, NoEncoder
from reid_search.gallery.gallery import Gallery
from reid_search.models import OpenModel, open_model

SEARCH_SIZE = (64, 32)


@pytest.fixture(scope="session")
def search_model(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """Return a stored embedder that describes a picture by its mean colour."""
    folder = tmp_path_factory.mktemp("embedder")
    Embedder.from_encoder(NoEncoder(), SEARCH_SIZE).save(folder / "embedder.safetensors")
    return open_model(folder)


@pytest.fixture(scope="session")
def search_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of six pictures, two of them in a folder within it."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "later").mkdir()
    stream = np.random.default_rng(0)
    for number in range(6):
        colour = stream.integers(0, 256, (1, 1, 3))
        noise = stream.integers(0, 40, (70 + number, 40, 3))
        pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
        place = folder / "later" if number > 3 else folder
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.fixture
def search_gallery(tmp_path: Path, search_model: OpenModel, search_photos: Path) -> Gallery:
    """Return a gallery of the six pictures."""
    gallery = Gallery.create(tmp_path / "gallery", search_model)
    paths = sorted(search_photos.rglob("*.png"))
    gallery.add(paths, [{"path": str(path)} for path in paths])
    return gallery
