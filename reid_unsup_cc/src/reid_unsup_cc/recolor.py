"""`recolor`: a template's clothing on a person by transfer of colour and texture, no network.

Every clothing region of the person takes the colours of the template's region of the same class in
CIE Lab. The template's pattern comes along: what a row of the person's region shows is read from
the row at the same relative height of the template's region, stretched to its width. What stays of
the person is the smooth part of the luminance, which is mostly light and shade.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import full_precision
from reid_unsup_cc.dressing import CLOTHING

_LEAST = 8
"""Pixels below which a region of a template says nothing about clothes."""

_SMOOTH = 8
"""The window of what counts as smooth is this share of the image's height."""


class Recolor:
    """Dress people by transfer of colour and texture between garment regions; see `Dresser`.

    Args:
        texture: how much of the template's pattern comes along, 0 (its mean colour) to 1.
        shading: how much of the person's light and shade replaces the template's, 0 to 1.
    """

    def __init__(self, texture: float = 1.0, shading: float = 0.7) -> None:
        self.texture, self.shading = texture, shading

    def __call__(
        self, images: Tensor, garments: Tensor, template_images: Tensor, template_garments: Tensor
    ) -> Tensor:
        """Return the people of ``images`` in the templates' clothing; see `Dresser.__call__`."""
        from kornia.color import lab_to_rgb, rgb_to_lab

        with full_precision(images):
            own, other = rgb_to_lab(images.float()), rgb_to_lab(template_images.float())
            dressed, changed = own, torch.zeros_like(garments, dtype=torch.bool)
            for kind in CLOTHING:
                here, there = garments == kind, template_garments == kind
                # Decided per row without asking how many: nothing waits for the device.
                worn = (there.sum((1, 2)) >= _LEAST)[:, None, None] & here
                new = self._worn(own, here, other, there)
                dressed = torch.where(worn[:, None], new, dressed)
                changed = changed | worn
            # Pixels outside do not go through Lab and back.
            return torch.where(changed[:, None], lab_to_rgb(dressed).clamp(0, 1), images.float())

    def _worn(self, own: Tensor, here: Tensor, other: Tensor, there: Tensor) -> Tensor:
        """Return what a region looks like in the template's clothing, Lab ``B 3 H W``."""
        mean = _means(other, there)
        seen = _stretched(other, there, here, mean)
        worn = mean + self.texture * (seen - mean)
        light = _smooth(own[:, :1], here) - _means(own[:, :1], here)
        known = _smooth(worn[:, :1], here) - _means(worn[:, :1], here)
        shaded = worn[:, :1] + self.shading * (light - known)
        return torch.cat([shaded.clamp(0, 100), worn[:, 1:]], 1)


def _means(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of every channel over a region, ``B C 1 1``; 0 without a region."""
    weight = mask[:, None].to(values.dtype)
    return (values * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(
        min=1
    )


def _smooth(values: Tensor, mask: Tensor) -> Tensor:
    """Return values averaged over a window, of the region alone."""
    side = 2 * (values.shape[2] // (2 * _SMOOTH)) + 1
    weight = mask[:, None].to(values.dtype)
    both = torch.cat([values * weight, weight], 1)
    # Down the columns, then along the rows: the whole window at once costs ten times as much.
    both = F.avg_pool2d(both, (side, 1), stride=1, padding=(side // 2, 0))
    both = F.avg_pool2d(both, (1, side), stride=1, padding=(0, side // 2))
    return both[:, :-1] / both[:, -1:].clamp(min=1e-6)


def _stretched(values: Tensor, there: Tensor, here: Tensor, filling: Tensor) -> Tensor:
    """Return a region's values stretched over another region, row by row.

    Args:
        values: ``B C H W``.
        there: bool ``B H W``, the region in ``values``.
        here: bool ``B H W``, the region to cover.
        filling: ``B C 1 1``, what is seen where ``there`` has a gap.
    """
    height, width = here.shape[1:]
    top, bottom = _ends(here.any(2))
    top_there, bottom_there = _ends(there.any(2))
    rows = torch.arange(height, device=here.device, dtype=values.dtype)
    row = _carried(rows[None], top, bottom, top_there, bottom_there)
    nearest = row.round().long().clamp(0, height - 1)
    left, right = _ends(here)
    left_there, right_there = (ends.gather(1, nearest) for ends in _ends(there))
    columns = torch.arange(width, device=here.device, dtype=values.dtype)
    column = _carried(columns[None, None], left, right, left_there, right_there)
    grid = torch.stack(
        [
            column * 2 / max(width - 1, 1) - 1,
            row[:, :, None].expand_as(column) * 2 / max(height - 1, 1) - 1,
        ],
        -1,
    )
    weight = there[:, None].to(values.dtype)
    both = F.grid_sample(torch.cat([values * weight, weight], 1), grid, align_corners=True)
    seen, share = both[:, :-1], both[:, -1:]
    return seen + (1 - share) * filling


def _carried(places: Tensor, low: Tensor, high: Tensor, to_low: Tensor, to_high: Tensor) -> Tensor:
    """Return where places between two ends lie between two others."""
    share = (places - low[..., None]) / (high - low).clamp(min=1)[..., None]
    return to_low[..., None] + share * (to_high - to_low)[..., None]


def _ends(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and last place of ``True`` along the last axis; both ends without any."""
    length = mask.shape[-1]
    first = mask.to(torch.uint8).argmax(-1)
    last = length - 1 - mask.flip(-1).to(torch.uint8).argmax(-1)
    return first, last
