"""Backgrounds, told from people by garment maps: greyed before clustering, replaced in synthesis.

What stands behind people is the same for all who pass a camera, and clusters of untrained features
are clusters of cameras. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reid_core.contract.batches import IMAGENET_MEAN
from reid_core.contract.fields import GARMENT_CLASSES
from reid_unsup_cc.dressing import Dresser
from reid_unsup_cc.settings import Background
from reid_unsup_cc.templates import GARMENTS

BACKGROUND = GARMENT_CLASSES.index("background")


def greyed(images: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
    """Return normalised images ``B 3 H W`` whose background is ImageNet's mean colour, which is 0.

    Args:
        images: ImageNet-normalised.
        fields: with ``garments``, ``B H W``.
    """
    return images * (fields[GARMENTS] != BACKGROUND)[:, None]


class Relocated:
    """Dress people by another dresser, and put them before another background; see `Dresser`.

    Args:
        dresser: what dresses them.
        background: ``grey`` is ImageNet's mean colour, ``swap`` the template's background; where
            its person stands, the mean colour of that row of it.
    """

    def __init__(self, dresser: Dresser, background: Background) -> None:
        self.dresser, self.background = dresser, background

    def __call__(
        self, images: Tensor, garments: Tensor, template_images: Tensor, template_garments: Tensor
    ) -> Tensor:
        """Return the people of ``images`` in other clothes, elsewhere; see `Dresser.__call__`."""
        made = self.dresser(images, garments, template_images, template_garments)
        if self.background == "keep":
            return made
        scene = (
            made.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
            if self.background == "grey"
            else emptied(template_images, template_garments)
        )
        return torch.where((garments == BACKGROUND)[:, None], scene, made)


def emptied(images: Tensor, garments: Tensor) -> Tensor:
    """Return pictures without their people: their places take the mean colour of the row's rest.

    Args:
        images: float ``B 3 H W``.
        garments: int64 ``B H W``. A row without background takes the mean of all background.
    """
    empty = (garments == BACKGROUND)[:, None].to(images.dtype)
    rest = images * empty
    whole = rest.sum((2, 3), keepdim=True) / empty.sum((2, 3), keepdim=True).clamp(min=1)
    found = empty.sum(3, keepdim=True)
    rows = torch.where(found > 0, rest.sum(3, keepdim=True) / found.clamp(min=1), whole)
    return torch.where(empty > 0, images, rows)
