"""Templates: whose clothes people are put into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core import ConfigError, DataError, Sample, Source, evenly
from reid_core.data.decoding import read_field
from reid_core.data.geometry import Geometry, transform_image, transform_labels
from reid_core.data.label_store import content_hash
from reid_core.images import read_image
from reid_unsup_cc.dressing import CLOTHING

GARMENTS = "garments"

_CANDIDATES = 512
"""Images, evenly spread, among which distinct outfits are looked for."""

_LEAST_SHARE = 0.02
"""Share of the image that upper and lower clothing must each cover to be a template."""


@dataclass(frozen=True)
class Picture:
    """An image with its garment map.

    Args:
        image: uint8 ``3 H W``.
        garments: uint8 ``H W``.
    """

    image: NDArray[np.uint8]
    garments: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[1], self.image.shape[2]

    def resized(self, size: tuple[int, int]) -> Picture:
        """Return it in another size; labels nearest-exact."""
        if size == self.size:
            return self
        geometry, image = Geometry.plain(size), np.empty((3, *size), np.uint8)
        transform_image(self.image, geometry, image)
        return Picture(image, transform_labels(self.garments, geometry))


def read_picture(source: Source, sample: Sample) -> Picture:
    """Read an image and its garment map, brought to the image's size.

    Raises:
        DataError: one of them cannot be read.
    """
    image = np.ascontiguousarray(read_image(sample.path).transpose(2, 0, 1))
    garments = read_field(sample.fields[GARMENTS], source.fields[GARMENTS])
    if garments.shape != image.shape[1:]:
        garments = transform_labels(garments, Geometry.plain((image.shape[1], image.shape[2])))
    return Picture(image, garments)


def stacked(pictures: Sequence[Picture]) -> tuple[Tensor, Tensor]:
    """Return pictures of one size as a dresser takes them: float ``B 3 H W``, int64 ``B H W``."""
    images = torch.from_numpy(np.stack([p.image for p in pictures])).float() / 255
    return images, torch.from_numpy(np.stack([p.garments for p in pictures])).long()


class TemplatePool:
    """Choose templates among the images of a source.

    Args:
        source: with garment maps.
        section: how the settings of the synthesis are called, for messages.

    Raises:
        DataError: the source has none.
    """

    def __init__(self, source: Source, section: str = "unsup_cc.synthesis") -> None:
        if GARMENTS not in source.fields:
            carried = ", ".join(sorted(source.fields)) or "no field"
            raise DataError(
                f"templates from '{source.name}' need the field '{GARMENTS}', and it carries "
                f"{carried}; name other data with -s {section}.template_data=NAME"
            )
        self.source, self._section = source, section

    def pictures(self, rows: Sequence[int]) -> list[Picture]:
        """Return the pictures of some rows."""
        return [read_picture(self.source, self.source.samples[row]) for row in rows]

    def distinct(self, count: int) -> list[int]:
        """Return rows of clearly different outfits, always the same ones.

        Each is the one whose mean colours of upper and lower clothing (Lab) are furthest from those
        of all before it; the first is furthest from the mean of all. So they are unusual ones.

        Raises:
            DataError: fewer than ``count`` images show upper and lower clothing.
        """
        rows, points = self._coloured(count)
        return [rows[place] for place in _furthest(points, count)]

    def typical(self, count: int) -> list[int]:
        """Return rows of usual outfits, always the same ones.

        Colours of upper and lower clothing are divided into ``count`` groups (k-means from the
        distinct ones); each row is the one nearest to a group's mean.

        Raises:
            DataError: fewer than ``count`` images show upper and lower clothing.
        """
        from scipy.cluster.vq import kmeans2

        rows, points = self._coloured(count)
        centres, _ = kmeans2(points, points[_furthest(points, count)], minit="matrix")
        distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
        chosen: list[int] = []
        for column in distances.T:
            free = np.where(np.isin(np.arange(len(rows)), chosen), np.inf, column)
            chosen.append(int(free.argmin()))
        return [rows[place] for place in chosen]

    def _coloured(self, count: int) -> tuple[list[int], NDArray[np.float32]]:
        """Return rows that show clothing, and its colours; see `clothing_colours`."""
        samples = self.source.samples
        spread = evenly(range(len(samples)), _CANDIDATES)
        rows, colours = [], []
        for row in spread:
            found = clothing_colours(read_picture(self.source, samples[row]))
            if found is not None:
                rows.append(row)
                colours.append(found)
        if len(rows) < count:
            raise DataError(
                f"{count} templates are wanted and {len(rows)} of {len(spread)} images of "
                f"'{self.source.name}' show both upper and lower clothing; check its garment maps, "
                f"or set fewer with -s {self._section}.outfits=N"
            )
        return rows, np.stack(colours)

    def chosen(self, templates: str, count: int) -> list[int] | None:
        """Return the rows that all images share (``fixed`` or ``typical``); None for ``random``."""
        if templates == "random":
            return None
        return self.typical(count) if templates == "typical" else self.distinct(count)

    def drawn_for(self, sample: Sample, count: int) -> list[int]:
        """Return rows drawn for one image by its content: the same ones in every run, never itself.

        Raises:
            ConfigError: there are not enough other images.
        """
        digest = content_hash(sample.path)
        rng = np.random.default_rng(int(digest[:16], 16))
        wanted = min(count + 1, len(self.source))
        rows = rng.choice(len(self.source), wanted, replace=False).tolist()
        others = [r for r in rows if content_hash(self.source.samples[r].path) != digest]
        if len(others) < count:
            raise ConfigError(
                f"{count} templates for each image cannot be drawn from {len(self.source)} images "
                f"of '{self.source.name}'; set fewer with -s {self._section}.outfits=N"
            )
        return others[:count]


def _furthest(points: NDArray[np.float32], count: int) -> list[int]:
    """Return rows of points, each the furthest from those before it."""
    distance = np.linalg.norm(points - points.mean(0), axis=1)
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(distance.argmax()))
        further = np.linalg.norm(points - points[chosen[-1]], axis=1)
        distance = further if len(chosen) == 1 else np.minimum(distance, further)
    return chosen


def clothing_colours(picture: Picture) -> NDArray[np.float32] | None:
    """Return mean Lab colours of upper and lower clothing, 6 numbers; None where one is missing."""
    from kornia.color import rgb_to_lab

    least = _LEAST_SHARE * picture.garments.size
    masks = [torch.from_numpy(picture.garments == kind) for kind in CLOTHING[:2]]
    if any(mask.sum() < least for mask in masks):
        return None
    lab = rgb_to_lab(torch.from_numpy(picture.image)[None].float() / 255)[0]
    return torch.cat([lab[:, mask].mean(1) for mask in masks]).numpy().astype(np.float32)
