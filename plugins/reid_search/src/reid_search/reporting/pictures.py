"""Pictures within a page: small JPEGs as text, and never more than the page may hold."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_core.images import read_image

PERSON = (64, 128)
"""Width and height of a person's image in pixels."""

_DRAWN = 900
"""Longest side of what a plugin drew."""

_QUALITY = 72


class Album:
    """Turn images into ``data:`` addresses until the page is full.

    Args:
        limit: bytes of text that all images together may take.

    Attributes:
        left: bytes that are left.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit
        self._known: dict[Path, str] = {}

    def has_room(self, images: int) -> bool:
        """Return whether some more persons' images will fit, by what those so far took."""
        typical = max(map(len, self._known.values()), default=4000)
        return self.left > images * typical

    def person(self, path: Path) -> str:
        """Return a person's image.

        Raises:
            DataError: it cannot be read.
        """
        if path not in self._known:
            self._known[path] = encoded(_read(path).resize(PERSON, Image.Resampling.BILINEAR))
        text = self._known[path]
        self.left -= len(text)
        return text

    def heated(self, path: Path, heat: NDArray[np.float32]) -> str:
        """Return a person's image under a heat map ``h w`` in 0 .. 1, dark where it is 0."""
        image = _read(path).resize(PERSON, Image.Resampling.BILINEAR)
        shades = Image.fromarray((heat * 255).round().astype(np.uint8))
        light = np.asarray(shades.resize(PERSON, Image.Resampling.BICUBIC), np.float32) / 255
        # Brightness alone tells where: it can be read in grey, and the image stays seen.
        pixels = np.asarray(image, np.float32) * (0.35 + 0.65 * light[..., None])
        text = encoded(Image.fromarray(pixels.round().astype(np.uint8)))
        self.left -= len(text)
        return text

    def drawn(self, path: Path) -> str | None:
        """Return a picture of any size, made smaller; None where there is no room for it."""
        image = _read(path)
        image.thumbnail((_DRAWN, _DRAWN))
        text = encoded(image)
        if len(text) > self.left:
            return None
        self.left -= len(text)
        return text


def encoded(image: Image.Image) -> str:
    """Return an image as the address of a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _read(path: Path) -> Image.Image:
    return Image.fromarray(read_image(path))
